"""``journal``: verify and export the record of everything."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from remediator.cli.exits import Exit
from remediator.cli.frame import connects, group
from remediator.cli.output import formatted, put_data
from remediator.cli.session import ask, client
from remediator.cli.text import safe

if TYPE_CHECKING:
    from remediator.cli.output import Form

__all__ = ["journal"]


@group(name="journal", examples=["remediator journal verify", "remediator journal export > journal.jsonl"])
def journal() -> None:
    """Verify and export the record of everything."""


@journal.command(name="verify", examples=["remediator journal verify"])
@connects
@formatted
def verify(form: Form) -> int:
    """Check the hash chain, and that every record is as its last entry says; exits with 1 if not."""
    report = ask(lambda c: c.verify())

    def text(wide: bool) -> str:
        del wide
        if report.ok:
            return f"whole: {report.entries} entries, each follows from the one before it\n"
        return "".join(f"{safe(problem)}\n" for problem in report.problems) + f"BROKEN: {len(report.problems)} problems\n"

    put_data(form, report, text, lambda: report.problems)
    return Exit.FINE if report.ok else Exit.PROBLEMS


@journal.command(
    name="export", examples=["remediator journal export > journal.jsonl", "remediator journal export | jq 'select(.kind == \"change\")'"]
)
@connects
def export() -> None:
    """Print the whole journal as JSON lines, oldest first."""
    import asyncio

    async def copy() -> None:
        async with client() as daemon, aclosing(daemon.export()) as lines:
            async for line in lines:
                sys.stdout.buffer.write(line)
        sys.stdout.flush()

    asyncio.run(copy())
