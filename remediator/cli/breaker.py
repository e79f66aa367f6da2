"""``breaker``: whether it is open, and closing it, which only a person can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli.exits import Exit
from remediator.cli.frame import connects, group
from remediator.cli.output import formatted, put_data
from remediator.cli.session import ask, me

if TYPE_CHECKING:
    from remediator.breaker import Standing
    from remediator.cli.output import Form

__all__ = ["breaker"]


@group(name="breaker", examples=["remediator breaker status", 'remediator breaker reset --backlog skip --reason "a bad switch, replaced"'])
def breaker() -> None:
    """Show and reset the breaker, which too many runs or failures open."""


@breaker.command(name="status", examples=["remediator breaker status", "remediator breaker status -o json"])
@connects
@formatted
def status(form: Form) -> int:
    """Say whether the breaker is open, since when and why; exits with 1 if it is."""
    from remediator.cli.text import safe

    found = ask(lambda c: c.breaker())
    put_data(form, found, lambda _: safe(_words(found)) + "\n", lambda: ["open" if found.open else "closed"])
    return Exit.PROBLEMS if found.open else Exit.FINE


@breaker.command(
    name="reset",
    examples=['remediator breaker reset --backlog skip --reason "a bad switch, replaced"', "remediator breaker reset --backlog resume"],
)
@click.option(
    "--backlog",
    type=click.Choice(["skip", "resume"]),
    required=True,
    help="What becomes of episodes that began while it was open and still fire: left to people, or decided anew when they come again.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why it is safe now; it goes on record.")
@connects
@formatted
def reset(form: Form, backlog: str, reason: str) -> None:
    """Close the breaker; runs and failures are counted anew from now."""
    from remediator.cli.text import safe
    from remediator.cli.views import stamp

    made = ask(lambda c: c.reset_breaker(backlog=backlog, reason=reason, by=me()))
    words = f"closed; it had been open since {stamp(made.opened_at)}; its backlog: {made.backlog}"
    put_data(form, made, lambda _: safe(words) + "\n", lambda: [made.backlog.value])


def _words(found: Standing) -> str:
    from remediator.cli.views import stamp

    counts = f"{found.failures} of {found.most_failures} failures, {found.runs} of {found.most_runs} runs within {found.within}"
    last = f"; last reset {stamp(found.reset.at)} by {found.reset.by}: {found.reset.reason or 'no reason given'}" if found.reset else ""
    if found.open and found.since is not None:
        return f"OPEN since {stamp(found.since)}: {found.detail}{last}"
    return f"closed: {counts}{last}"
