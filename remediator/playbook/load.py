"""From one YAML document to one Playbook, or to every problem with it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from remediator.document import MAX_SIZE, Document, describe, problems_of, read_documents, suggest
from remediator.errors import DocumentError, Problem, Unreadable
from remediator.playbook.attached import Beside, bundled, unbundled
from remediator.playbook.check import ActionInfo, Checked, GateInfo, TemplateCompiler, check
from remediator.playbook.model import Playbook, Rung, StepSpec
from remediator.playbook.parameters import Parameter
from remediator.playbook.schema import API_VERSION, PlaybookFile, StepFile, possible_parameter
from remediator.playbook.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from remediator.expr import Variables
    from remediator.playbook.attached import Source

__all__ = ["OTHER_KINDS", "kind_of", "load_playbook", "playbook_of"]

OTHER_KINDS = ("Settings", "PlaybookTest")
"""Documents of ours that may lie beside playbooks."""


def load_playbook(text: str, *, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo], source: str = "playbook") -> Playbook:
    """The one playbook in ``text``, such as one that the journal kept. Raises DocumentError with every problem."""
    documents, kept = unbundled(read_documents(source, text))
    if len(documents) != 1:
        raise DocumentError([Problem(source, 1, 1, f"one playbook was expected, there are {len(documents)} documents")])
    return playbook_of(documents[0], actions=actions, gates=gates, files=kept)


def kind_of(document: Document) -> str:
    """``Playbook``, or another kind of ours. Raises DocumentError for anything else."""
    if not isinstance(document.data, dict):
        raise DocumentError([document.problem((), f"must be a mapping with apiVersion, kind and metadata, not {describe(document.data)}")])
    kind = document.data.get("kind")
    if kind is None:
        raise DocumentError(
            [document.problem((), f'"kind" is missing; a playbook begins with apiVersion: {API_VERSION} and kind: Playbook')]
        )
    if kind == "Job":
        raise DocumentError([document.problem(("kind",), "no playbook names this Job as the template of a step with job.run")])
    if kind not in ("Playbook", *OTHER_KINDS):
        raise DocumentError([document.problem(("kind",), f"unknown kind {describe(kind)}{suggest(str(kind), ('Playbook', *OTHER_KINDS))}")])
    return str(kind)


def playbook_of(
    document: Document, *, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo], files: Source | None = None
) -> Playbook:
    """The playbook that ``document`` describes. Raises DocumentError with every problem, in the order of the file.

    ``files``: where the files are that its steps name; None: beside the document.
    """
    if kind_of(document) != "Playbook":
        raise DocumentError([document.problem(("kind",), f"{document.data['kind']} is not a Playbook")])
    scope = Scope(_readable_parameters(document.data))
    checked = check(document, actions, gates, scope, files or Beside(document.path))
    try:
        file = PlaybookFile.model_validate(document.data, context={"scope": scope})
    except ValidationError as error:
        raise _all([*checked.problems, *problems_of(document, error, model=PlaybookFile)]) from error
    if checked.problems:
        raise _all(checked.problems)
    return _built(document, file, checked, actions)


def _all(problems: list[Problem]) -> DocumentError:
    return DocumentError(sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.message)))


def _readable_parameters(data: dict[str, Any]) -> dict[str, Parameter]:
    """Those declarations that can be read, so that one bad one does not make all its uses wrong too."""
    found: dict[str, Parameter] = {}
    declared = data.get("parameters")
    for name, value in declared.items() if isinstance(declared, dict) else ():
        if not possible_parameter(name):
            continue
        try:
            found[name] = Parameter.model_validate(value)
        except ValidationError:  # reported with the whole file
            found[name] = Parameter(default=None)
    return found


def _built(document: Document, file: PlaybookFile, checked: Checked, actions: Mapping[str, ActionInfo]) -> Playbook:
    scope = Scope(file.parameters)
    text = bundled(document.text, checked.texts)
    if len(text) > MAX_SIZE:
        raise DocumentError([document.problem(("ladder",), f"{len(text)} characters with the files that steps name; at most {MAX_SIZE}")])
    defaults = {"parameters": {name: parameter.default for name, parameter in file.parameters.items()}}
    ladder = tuple(
        Rung(
            name=rung.name,
            attempts=rung.attempts,
            steps=tuple(
                _step(name, step, scope.steps, defaults, file.deadline, actions[step.action], checked.files.get(name, {}))
                for each in rung.steps
                for name, step in each.items()
            ),
        )
        for rung in file.ladder
    )
    return Playbook(
        name=file.metadata.name,
        summary=file.metadata.summary,
        runbook=file.metadata.runbook,
        parameters=file.parameters,
        when=file.when,
        mode=file.mode,
        approval=file.approval,
        gates=checked.gates,
        ladder=ladder,
        verify=file.verify,
        on_resolved=file.on_resolved,
        on_failure=file.on_failure,
        deadline=file.deadline,
        source=document.path,
        text=text,
        revision=hashlib.sha256(text.encode()).hexdigest()[:12],
    )


def _step(
    name: str,
    step: StepFile,
    variables: Variables,
    defaults: dict[str, Any],
    longest: timedelta,
    action: ActionInfo,
    files: dict[str, Any],
) -> StepSpec:
    raw = dict(step.model_extra or {})
    try:
        timeout = step.timeout.of(defaults)
    except Unreadable:  # it depends on something that only a run knows; check.py refused what could never work
        timeout = longest
    return StepSpec(
        name=name,
        action=step.action,
        timeout=timeout,
        parameters=raw,
        disruptive=action.disturbs(raw),
        looks=action.changes == "nothing",
        timeout_source=step.timeout,
        templates=TemplateCompiler(variables).compile(raw, ()),
        files=files,
    )
