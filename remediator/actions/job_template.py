"""The template of a Job, as a file beside a playbook has it.

In: a YAML document and the names that its ``${...}`` may hold. Out: its data, with Templates in it. Refused, with line and column: what is
no batch/v1 Job, what remediator itself says of a Job (its namespace, who owns it), and what would make its end one that nobody sees. What
else a Job may be the API server judges. The command line of a container is left as it is: a shell has a ``${...}`` of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.document import Document, Loc, describe, suggest
from remediator.errors import DocumentError
from remediator.playbook import TemplateCompiler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remediator.errors import Problem

__all__ = ["OWN", "read_template"]

OWN = "remediator.dev/"
"""Prefix of the labels and annotations that are ours to set."""
_SHORTEST_TTL = 300
_TOP = ("apiVersion", "kind", "metadata", "spec")
_METADATA = ("name", "labels", "annotations")
_NOT_YOURS = {
    "selector": "is made by Kubernetes",
    "manualSelector": "is made by Kubernetes",
    "suspend": "would keep the Job from ever running",
    "managedBy": "would leave the Job to a controller that is not Kubernetes' own",
}
_NUMBERS = {"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": _SHORTEST_TTL, "backoffLimit": 0}
"""Fields of a Job's spec that say when it is over, and the least that they may say."""
_COMMANDS = frozenset({"command", "args"})


def read_template(document: Document, variables: Mapping[str, str]) -> dict[str, Any]:
    """See the module. Raises DocumentError with every problem."""
    problems = [document.problem(loc, words) for loc, words in _faults(document.data)]
    compiler = TemplateCompiler(variables, spared=_COMMANDS)
    compiled = compiler.compile(document.data, ())
    problems += [document.problem(loc, words, offset=offset) for loc, offset, words in compiler.faults]
    if problems:
        raise DocumentError(sorted(problems, key=_place))
    found: dict[str, Any] = compiled
    return found


def _place(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column


def _faults(data: Any) -> Iterator[tuple[Loc, str]]:
    if not isinstance(data, dict):
        yield (), f"must be a Job, not {describe(data)}"
        return
    for key, wanted in (("apiVersion", "batch/v1"), ("kind", "Job")):
        if data.get(key) != wanted:
            yield ((key,) if key in data else ()), f'must be a batch/v1 Job: {key} is {describe(data.get(key))}, not "{wanted}"'
    for key in data.keys() - set(_TOP):
        yield (key,), f'unknown key "{key}" of a Job{suggest(key, _TOP)}'
    yield from _metadata_faults(data.get("metadata", {}), ("metadata",), _METADATA)
    spec = data.get("spec")
    if not isinstance(spec, dict):
        yield (("spec",) if "spec" in data else ()), "spec must be a mapping with a template"
        return
    yield from _spec_faults(spec)


def _metadata_faults(metadata: Any, at: Loc, known: tuple[str, ...]) -> Iterator[tuple[Loc, str]]:
    if not isinstance(metadata, dict):
        yield at, f"must be a mapping, not {describe(metadata)}"
        return
    for key, value in metadata.items():
        if key == "namespace":
            yield (*at, key), "stands in the playbook's step, not here"
        elif key not in known:
            yield (*at, key), f'"{key}" is not for a template to say; known are {", ".join(known)}'
        elif key == "name":
            continue  # for people and for kubectl; each run gives a name of its own
        elif not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            yield (*at, key), "must be a mapping of strings"
        else:
            yield from (((*at, key, label), f"{OWN} is kept for remediator itself") for label in value if label.startswith(OWN))


def _spec_faults(spec: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
    for key, why in _NOT_YOURS.items():
        if key in spec:
            yield ("spec", key), why
    for key, least in _NUMBERS.items():
        value = spec.get(key)
        if key in spec and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            yield ("spec", key), f"must be a whole number of at least {least}, not {describe(value)}"
    template = spec.get("template")
    if not isinstance(template, dict):
        yield (("spec", "template") if "template" in spec else ("spec",)), "template must be a mapping with a pod's spec"
        return
    yield from _metadata_faults(template.get("metadata", {}), ("spec", "template", "metadata"), _METADATA[1:])
    pod = template.get("spec")
    at: Loc = ("spec", "template", "spec")
    if not isinstance(pod, dict):
        yield (at if "spec" in template else at[:-1]), "spec must be a mapping with containers"
        return
    if pod.get("restartPolicy", "Never") not in ("Never", "OnFailure"):
        yield (*at, "restartPolicy"), f"must be Never or OnFailure in a Job, not {describe(pod['restartPolicy'])}"
    yield from _container_faults(pod, at)


def _container_faults(pod: dict[str, Any], at: Loc) -> Iterator[tuple[Loc, str]]:
    for key in ("initContainers", "containers"):
        containers = pod.get(key, [] if key == "initContainers" else None)
        if not isinstance(containers, list) or (key == "containers" and not containers):
            yield ((*at, key) if key in pod else at), f"{key} must be a list with at least one container"
            continue
        for number, container in enumerate(containers):
            here = (*at, key, number)
            if not isinstance(container, dict):
                yield here, f"must be a container, not {describe(container)}"
                continue
            for field in ("name", "image"):
                if not isinstance(container.get(field), str) or not container[field]:
                    yield (
                        ((*here, field) if field in container else here),
                        f"a container needs {'a name' if field == 'name' else 'an image'}",
                    )
            if not isinstance(container.get("env", []), list):
                yield (*here, "env"), f"must be a list, not {describe(container['env'])}"
