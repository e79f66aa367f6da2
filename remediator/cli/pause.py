"""``pause`` and ``resume``: the kill switch. It survives restarts of the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli import complete
from remediator.cli.exits import Exit, say
from remediator.cli.frame import command, connects
from remediator.cli.output import formatted, put_data
from remediator.cli.params import DURATION
from remediator.cli.session import ask, me

if TYPE_CHECKING:
    from datetime import timedelta

    from remediator.cli.output import Form

__all__ = ["pause", "resume"]


def _scope(playbook: str | None, target: str | None) -> str:
    parts = [f"playbook {playbook}" if playbook else "", f"target {target}" if target else ""]
    return " on ".join(part for part in parts if part) or "everything"


@command(
    name="pause",
    examples=[
        'remediator pause --reason "switch upgrade in rack 4" --for 2h',
        'remediator pause --playbook node-latency --reason "false alarms since 13:00"',
        'remediator pause --target Node/node-3 --reason "I am debugging it"',
    ],
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it goes on record and into every refusal.")
@click.option("--for", "duration", type=DURATION, metavar="DURATION", help="End by itself after so long, for example 2h.")
@click.option("--playbook", metavar="NAME", shell_complete=complete.playbooks, help="Only this playbook.")
@click.option("--target", metavar="KIND/[NS/]NAME", shell_complete=complete.targets, help="Only this target.")
@connects
@formatted
def pause(form: Form, reason: str, duration: timedelta | None, playbook: str | None, target: str | None) -> None:
    """Stop starting anything: everything, one playbook or one target.

    Runs that are open stop before their next call that would change something.
    """
    from remediator.cli.text import safe
    from remediator.cli.views import stamp

    made = ask(lambda c: c.pause(playbook=playbook, target=target, reason=reason, by=me(), duration=duration))
    until = f", until {stamp(made.until)}" if made.until else ", until resumed"
    put_data(form, made, lambda _: safe(f"paused {_scope(made.playbook, made.target)}{until}") + "\n", lambda: [made.id])


@command(name="resume", examples=["remediator resume", "remediator resume --playbook node-latency"])
@click.option("--playbook", metavar="NAME", shell_complete=complete.playbooks, help="End the pause of this playbook.")
@click.option("--target", metavar="KIND/[NS/]NAME", shell_complete=complete.targets, help="End the pause of this target.")
@connects
@formatted
def resume(form: Form, playbook: str | None, target: str | None) -> int:
    """End a pause.

    The one that was made with the same --playbook and --target; without them, the pause of everything. Exits with 1 if there was no such
    pause, and says on stderr which others are in force.
    """
    ended = ask(lambda c: c.resume(playbook=playbook, target=target, by=me()))
    count = "1 pause" if ended == 1 else f"{ended} pauses"
    put_data(form, {"ended": ended}, lambda _: f"ended {count} of {_scope(playbook, target)}\n", list)
    left = ask(lambda c: c.pauses()).items
    for still in left:
        say(f"Still paused: {_scope(still.playbook, still.target)}, by {still.by}: {still.reason}")
    return Exit.FINE if ended else Exit.PROBLEMS
