"""Whether the journal is what was written: the chain of the log, and every row against the last entry about it.

In: a snapshot, or one for each page of the log (``verification``). Out: a ChainReport with a sentence for each thing that does not fit: an
entry altered, missing or cut off, a row altered, slipped in or taken away, a column that says something else than its record. Nothing is
repaired and nothing refused. What is right at a glance (``leaf``) is not looked at again here; the rest is, and gets its words.
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import func, select

from remediator.errors import JournalError
from remediator.journal import glance
from remediator.journal import rows as spelled
from remediator.journal.anchor import disagreements
from remediator.journal.chain import GENESIS, digest_of
from remediator.journal.checkpoint import PRUNED, Checkpoint, read_checkpoint
from remediator.journal.leaf import AT_ONCE, Book, Leaf, Place, Span
from remediator.journal.schema import (
    CHANGE,
    CHECKPOINT,
    DECISION,
    DELIVERY,
    ENTRY,
    EPISODE,
    HEAD,
    PAUSE,
    REVISION,
    RUN,
    STEP,
)
from remediator.model import Change, Decision, Delivery, Episode, Noun, Pause, Run, Step, from_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection, Table

    from remediator.journal.anchor import Anchor, Mark

__all__ = [
    "BOOKS",
    "MOST_PROBLEMS",
    "STRANGERS",
    "ChainReport",
    "Reached",
    "against_anchor",
    "bounds",
    "check_page",
    "check_strangers",
    "problems_of",
    "summed_up",
    "verify",
]

MOST_PROBLEMS = 100
_LOOK = 20_000
"""Rows of one look for such as belong to nothing."""


class Reached(Noun, frozen=True, kw_only=True):
    """How far a verification came that found nothing wrong: up to entry ``seq``."""

    seq: int
    hash: str
    at: datetime
    """When it was there."""
    whole: bool = False
    """Whether it came to its end: rows that no entry is about were looked for, too."""


class ChainReport(Noun, frozen=True, kw_only=True):
    """What ``journal verify`` found: one sentence for each problem, at most 100 of them."""

    ok: bool
    entries: int
    problems: list[str]
    pruned: Checkpoint | None = None
    """What went before the first of the entries, where something was pruned and nothing is wrong."""
    anchored: int | None = None
    """The entry up to which the anchor outside agrees, where there is one and nothing is wrong."""
    since: Reached | None = None
    """What was verified before and not read again; None if everything was."""


BOOKS = (
    Book(
        "delivery",
        DELIVERY,
        lambda data: spelled.delivery_row(from_json(data, Delivery), data),
        glance.delivery_fits,
        by_digest=True,
        closing=("decided", DELIVERY.c.decided_at),
    ),
    Book("episode", EPISODE, lambda data: spelled.episode_row(from_json(data, Episode), data), glance.episode_fits, by_digest=True),
    Book("decision", DECISION, lambda data: spelled.decision_row(from_json(data, Decision), data), glance.decision_fits),
    Book("change", CHANGE, lambda data: spelled.change_row(from_json(data, Change), data), glance.change_fits),
    Book(
        "pause",
        PAUSE,
        lambda data: spelled.pause_row(from_json(data, Pause), data),
        closing=("resume", PAUSE.c.ended_at),
    ),
    Book("revision", REVISION, None, by_digest=True),
)
"""All but runs, whose steps have rows of their own."""
STRANGERS = (*(book.table for book in BOOKS), RUN, STEP)
"""Tables whose rows have to belong to something."""


def verify(connection: Connection, anchor: Anchor | None = None) -> ChainReport:
    """Read everything once, in the connection's one snapshot, and compare it with the anchor."""
    against, marks = against_anchor(connection, anchor)
    return summed_up(connection, [*against, *islice(problems_of(connection), MOST_PROBLEMS)], marks)


def summed_up(connection: Connection, problems: Sequence[str], marks: Sequence[Mark], since: Reached | None = None) -> ChainReport:
    """The report on a log in which ``problems`` were found."""
    pruned = Checkpoint() if problems else read_checkpoint(connection.execute)
    if problems:
        count = connection.execute(select(func.count()).select_from(ENTRY)).scalar_one()
    else:  # the numbers of a whole log say it, and millions need not be counted
        count = (connection.execute(select(func.max(ENTRY.c.seq))).scalar() or pruned.through) - pruned.through
    return ChainReport(
        ok=not problems,
        entries=count,
        problems=list(problems[:MOST_PROBLEMS]),
        pruned=pruned if pruned.through else None,
        anchored=marks[-1].seq if marks and not problems else None,
        since=since,
    )


def against_anchor(connection: Connection, anchor: Anchor | None) -> tuple[list[str], list[Mark]]:
    """What the anchor says otherwise, or why it cannot be read; and its marks."""
    if anchor is None:
        return [], []
    try:
        marks = anchor.read()  # before the connection's first question, so that no mark is younger than what it sees
    except JournalError as error:
        return [str(error)], []
    return list(islice(disagreements(connection, marks), MOST_PROBLEMS)), marks


