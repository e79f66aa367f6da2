"""``journal``: verify, export, import and prune the record of everything."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from remediator.cli.exits import Exit
from remediator.cli.frame import configured, connects, flags, group
from remediator.cli.output import formatted, put_data
from remediator.cli.params import DURATION
from remediator.cli.session import ask, client, me, settings_of
from remediator.cli.text import safe

if TYPE_CHECKING:
    from datetime import timedelta

    from remediator.cli.output import Form

__all__ = ["journal"]


@group(name="journal", examples=["remediator journal verify", "remediator journal export > journal.jsonl"])
def journal() -> None:
    """Verify, export, import and prune the record of everything."""


@journal.command(name="verify", examples=["remediator journal verify", "remediator journal verify --resume"])
@click.option("--resume", is_flag=True, help="Only from where the last one ended that found nothing wrong, or was stopped.")
@click.option("--jobs", type=click.IntRange(1, 16), help="Processes that read.  [default: one a core, at most 2]")
@connects
@formatted
def verify(form: Form, resume: bool, jobs: int | None) -> int:
    """Check the hash chain, that every record is as its last entry says, and the anchor if there is one; exits with 1 if not.

    A long journal takes minutes. --resume goes on from where the last verification came to; that says nothing of what was altered since in
    what was verified before.
    """
    report = ask(lambda c: c.verify(resume=resume, jobs=jobs))

    def text(wide: bool) -> str:
        del wide
        if report.ok:
            before = f"; what came before entry {report.pruned.through + 1} was pruned" if report.pruned else ""
            anchored = f"; the anchor agrees up to entry {report.anchored}" if report.anchored is not None else ""
            known = f"; up to entry {report.since.seq} as verified on {report.since.at:%Y-%m-%d %H:%M:%S} UTC" if report.since else ""
            return f"whole: {report.entries} entries, each follows from the one before it{before}{anchored}{known}\n"
        return "".join(f"{safe(problem)}\n" for problem in report.problems) + f"BROKEN: {len(report.problems)} problems\n"

    put_data(form, report, text, lambda: report.problems)
    return Exit.FINE if report.ok else Exit.PROBLEMS


@journal.command(name="prune", examples=["remediator journal prune", "remediator journal prune --older-than 180d --keep 100000"])
@click.option("--older-than", type=DURATION, help="Only what is older, at least 31d.  [default: the daemon's store.retention]")
@click.option("--keep", type=click.IntRange(min=0), default=0, show_default=True, help="Never the last so many entries of the log.")
@connects
@formatted
def prune(form: Form, older_than: timedelta | None, keep: int) -> None:
    """Take old records away, as the daemon does by itself every hour.

    Open runs and episodes and changes that were not put back stay. The chain can be verified as before, from the last entry that went. The
    file of a SQLite store does not shrink; its room is used again.
    """
    done = ask(lambda c: c.prune(age=older_than, keep=keep, by=me()), timeout=600)

    def text(wide: bool) -> str:
        del wide
        went = ", ".join(f"{count} {name}" for name, count in done.removed.items())
        return f"pruned up to entry {done.through}: {went}\n" if went else "nothing is old enough\n"

    put_data(form, done, text, lambda: [str(done.through)])


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


@journal.command(
    name="import",
    examples=[
        "remediator journal import journal.jsonl --config new.yaml",
        "remediator journal import - --config new.yaml",
    ],
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@configured
@formatted
def import_(form: Form, file: str) -> None:
    """Take what `journal export` wrote into the empty store of the settings.

    No daemon may run on that store. The chain is checked while FILE is read, and the whole before it is kept; a file that is broken or cut
    leaves nothing behind. Open runs, questions and changes come along: a daemon that is started on the store afterwards goes on with them.
    """
    from datetime import UTC, datetime

    from remediator.errors import UsageError
    from remediator.journal import take_in

    given = flags()
    if not given.config:
        raise UsageError("import needs the settings file whose store is to be filled: --config FILE or REMEDIATOR_CONFIG")
    url = settings_of(given.config).store.full_url()
    try:
        with click.open_file(file, "rb") as lines:
            done = take_in(url, lines, source=file, by=me(), now=datetime.now(UTC))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error

    def text(wide: bool) -> str:
        del wide
        kinds = ", ".join(f"{count} {kind}" for kind, count in done.kinds.items())
        return f"imported {done.entries} entries up to {done.seq}, and every record is as its last entry says: {kinds or 'none'}\n"

    put_data(form, done, text, lambda: [str(done.seq)])
