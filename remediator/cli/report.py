"""``report``: what the record says over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator import words
from remediator.cli.frame import connects, group
from remediator.cli.output import Column, formatted, put_page
from remediator.cli.params import MOMENT
from remediator.cli.session import ask

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.cli.output import Form
    from remediator.recurrence import Recurrence

__all__ = ["report"]


@group(name="report", examples=["remediator report recurrence", "remediator report recurrence --since 30d -o json"])
def report() -> None:
    """Tell what the record says over time."""


RECURRENCE: tuple[Column[Recurrence], ...] = (
    Column("TARGET", lambda one: one.target),
    Column("ACTION", lambda one: one.action),
    Column("TIMES", lambda one: str(one.times)),
    Column("HEALED", lambda one: str(one.healed)),
    Column("FIRST", lambda one: words.moment(one.first)),
    Column("LAST", lambda one: words.moment(one.last)),
    Column("EACH TIME", lambda one: ", ".join(str(each.state) for each in one.each)),
    Column("RUNS", lambda one: ", ".join(dict.fromkeys(each.run for each in one.each)), wide=True),
    Column("PLAYBOOKS", lambda one: ", ".join(dict.fromkeys(each.playbook for each in one.each)), wide=True),
)


@report.command(
    name="recurrence", examples=["remediator report recurrence", "remediator report recurrence --at-least 3 --since 30d -o wide"]
)
@click.option("--since", type=MOMENT, help="Only restarts since then: a time, or how long ago.  [default: 7d]")
@click.option("--at-least", type=click.IntRange(1, 500), default=2, show_default=True, help="Only what was restarted so often.")
@connects
@formatted
def recurrence(form: Form, since: datetime | None, at_least: int) -> None:
    """List what was restarted again and again, and how each time ended: there a restart hides a fault."""
    found = ask(lambda c: c.recurrence(since=since, at_least=at_least))
    put_page(form, found, RECURRENCE, lambda one: one.target, "restarts that recur")