def problems_of(connection: Connection) -> Iterator[str]:
    """One sentence for each thing that is wrong, as it is found; everything in the connection's one snapshot."""
    span, problems = bounds(connection)
    yield from problems
    place: Place | None = span.begin
    while place is not None:
        place, problems = check_page(connection, place, span.end)
        yield from problems
    for table in STRANGERS:
        last: str | None = ""
        while last is not None:
            last, problems = check_strangers(connection, table, last)
            yield from problems


def bounds(connection: Connection) -> tuple[Span, list[str]]:
    """The log from what its first entry has to follow from to its last one, and what is wrong with these two."""
    begin, problem = _beginning(connection)
    problems = [problem] if problem else []
    head = connection.execute(select(HEAD.c.seq, HEAD.c.hash)).first()
    told = Place(head.seq, head.hash) if head else Place(-1, "")
    last = connection.execute(select(ENTRY.c.seq, ENTRY.c.hash).order_by(ENTRY.c.seq.desc()).limit(1)).first()
    end = Place(last.seq, last.hash) if last else begin
    if end != told:
        problems.append(f"the log ends at entry {end.seq}, but its head says entry {told.seq} with another hash or number")
    return Span(begin, end), problems


def check_page(connection: Connection, begin: Place, end: Place) -> tuple[Place | None, list[str]]:
    """The entries after ``begin``, and the records that they are the last word on: what is wrong, and where to go on; None at ``end``.

    Entries that were pruned since ``begin`` was read are passed over.
    """
    pruned, problem = _beginning(connection)
    if pruned.seq > begin.seq:
        if problem:
            return None, [problem]
        begin = pruned
    if begin.seq >= end.seq:
        return None, []
    leaf = Leaf(connection, begin, end)
    problems = leaf.links()
    for book in BOOKS:
        doubtful, named = leaf.doubtful(book), leaf.named(book.kind)
        rows = _some(connection, book.table, doubtful)
        problems += _check_rows(connection, book, rows)
        problems += _gone(connection, book.kind, {ref for ref in doubtful if ref in named} - {row.id for row in rows})
    doubtful, named = leaf.doubtful_runs(), leaf.named("run")
    rows = _some(connection, RUN, doubtful)
    problems += _check_runs(connection, rows)
    problems += _gone(connection, "run", {ref for ref in doubtful if ref in named} - {row.id for row in rows})
    if leaf.last.seq < end.seq:
        return leaf.last, problems
    if leaf.last != end and leaf.entries:
        problems.append(f"entry {end.seq} was altered: it had another hash when it was looked at before")
    return None, problems


def check_strangers(connection: Connection, table: Table, after: str) -> tuple[str | None, list[str]]:
    """Rows with ids after that one which belong to nothing: as many as one look takes; what is wrong, and where to go on, or None."""
    last = connection.execute(select(table.c.id).where(table.c.id > after).order_by(table.c.id).offset(_LOOK).limit(1)).scalar()
    some = [table.c.id > after, *([table.c.id <= last] if last is not None else [])]
    if table is STEP:
        owner, words = select(RUN.c.id).where(RUN.c.id == STEP.c.run), "belongs to no run"
    else:
        # As in ``_last_entries``.
        owner = select(ENTRY.c.seq).where(ENTRY.c.ref == table.c.id, ENTRY.c.kind.concat("") == table.name)
        words = "has no entry in the log"
    found = connection.execute(select(table.c.id).where(*some, ~owner.exists()).order_by(table.c.id).limit(MOST_PROBLEMS))
    return last, [f"{table.name} {id_} {words}" for id_ in found.scalars()]


def _beginning(connection: Connection) -> tuple[Place, str]:
    """What the first entry has to follow from, and what is wrong with the checkpoint: it is as good as the last entry about it."""
    row = connection.execute(select(CHECKPOINT)).first()
    told = connection.execute(select(ENTRY.c.seq, ENTRY.c.data).where(ENTRY.c.kind == PRUNED).order_by(ENTRY.c.seq.desc()).limit(1)).first()
    if row is None:
        return Place(0, GENESIS), f"the checkpoint is gone; entry {told.seq} is about it" if told else ""
    begin, kept = Place(row.seq, row.hash), _decoded(row.data)
    if told is None:
        return begin, f"the checkpoint at entry {row.seq} has no entry in the log: more is missing than was pruned"
    said = _told(told.data)
    if kept != said or (said.get("through"), said.get("hash")) != tuple(begin):
        return begin, f"the checkpoint at entry {row.seq} is not what entry {told.seq} says"
    return begin, ""


