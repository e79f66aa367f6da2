"""``check``: lint of playbooks, their tests, settings and alert rules. It asks nobody, but for ``--cluster`` the API server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remediator.cli.exits import Exit, say
from remediator.cli.frame import command, configured, flags
from remediator.cli.output import formatted, put_data
from remediator.cli.params import PLAYBOOKS
from remediator.cli.text import safe

if TYPE_CHECKING:
    from remediator.cli.output import Form
    from remediator.errors import Problem
    from remediator.playbook import Library
    from remediator.settings import Settings

__all__ = ["check"]


@command(
    name="check",
    examples=[
        "remediator check playbooks/",
        "remediator check settings.yaml playbooks/ -o json",
        "remediator check --config settings.yaml",
        "remediator check playbooks/ --rules deploy/prometheus/rules.yaml",
        "remediator check --cluster --config settings.yaml",
        "remediator check settings.yaml shipped mine/",
    ],
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=PLAYBOOKS)
@click.option("--rules", metavar="FILE", multiple=True, type=click.Path(path_type=Path), help="alert rules of Prometheus; may be repeated")
@click.option("--cluster", is_flag=True, help="also ask the cluster of the settings whether our account may do what playbooks need")
@configured
@formatted
def check(form: Form, paths: tuple[Path, ...], rules: tuple[Path, ...], cluster: bool) -> int:
    """Check playbooks, their tests and settings; print every problem.

    Each on a line of its own, as path:line:col: message. PATH is a file or a folder, or the word shipped for the playbooks that come with
    the program. Without PATH: the settings file of --config or REMEDIATOR_CONFIG with its playbooks, or else the folder playbooks. Exits
    with 1 if there is a problem.

    With --rules: every alert and label that a playbook names exists in the rules (a rule file or a PrometheusRule), and every alert there
    has a playbook, or says why not in its annotation no_playbook.

    With --cluster, which needs --config: every right that a playbook needs is asked of the API server, as the account that the settings
    name; one that is missing makes the playbook unavailable. So does a kind that the cluster does not serve. With election.enabled the
    right on its Lease is asked for too, since without it nobody ever leads. And Prometheus is asked
    whether it has the metrics without which a playbook's verification could never say that something is healed; that is told, and is
    no problem, since a playbook may be for something that this cluster does not have. It is also told if the version of Cilium that runs
    there is none that remediator was tested with, or cannot be read from the agents' image.
    """
    problems = _problems(paths or _usual(), rules)
    notes: list[Problem] = []
    if cluster and not problems:
        problems, notes = _lacking(paths)
    data = {"ok": not problems, "problems": [_plain(problem) for problem in problems]}
    if cluster:
        data["notes"] = [_plain(note) for note in notes]
    put_data(
        form, data, lambda _: "".join(safe(str(problem)) + "\n" for problem in problems), lambda: dict.fromkeys(p.path for p in problems)
    )
    for note in notes:
        say(safe(str(note)))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    say(f"{count} found." if problems else "No problems found.")
    return Exit.PROBLEMS if problems else Exit.FINE


def _problems(paths: tuple[Path, ...], rules: tuple[Path, ...]) -> list[Problem]:
    from remediator.actions import actions
    from remediator.errors import Problem
    from remediator.gates import gates
    from remediator.playbook import check_paths, files_of
    from remediator.testing.read import check_tests

    empty = [Problem(str(path), 1, 1, "the folder holds no *.yaml file") for path in paths if path.is_dir() and not files_of(path)]
    found = empty + check_paths(paths, actions=actions(), gates=gates(), rules=rules)
    return list(dict.fromkeys([*found, *check_tests(paths)]))


def _lacking(paths: tuple[Path, ...]) -> tuple[list[Problem], list[Problem]]:
    """One for each playbook that cannot work; and notes. Raises UsageError, KubeError, MonitoringError."""
    import asyncio

    from remediator.actions import actions
    from remediator.errors import UsageError
    from remediator.gates import gates
    from remediator.playbook import Library, shipped
    from remediator.settings import load_settings

    if not (config := flags().config):
        raise UsageError("check --cluster: name the settings with --config; they say where the cluster is")
    settings = load_settings(Path(config))
    others = tuple(path for path in paths if path.resolve() != Path(config).resolve())
    library = Library.load(others or settings.playbooks or (shipped(),), actions=actions(), gates=gates())
    return asyncio.run(_asked(settings, library))


async def _asked(settings: Settings, library: Library) -> tuple[list[Problem], list[Problem]]:
    from remediator.actions import Cilium
    from remediator.cilium.version import read_versions
    from remediator.clock import SystemClock
    from remediator.errors import Problem
    from remediator.kube import Kube
    from remediator.monitoring import Prometheus
    from remediator.proofs import unmeasured
    from remediator.rights import Rights, election, lacking

    k, p, e = settings.kubernetes, settings.prometheus, settings.election
    async with await Kube.connect(kubeconfig=k.kubeconfig, context=k.context, server=k.server, timeout=k.timeout) as kube:
        rights = Rights(kube, SystemClock(), Cilium(namespace=settings.cilium.namespace))
        missing = [(one, "our account may not", lacking(await rights.missing(one))) for one in library.playbooks]
        missing += [(one, "the cluster does not serve", ", ".join(await rights.absent(one))) for one in library.playbooks]
        unelected = await rights.missing_of(election(e.namespace or os.environ.get("POD_NAMESPACE", ""), e.lease) if e.enabled else {})
        version = await read_versions(kube, settings.cilium.namespace, settings.cilium.agent_selector)
    found = [Problem(one.source, 1, 1, f"playbook {one.name} is unavailable: {what} {words}") for one, what, words in missing if words]
    if unelected:
        found.append(Problem(str(flags().config), 1, 1, f"no replica could be elected: our account may not {lacking(unelected)}"))
    notes = [Problem(str(flags().config), 1, 1, version.trouble)] if version.trouble else []
    if p.url is None:
        return found, notes
    prometheus = Prometheus(p.url, timeout=p.timeout, max_age=p.max_age, clock=SystemClock(), token_file=p.token_file)
    try:
        return found, notes + _unproved(library, await unmeasured(prometheus, library.playbooks))
    finally:
        await prometheus.close()


def _unproved(library: Library, found: dict[str, tuple[str, ...]]) -> list[Problem]:
    """One for each playbook whose verification could never hold: Prometheus has nothing of what it asks for."""
    from remediator.errors import Problem

    return [
        Problem(
            one.source, 1, 1, f"playbook {one.name} could not prove that anything is healed: Prometheus has no {' and no '.join(names)}"
        )
        for one in library.playbooks
        if (names := found.get(one.name))
    ]


def _usual() -> tuple[Path, ...]:
    """The settings file with the playbooks that it names, or the folder ``playbooks``."""
    from remediator.errors import DocumentError
    from remediator.playbook import shipped
    from remediator.settings import load_settings

    if not (config := flags().config):
        return (Path("playbooks"),)
    try:
        settings = load_settings(Path(config), env={})
    except DocumentError:  # check_paths says it again, with whatever else is wrong
        return (Path(config),)
    return (Path(config), *(settings.playbooks or (shipped(),)))


def _plain(problem: Problem) -> dict[str, Any]:
    return {"path": problem.path, "line": problem.line, "column": problem.column, "message": problem.message}
