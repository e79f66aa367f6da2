"""``runs``: list, show, watch, approve, reject, cancel and undo runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli import complete
from remediator.cli.exits import say
from remediator.cli.frame import connects, group
from remediator.cli.output import formatted, put_data, put_page
from remediator.cli.params import MOMENT, OPEN_STATES, RUN_STATES
from remediator.cli.session import ask, me

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.cli.output import Form
    from remediator.model import Run

__all__ = ["runs"]


@group(name="runs", examples=["remediator runs list --state running", "remediator runs show 01k5y0q6d3n8v4x2c7b9m1t5rw"])
def runs() -> None:
    """List, show, watch, approve, reject, cancel and undo runs."""


@runs.command(
    name="list",
    examples=[
        "remediator runs list --open",
        "remediator runs list --target Node/node-3 --since 24h -o wide",
        "remediator runs list --state awaiting_approval",
        "remediator runs list --state failed --state not_healed -o json",
    ],
)
@click.option("--state", "states", type=click.Choice(RUN_STATES), multiple=True, help="Only runs in this state; may be given again.")
@click.option("--open", "only_open", is_flag=True, help="Only runs that have not ended.")
@click.option("--playbook", metavar="NAME", shell_complete=complete.playbooks, help="Only runs of this playbook.")
@click.option("--target", metavar="KIND/[NS/]NAME", shell_complete=complete.targets, help="Only runs on this target.")
@click.option("--since", type=MOMENT, help="Only runs that began since then: a time, or how long ago.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where another list ended.")
@connects
@formatted
def list_(
    form: Form,
    states: tuple[str, ...],
    only_open: bool,
    playbook: str | None,
    target: str | None,
    since: datetime | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List runs, newest first."""
    from remediator.cli.views import RUNS
    from remediator.model import RunState

    wanted = [RunState(state) for state in dict.fromkeys((*states, *(OPEN_STATES if only_open else ())))]
    page = ask(lambda c: c.runs(state=wanted, playbook=playbook, target=target, since=since, limit=limit, cursor=cursor))
    put_page(form, page, RUNS, lambda run: run.id, "runs")


@runs.command(name="show", examples=["remediator runs show 01k5y0q6d3n8v4x2c7b9m1t5rw"])
@click.argument("run_id", metavar="ID", shell_complete=complete.runs)
@connects
@formatted
def show(form: Form, run_id: str) -> None:
    """Show one run: its gates, steps and changes."""
    put_run(form, ask(lambda c: c.run(run_id)))


@runs.command(
    name="watch", examples=["remediator runs watch 01k5y0q6d3n8v4x2c7b9m1t5rw", "remediator runs watch 01k5y0q6d3n8v4x2c7b9m1t5rw -o json"]
)
@click.argument("run_id", metavar="ID", shell_complete=complete.open_runs)
@connects
@formatted
def watch(form: Form, run_id: str) -> int:
    """Follow a run until it ends; exits by its outcome.

    With -o json, one line of JSON a change.
    """
    from remediator.cli.live import follow, outcome_code

    return outcome_code(ask(lambda c: follow(c, run_id, form, data=True)))


@runs.command(name="approve", examples=['remediator runs approve 01k5y0q6d3n8v4x2c7b9m1t5rw --reason "looked at it, go on"'])
@click.argument("run_id", metavar="ID", shell_complete=complete.answerable)
@click.option("--reason", default="", metavar="TEXT", help="Why; it goes on record.")
@connects
@formatted
def approve(form: Form, run_id: str, reason: str) -> None:
    """Say yes to a run that waits for people.

    Its plan and its gates are in "runs show". Every gate is asked again before anything is done. Where more people have to agree, the same
    person counts once.
    """
    told = ask(lambda c: c.approve(run_id, by=me(), reason=reason))
    put_run(form, told, brief="approved")
    if told.state == "awaiting_approval":
        from remediator import words

        say(f"It still {words.approval(told.approvals[-1]).rpartition('; ')[2]}.")
    else:
        say(f"Follow it with: remediator runs watch {told.id}")


@runs.command(name="reject", examples=['remediator runs reject 01k5y0q6d3n8v4x2c7b9m1t5rw --reason "false alarm"'])
@click.argument("run_id", metavar="ID", shell_complete=complete.answerable)
@click.option("--reason", default="", metavar="TEXT", help="Why; it goes on record.")
@connects
@formatted
def reject(form: Form, run_id: str, reason: str) -> None:
    """Say no to a run that waits for people; it ends."""
    put_run(form, ask(lambda c: c.reject(run_id, by=me(), reason=reason)), brief="rejected")


@runs.command(name="cancel", examples=['remediator runs cancel 01k5y0q6d3n8v4x2c7b9m1t5rw --reason "I do it by hand"'])
@click.argument("run_id", metavar="ID", shell_complete=complete.open_runs)
@click.option("--reason", default="", metavar="TEXT", help="Why; it goes on record.")
@connects
@formatted
def cancel(form: Form, run_id: str, reason: str) -> None:
    """Stop a run after the call that it is in."""
    put_run(form, ask(lambda c: c.cancel(run_id, by=me(), reason=reason)), brief="asked to stop")


@runs.command(name="undo", examples=['remediator runs undo 01k5y0q6d3n8v4x2c7b9m1t5rw --reason "the node is back"'])
@click.argument("run_id", metavar="ID", shell_complete=complete.undoable)
@click.option("--reason", default="", metavar="TEXT", help="Why; it goes on record.")
@connects
@formatted
def undo(form: Form, run_id: str, reason: str) -> None:
    """Put back what a run changed, last first, where nobody touched it since."""
    put_run(form, ask(lambda c: c.undo(run_id, by=me(), reason=reason)), brief="asked to undo its changes")


def put_run(form: Form, run: Run, *, brief: str = "") -> None:
    """Print a run; as text a whole page of it, or one line with what was asked."""
    from remediator.cli.views import run_text

    def text(wide: bool) -> str:
        return f"run {run.id} {brief}, now {run.state}\n" if brief else run_text(run, wide=wide)

    put_data(form, run, text, lambda: [run.id])