def _some(connection: Connection, table: Table, ids: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for first in range(0, len(ids), AT_ONCE):
        found += connection.execute(select(table).where(table.c.id.in_(ids[first : first + AT_ONCE])).order_by(table.c.id)).all()
    return found


def _last_entries(connection: Connection, kind: str, refs: Sequence[str]) -> dict[str, Any]:
    # Spelled so that the index by kind does not serve: it would read all entries of the kind for every chunk.
    newest = select(func.max(ENTRY.c.seq)).where(ENTRY.c.ref.in_(refs), ENTRY.c.kind.concat("") == kind).group_by(ENTRY.c.ref)
    return {row.ref: row for row in connection.execute(select(ENTRY).where(ENTRY.c.seq.in_(newest)))}


def _gone(connection: Connection, kind: str, refs: Iterable[str]) -> Iterator[str]:
    for ref, entry in sorted(_last_entries(connection, kind, sorted(refs)).items()):
        yield f"{kind} {ref} is gone; entry {entry.seq} is about it"


def _check_rows(connection: Connection, book: Book, rows: Sequence[Any]) -> Iterator[str]:
    refs = [row.id for row in rows]
    entries = _last_entries(connection, book.kind, refs)
    closings = _last_entries(connection, book.closing[0], refs) if book.closing else {}
    for row in rows:
        entry = entries.get(row.id)
        if entry is None:
            yield f"{book.kind} {row.id} has no entry in the log"
        elif not _vouched(book, row, entry):
            yield f"{book.kind} {row.id} is not what entry {entry.seq} says"
        yield from _check_columns(book, row)
        if book.closing is not None:
            yield from _check_closing(book.kind, book.closing[1].name, row, closings.get(row.id))


def _vouched(book: Book, row: Any, entry: Any) -> bool:
    if book.by_digest:
        return bool(entry.data == digest_of(row.data))
    # Most are the same text, which need not be decoded.
    return bool(entry.data == row.data or _decoded(entry.data) == _decoded(row.data))


def _told(data: str) -> dict[str, Any]:
    """What an entry says; nothing where it was altered and is no object any more."""
    found = _decoded(data)
    return found if isinstance(found, dict) else {}


def _decoded(data: str) -> Any:
    """Plain data, or None where an altered row is no JSON any more."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None


def _check_columns(book: Book, row: Any) -> Iterator[str]:
    if book.row is None:
        return
    try:
        due = book.row(row.data)
    except (msgspec.DecodeError, msgspec.ValidationError):
        yield f"{book.kind} {row.id} cannot be read"
        return
    apart = book.closing[1].name if book.closing else None
    yield from _unequal(book.kind, book.table, row, due, apart)


def _unequal(kind: str, table: Table, row: Any, due: tuple[Any, ...], apart: str | None = None) -> Iterator[str]:
    for column, found, wanted in zip(table.columns, row, due, strict=True):
        if column.name != apart and found != wanted:
            yield f"{kind} {row.id}: the column {column.name} says {found!r}, its record {wanted!r}"


def _check_closing(kind: str, column: str, row: Any, entry: Any) -> Iterator[str]:
    found = row._mapping[column]  # noqa: SLF001 - SQLAlchemy's public name
    told = None if entry is None else _told(entry.data).get("at")
    if found != told:
        yield f"{kind} {row.id}: the column {column} says {found!r}, the log {told!r}"


def _check_runs(connection: Connection, rows: Sequence[Any]) -> Iterator[str]:
    refs = [row.id for row in rows]
    entries = _last_entries(connection, "run", refs)
    said = {ref: _told(entry.data) for ref, entry in entries.items()}
    told = {ref: {step["index"]: step for step in run.get("steps", [])} for ref, run in said.items()}
    _tell_later_steps(connection, told, {ref: entry.seq for ref, entry in entries.items()})
    steps: dict[str, dict[int, Any]] = {ref: {} for ref in refs}
    for row in connection.execute(select(STEP).where(STEP.c.run.in_(refs))):
        steps[row.run][row.position] = row
    for row in rows:
        if row.id not in entries:
            yield f"run {row.id} has no entry in the log"
            continue
        if _decoded(row.data) != {**said[row.id], "steps": []}:
            yield f"run {row.id} is not what entry {entries[row.id].seq} says"
        else:
            yield from _unequal("run", RUN, row, spelled.run_row(from_json(row.data, Run), row.data))
        yield from _check_steps(steps[row.id], told[row.id])


def _tell_later_steps(connection: Connection, told: dict[str, dict[int, Any]], since: dict[str, int]) -> None:
    """Bring the steps of runs, as the runs' last entries have them, to what the step entries after those say."""
    for run, steps in told.items():
        # "0" follows "/" in ASCII: all refs that begin with the run and a slash lie between.
        of_run = ENTRY.c.ref > f"{run}/", ENTRY.c.ref < f"{run}0", ENTRY.c.kind.concat("") == "step", ENTRY.c.seq > since[run]
        for data in connection.execute(select(ENTRY.c.data).where(*of_run).order_by(ENTRY.c.seq)).scalars():
            step = _told(data)
            steps[step.get("index", -1)] = step


def _check_steps(found: dict[int, Any], told: dict[int, Any]) -> Iterator[str]:
    for index in sorted(told.keys() - found.keys()):
        yield f"step {index} ({told[index].get('name', '')}) of a run is gone"
    for index, row in sorted(found.items()):
        if _decoded(row.data) != told.get(index):
            yield f"step {row.id} is not what the log says"
        else:
            yield from _unequal("step", STEP, row, spelled.step_row(row.run, from_json(row.data, Step), row.data))
