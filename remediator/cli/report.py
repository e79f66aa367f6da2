"""``report``: what the record says over time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import click

from remediator import words
from remediator.cli import complete
from remediator.cli.frame import connects, group
from remediator.cli.output import Column, formatted, put_page
from remediator.cli.params import MOMENT
from remediator.cli.session import ask
from remediator.cli.text import safe
from remediator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remediator.cli.output import Form
    from remediator.effect import Effect
    from remediator.recurrence import Recurrence

__all__ = ["report"]

T = TypeVar("T")


@group(name="report", examples=["remediator report recurrence", "remediator report recurrence --since 30d -o json"])
def report() -> None:
    """Tell what the record says over time."""


_MARKDOWN = click.option("--markdown", is_flag=True, help="As a Markdown table, all columns; instead of -o.")
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
    name="recurrence",
    examples=[
        "remediator report recurrence",
        "remediator report recurrence --at-least 3 --since 30d -o wide",
        "remediator report recurrence --since 90d --markdown",
    ],
)
@click.option("--since", type=MOMENT, help="Only restarts since then: a time, or how long ago.  [default: 7d]")
@click.option("--at-least", type=click.IntRange(1, 500), default=2, show_default=True, help="Only what was restarted so often.")
@_MARKDOWN
@connects
@formatted
def recurrence(form: Form, since: datetime | None, at_least: int, markdown: bool) -> None:
    """List what was restarted again and again, and how each time ended: there a restart hides a fault."""
    _one_form(form, markdown)
    found = ask(lambda c: c.recurrence(since=since, at_least=at_least))
    if markdown:
        click.echo(_markdown(RECURRENCE, found.items), nl=False)
    else:
        put_page(form, found, RECURRENCE, lambda one: one.target, "restarts that recur")


def _share(of: float | None) -> str:
    return "" if of is None else f"{of:.0%}"


def _seconds(of: float | None) -> str:
    return "" if of is None else words.took(timedelta(seconds=of))


EFFECT: tuple[Column[Effect], ...] = (
    Column("PLAYBOOK", lambda one: one.playbook),
    Column("TARGET", lambda one: one.target or "(all)"),
    Column("RUNS", lambda one: str(one.runs)),
    Column("HEALED", lambda one: str(one.healed)),
    Column("FAILED", lambda one: str(one.failed)),
    Column("FALSE STARTS", lambda one: str(one.false_starts)),
    Column("SUCCESS", lambda one: _share(one.success)),
    Column("TIME TO HEAL", lambda one: _seconds(one.heal_median)),
    Column("LONGEST", lambda one: _seconds(one.heal_longest)),
    Column("STOPPED", lambda one: str(one.stopped), wide=True),
    Column("OPEN", lambda one: str(one.open), wide=True),
)


@report.command(
    name="effect",
    examples=["remediator report effect", "remediator report effect --since 90d --markdown"],
)
@click.option("--since", type=MOMENT, help="Only runs that started since then: a time, or how long ago.  [default: 30d]")
@click.option("--playbook", shell_complete=complete.playbooks, help="Only runs of this playbook.")
@_MARKDOWN
@connects
@formatted
def effect(form: Form, since: datetime | None, playbook: str | None, markdown: bool) -> None:
    """Tell what came of acting: success, median time to heal and false starts, by playbook and target."""
    _one_form(form, markdown)
    found = ask(lambda c: c.effect(since=since, playbook=playbook))
    if markdown:
        click.echo(_markdown(EFFECT, found.items), nl=False)
    else:
        put_page(form, found, EFFECT, lambda one: one.playbook if one.target is None else f"{one.playbook} {one.target}", "runs")


def _one_form(form: Form, markdown: bool) -> None:
    if markdown and form != "table":
        raise UsageError(f"--markdown and -o {form} exclude each other; take one of them")


def _markdown(columns: Sequence[Column[T]], rows: Sequence[T]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(safe(cell).replace("|", "\\|") or "-" for cell in cells) + " |\n"

    head = line([column.header.capitalize() for column in columns]) + line(["---"] * len(columns))
    return head + "".join(line([column.value(row) for column in columns]) for row in rows)
