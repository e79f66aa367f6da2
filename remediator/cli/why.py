"""``why``: the story of an alert, a delivery, a run or a target, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli import complete
from remediator.cli.exits import Exit
from remediator.cli.frame import command, connects
from remediator.cli.output import formatted, put_data
from remediator.cli.session import ask
from remediator.cli.text import safe

if TYPE_CHECKING:
    from remediator.cli.output import Form

__all__ = ["why"]


@command(
    name="why",
    examples=[
        "remediator why CiliumAgentDown",
        "remediator why Node/node-3",
        "remediator why 01k5y0q6d3n8v4x2c7b9m1t5rw",
    ],
)
@click.argument("ref", metavar="REF", shell_complete=complete.refs)
@connects
@formatted
def why(form: Form, ref: str) -> int:
    """Tell in words what happened to an alert, a run or a target, and why.

    What came in, what was decided and the reason, gate by gate, what was done, how it was proved, and what is left behind.

    REF is the name or fingerprint of an alert, the id of a delivery, a decision or a run, a target (Kind/[namespace/]name), or the name of
    a node. Of several happenings the most recent is told in full. Exits with 1 if nothing is known of REF.
    """
    story = ask(lambda c: c.why(ref))
    put_data(form, story, lambda _: "".join(safe(line) + "\n" for line in story.lines), lambda: story.runs)
    return Exit.PROBLEMS if story.kind == "nothing" else Exit.FINE
