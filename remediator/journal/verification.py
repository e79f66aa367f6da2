"""A long log is verified in pieces: each page in a snapshot of its own, by several processes, from where the last good one ended.

In: the store, whether everything is to be read or what came since, how many processes. Out: a ChainReport. How far it came without finding
anything is written down now and then (``Reached``), so that one that was killed goes on from there; where something is found that mark
is taken away, and the next one reads everything. A mark is not evidence: it stands in the same database, and whoever can rewrite the one
can write the other. It is compared with the log and the log with the anchor; ``full`` passes it over.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, aclosing, contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from remediator.errors import JournalUnavailable
from remediator.journal.audit import (
    MOST_PROBLEMS,
    STRANGERS,
    Reached,
    against_anchor,
    bounds,
    check_page,
    check_strangers,
    summed_up,
)
from remediator.journal.chain import link
from remediator.journal.leaf import Place, Span
from remediator.journal.rows import stamp
from remediator.journal.schema import ENTRY, TABLES, VERIFIED
from remediator.journal.store import Store
from remediator.model import from_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from remediator.clock import Clock
    from remediator.journal.anchor import Anchor, Mark
    from remediator.journal.audit import ChainReport

    Each = Callable[[Callable[..., list[str]], Sequence[Any]], AsyncGenerator[list[str], None]]
    """What is found in each piece, in their order."""

__all__ = ["MOST_JOBS", "usual_jobs", "verify"]

MOST_JOBS = 16
_USUAL_JOBS = 2
"""However many cores there are: each process takes 75 MB beside the daemon."""
_PIECE = 100_000
"""Entries of one piece, about a second of work; after each it is written down how far it came."""
_WORTH = 4
"""Pieces from which on processes are worth their start."""
_PATIENCE = timedelta(minutes=10)
"""For one statement or lock in a process of its own."""


class _Plan(NamedTuple):
    problems: list[str]
    """Of the anchor, of the head, of the mark."""
    marks: list[Mark]
    since: Reached | None
    """What is not read again."""
    known: Reached | None
    """The mark as it stands there."""
    end: Place
    pieces: list[Span]


def usual_jobs() -> int:
    """Processes where nobody says how many."""
    return min(_USUAL_JOBS, len(os.sched_getaffinity(0)))


async def verify(
    store: Store,
    *,
    read: Callable[..., Awaitable[Any]],
    work: Callable[..., Awaitable[Any]],
    keep: Callable[[Reached | None], Awaitable[None]],
    anchor: Anchor | None,
    clock: Clock,
    full: bool,
    jobs: int,
) -> ChainReport:
    """``read`` asks in one snapshot, ``work`` runs in a thread, ``keep`` writes down how far it came, or that this is not known any more.

    Raises JournalUnavailable.
    """
    plan: _Plan = await read(_planned, anchor, full)
    problems, whole = list(plan.problems), plan.since is not None and plan.since.whole
    with _workers(store, work, jobs if len(plan.pieces) >= _WORTH else 1) as each:
        async with aclosing(each(check_piece, plan.pieces)) as found:
            for piece in plan.pieces:
                problems += await anext(found)
                if not problems and (plan.known is None or piece.end.seq > plan.known.seq):
                    await keep(Reached(seq=piece.end.seq, hash=piece.end.hash, at=clock.now(), whole=whole))
        if not whole:
            async with aclosing(each(check_table, [table.name for table in STRANGERS])) as found:
                async for some in found:
                    problems += some
    if not problems:
        await keep(Reached(seq=plan.end.seq, hash=plan.end.hash, at=clock.now(), whole=True))
    elif plan.known is not None:
        await keep(None)
    report: ChainReport = await read(summed_up, problems, plan.marks, plan.since)
    return report


def check_piece(store: Store, piece: Span) -> list[str]:
    """What is wrong with the entries of ``piece`` and the records that they are the last word on. Raises JournalUnavailable."""
    problems: list[str] = []
    place: Place | None = piece.begin
    while place is not None and len(problems) < MOST_PROBLEMS:
        with store.snapshot(patient=True) as connection:
            place, found = check_page(connection, place, piece.end)
        problems += found
    return problems


def check_table(store: Store, name: str) -> list[str]:
    """Which rows of a table belong to nothing. Raises JournalUnavailable."""
    table = next(table for table in TABLES if table.name == name)
    problems: list[str] = []
    last: str | None = ""
    while last is not None and len(problems) < MOST_PROBLEMS:
        with store.snapshot(patient=True) as connection:
            last, found = check_strangers(connection, table, last)
        problems += found
    return problems


def _planned(connection: Connection, anchor: Anchor | None, full: bool) -> _Plan:  # noqa: FBT001 - handed through
    against, marks = against_anchor(connection, anchor)
    (begin, end), wrong = bounds(connection)
    problems = [*against, *wrong]
    row = connection.execute(select(VERIFIED.c.data)).first()
    known = None if row is None else from_json(row.data, Reached)
    since = None if full else known
    if since is not None and (disputed := _disputed(connection, since, begin, end)):
        problems.append(disputed)
        since = None
    if since is not None and since.seq > begin.seq:
        begin = Place(since.seq, since.hash)
    return _Plan(problems, marks, since, known, end, list(_pieces(connection, begin, end)))


def _disputed(connection: Connection, mark: Reached, begin: Place, end: Place) -> str:
    """What the log says against the mark. Where the marked entry was pruned since, it is the checkpoint that tells."""
    if mark.seq > end.seq:
        return f"the log ends at entry {end.seq}, but entry {mark.seq} was verified at {stamp(mark.at)}: it was cut back"
    if mark.seq < begin.seq:
        return ""
    row = connection.execute(select(ENTRY).where(ENTRY.c.seq == mark.seq)).first()
    found = begin.hash if row is None and mark.seq == begin.seq else None if row is None else link(*row[:-1])
    return "" if found == mark.hash else f"entry {mark.seq} is not the one that was verified at {stamp(mark.at)}: the log was rewritten"


def _pieces(connection: Connection, begin: Place, end: Place) -> Iterator[Span]:
    while begin.seq < end.seq:
        border = select(ENTRY.c.seq, ENTRY.c.hash).where(ENTRY.c.seq >= begin.seq + _PIECE, ENTRY.c.seq < end.seq)
        row = connection.execute(border.order_by(ENTRY.c.seq).limit(1)).first()
        next_ = Place(row.seq, row.hash) if row else end
        yield Span(begin, next_)
        begin = next_


def _workers(store: Store, work: Callable[..., Awaitable[Any]], jobs: int) -> AbstractContextManager[Each]:
    return _processes(store, jobs) if jobs > 1 else _thread(store, work)


@contextmanager
def _thread(store: Store, work: Callable[..., Awaitable[Any]]) -> Iterator[Each]:
    """One piece after the other, when its turn comes."""

    async def each(what: Callable[..., list[str]], pieces: Sequence[Any]) -> AsyncGenerator[list[str], None]:
        for piece in pieces:
            yield await work(what, store, piece)

    yield each


@contextmanager
def _processes(store: Store, jobs: int) -> Iterator[Each]:
    """Processes of their own: the event loop has its interpreter to itself."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_enlist, initargs=(store.url, _PATIENCE))

    async def each(what: Callable[..., list[str]], pieces: Sequence[Any]) -> AsyncGenerator[list[str], None]:
        for future in [pool.submit(partial(_in_process, what), piece) for piece in pieces]:
            try:
                yield await asyncio.wrap_future(future)
            except BrokenProcessPool as error:
                raise JournalUnavailable(
                    "a process that verified the journal was ended, for want of memory perhaps; verify again: it goes on from where it was"
                ) from error

    try:
        yield each
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_store: Store
"""Of a process that verifies."""


def _enlist(url: str, deadline: timedelta) -> None:
    global _store  # noqa: PLW0603 - one a process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent tells us when it is over
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(5)
    _store = Store(url, deadline=deadline)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _in_process(what: Callable[..., list[str]], *args: Any) -> list[str]:
    return what(_store, *args)
