"""``run``: start a playbook by hand. The daemon passes it through the same gates as an alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from remediator.cli import complete
from remediator.cli.exits import Exit, say
from remediator.cli.frame import command, connects
from remediator.cli.output import formatted, put_data, to_text, to_yaml
from remediator.cli.params import pairs, read_alerts
from remediator.cli.runs import put_run
from remediator.cli.session import ask, me
from remediator.errors import ServerRefused, UsageError

if TYPE_CHECKING:
    from remediator.cli.output import Form
    from remediator.model import Run

__all__ = ["run"]

_CONFLICT = 409


@command(
    name="run",
    examples=[
        "remediator run restart-agent --target Node/node-2 --wait",
        'remediator run drain-node --target Node/node-4 --set timeout=30m --reason "new disk"',
        "remediator run node-latency --target Node/node-2 --dry-run --wait -o json",
    ],
)
@click.argument("playbook", metavar="PLAYBOOK", shell_complete=complete.playbooks)
@click.option(
    "--target", required=True, metavar="KIND/[NS/]NAME", shell_complete=complete.targets, help="What to act on, for example Node/node-2."
)
@click.option("--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="Fill a parameter of the playbook; may be given again.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the alert that this stands for; may be given again."
)
@click.option("--alert", "alert_file", metavar="FILE", help="The alert that this stands for, as JSON; - is stdin.")
@click.option("--dry-run", is_flag=True, help="Predict: everything but the last call.")
@click.option("--wait", is_flag=True, help="Show the steps live and exit by the outcome.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it goes on record.")
@connects
@formatted
def run(
    *,
    form: Form,
    playbook: str,
    target: str,
    settings: tuple[str, ...],
    labels: tuple[str, ...],
    alert_file: str | None,
    dry_run: bool,
    wait: bool,
    reason: str,
) -> int:
    """Start a playbook by hand, through the same gates as an alert.

    A refusal prints every gate that refused, and exits with 4. With --wait the exit code is 0 if the run healed its target, was done, or
    predicted what it would do, and 1 otherwise.
    """
    request = {
        "playbook": playbook,
        "target": target,
        "parameters": pairs(settings, "--set"),
        "labels": pairs(labels, "--label"),
        "alert": _one_alert(alert_file) if alert_file else None,
        "dry_run": dry_run,
        "by": me(),
        "reason": reason,
    }
    try:
        started = ask(lambda c: c.trigger(request))
    except ServerRefused as error:
        if error.status != _CONFLICT:
            raise
        return _refused(form, error.problem)
    if wait:
        return _wait(form, started)
    put_run(form, started, brief="began")
    say(f"Follow it with: remediator runs watch {started.id}")
    return Exit.FINE


def _one_alert(path: str) -> dict[str, Any]:
    alerts = read_alerts(path)
    if len(alerts) != 1:
        raise UsageError(f"{path} holds {len(alerts)} alerts; a manual run stands for one")
    return alerts[0]


def _wait(form: Form, started: Run) -> int:
    from remediator import words
    from remediator.cli.live import follow, outcome_code

    try:
        ended = ask(lambda c: follow(c, started.id, form, data=False))
    except KeyboardInterrupt:
        say(f"The run goes on. To stop it: remediator runs cancel {started.id}")
        raise
    put_data(form, ended, lambda _: f"run {ended.id} {words.state_words(ended.state)}\n", lambda: [ended.id])
    return outcome_code(ended)


def _refused(form: Form, problem: dict[str, object]) -> int:
    """Every gate that refused, with its sentence; for programs the daemon's answer as it is."""
    if form == "json":
        click.echo(to_text(problem))
    elif form == "yaml":
        click.echo(to_yaml(problem), nl=False)
    for line in _sentences(problem):
        say(line)
    return Exit.REFUSED


def _sentences(problem: dict[str, object]) -> list[str]:
    from remediator import words
    from remediator.cli.text import safe
    from remediator.model import Verdict, from_json

    gates = from_json(problem.get("gates") or [], tuple[Verdict, ...])
    refusing = words.refusals(gates)
    head = f"refused by {len(refusing)} of {len(gates)} gates; nothing was started" if refusing else _plain(problem)
    return [f"error: {safe(head)}", *(f"  {safe(line)}" for line in refusing)]


def _plain(problem: dict[str, object]) -> str:
    """A refusal without a gate behind it, such as a target that does not exist."""
    from remediator import words
    from remediator.reasons import Reason

    code, detail = str(problem.get("reason") or ""), str(problem.get("detail") or problem.get("title") or "")
    told = words.because(Reason(code), detail) if code in set(Reason) else detail
    return f"refused; nothing was started. {told}"
