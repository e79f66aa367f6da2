"""``check``: lint of playbooks, their tests, settings and alert rules.

It asks nobody, but for ``--cluster`` the API server and Prometheus, and for ``--alertmanager`` Alertmanager.
"""

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
from remediator.errors import MonitoringError, UsageError

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
        "remediator check --alertmanager --config settings.yaml",
    ],
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=PLAYBOOKS)
@click.option("--rules", metavar="FILE", multiple=True, type=click.Path(path_type=Path), help="alert rules of Prometheus; may be repeated")
@click.option("--cluster", is_flag=True, help="also ask the cluster of the settings whether our account may do what playbooks need")
@click.option("--alertmanager", is_flag=True, help="also ask the Alertmanager of the settings whether alerts arrive here as they must")
@click.option("--receiver", metavar="NAME", default="", help="with --alertmanager: its receiver that leads here, where no name tells")
@configured
@formatted
def check(form: Form, paths: tuple[Path, ...], rules: tuple[Path, ...], cluster: bool, alertmanager: bool, receiver: str) -> int:
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

    With --alertmanager, which needs --config: the configuration that Alertmanager works with has a receiver that leads here and sends the
    token, resolved alerts and whole lists, and routes that take there what playbooks want to hear of, node by node. Lines and columns
    are those of its page Status (amtool config show). From 0.26 on it hides where webhooks go; then the receiver with remediator in its
    name is meant, or the one of --receiver. What another route keeps for itself shows best with --rules, which know more labels of
    alerts than playbooks do. An alert that no route takes here is told, and is no problem.
    """
    if receiver and not alertmanager:
        raise UsageError("check --receiver goes with --alertmanager: it names one of Alertmanager's receivers")
    problems = _problems(paths or _usual(), rules)
    notes: list[Problem] = []
    if (cluster or alertmanager) and not problems:
        asked = [_lacking(paths)] if cluster else []
        asked += [_arriving(paths, rules, receiver)] if alertmanager else []
        problems, notes = [one for found, _ in asked for one in found], [one for _, told in asked for one in told]
    data = {"ok": not problems, "problems": [_plain(problem) for problem in problems]}
    if cluster or alertmanager:
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

    return asyncio.run(_asked(*_configured(paths, "--cluster", "the cluster")))


def _arriving(paths: tuple[Path, ...], rules: tuple[Path, ...], receiver: str) -> tuple[list[Problem], list[Problem]]:
    """What Alertmanager's configuration lacks; and notes. Raises UsageError, MonitoringError."""
    import asyncio

    from remediator.arrivals import Wanted, check_configuration
    from remediator.playbook import alerts_of

    settings, library = _configured(paths, "--alertmanager", "Alertmanager")
    if (url := settings.alertmanager.url) is None:
        raise UsageError(f"check --alertmanager: {flags().config} does not say where it is; write alertmanager: {{url: ...}}")
    text = asyncio.run(_configuration(settings, url))
    s = settings.server
    token = not s.insecure or s.webhook_token_file is not None or any(one.scope == "webhook" for one in s.tokens)
    page = f"{url.rstrip('/')}/#/status"
    return check_configuration(page, text, library.playbooks, Wanted(token=token, receiver=receiver), alerts_of(rules))


async def _configuration(settings: Settings, url: str) -> str:
    """As Alertmanager shows it. Raises MonitoringError, which says what to look at."""
    from remediator.monitoring import Alertmanager

    a = settings.alertmanager
    door = Alertmanager(url, timeout=a.timeout, token_file=a.token_file)
    try:
        return await door.configuration()
    except MonitoringError as error:
        look = f"look at url (with the path of its --web.route-prefix), token_file and timeout under alertmanager in {flags().config}"
        raise MonitoringError(f"Alertmanager's configuration could not be read: {error}; {look}") from error
    finally:
        await door.close()


def _configured(paths: tuple[Path, ...], option: str, what: str) -> tuple[Settings, Library]:
    """The settings, which say where to ask, and the playbooks that are meant. Raises UsageError."""
    from remediator.actions import actions
    from remediator.gates import gates
    from remediator.playbook import Library, shipped
    from remediator.settings import load_settings

    if not (config := flags().config):
        raise UsageError(f"check {option}: name the settings with --config; they say where {what} is")
    settings = load_settings(Path(config))
    others = tuple(path for path in paths if path.resolve() != Path(config).resolve())
    return settings, Library.load(others or settings.playbooks or (shipped(),), actions=actions(), gates=gates())


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
