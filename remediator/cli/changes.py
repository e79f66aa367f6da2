"""``changes``: what was altered in the cluster and not put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli import complete
from remediator.cli.frame import connects, group
from remediator.cli.output import formatted, put_page
from remediator.cli.session import ask

if TYPE_CHECKING:
    from remediator.cli.output import Form

__all__ = ["changes"]


@group(name="changes", examples=["remediator changes list"])
def changes() -> None:
    """List what was altered in the cluster and not put back."""


@changes.command(
    name="list", examples=["remediator changes list", "remediator changes list --run 01k5y0q6d3n8v4x2c7b9m1t5rw --all -o wide"]
)
@click.option("--run", "run_id", metavar="ID", shell_complete=complete.runs, help="Only changes of this run.")
@click.option("--all", "every", is_flag=True, help="Also those that were put back, or were meant to stay.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where another list ended.")
@connects
@formatted
def list_(form: Form, run_id: str | None, every: bool, limit: int, cursor: str | None) -> None:
    """List changes that are still in the cluster, with the run that owns each."""
    from remediator.cli.views import CHANGES

    page = ask(lambda c: c.changes(run=run_id, every=every, limit=limit, cursor=cursor))
    put_page(form, page, CHANGES, lambda change: change.id, "changes")
