"""Whether the journal is what was written: the chain of the log, and every row against the last entry about it.

In: one snapshot. Out: a ChainReport with a sentence for each thing that does not fit: an entry altered, missing or cut off, a row altered,
slipped in or taken away, a column that says something else than its record. Nothing is repaired and nothing refused.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import func, select

from remediator.errors import JournalError
from remediator.journal import rows as spelled
from remediator.journal.anchor import disagreements
from remediator.journal.chain import GENESIS, check_links, digest_of
from remediator.journal.checkpoint import PRUNED, Checkpoint, read_checkpoint
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
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Column, Connection, Table

    from remediator.journal.anchor import Anchor, Mark

__all__ = ["BOOKS", "Book", "ChainReport", "against_anchor", "problems_of", "verify"]

MOST_PROBLEMS = 100
_CHUNK = 500


class ChainReport(Noun, frozen=True, kw_only=True):
    """What ``journal verify`` found: one sentence for each problem, at most 100 of them."""

    ok: bool
    entries: int
    problems: list[str]
    pruned: Checkpoint | None = None
    """What went before the first of the entries, where something was pruned and nothing is wrong."""
    anchored: int | None = None
    """The entry up to which the anchor outside agrees, where there is one and nothing is wrong."""


class Book(NamedTuple):
    """How the rows of one table are vouched for."""

    kind: str
    table: Table
    row: Callable[[str], tuple[Any, ...]] | None
    """The row that follows from a record's JSON; None if the record is no JSON."""
    by_digest: bool = False
    closing: tuple[str, Column[Any]] | None = None
    """The kind of entry that sets one further column, and that column."""


BOOKS = (
    Book(
        "delivery",
        DELIVERY,
        lambda data: spelled.delivery_row(from_json(data, Delivery), data),
        by_digest=True,
        closing=("decided", DELIVERY.c.decided_at),
    ),
    Book("episode", EPISODE, lambda data: spelled.episode_row(from_json(data, Episode), data), by_digest=True),
    Book("decision", DECISION, lambda data: spelled.decision_row(from_json(data, Decision), data)),
    Book("change", CHANGE, lambda data: spelled.change_row(from_json(data, Change), data)),
    Book(
        "pause",
        PAUSE,
        lambda data: spelled.pause_row(from_json(data, Pause), data),
        closing=("resume", PAUSE.c.ended_at),
    ),
    Book("revision", REVISION, None, by_digest=True),
)
"""All but runs, whose steps have rows of their own."""


def verify(connection: Connection, anchor: Anchor | None = None) -> ChainReport:
    """Read everything once, in chunks, and compare it with the anchor."""
    against, marks = against_anchor(connection, anchor)
    problems = [*against, *islice(problems_of(connection), MOST_PROBLEMS)][:MOST_PROBLEMS]
    count = connection.execute(select(func.count()).select_from(ENTRY)).scalar_one()
    pruned = Checkpoint() if problems else read_checkpoint(connection.execute)
    return ChainReport(
        ok=not problems,
        entries=count,
        problems=problems,
        pruned=pruned if pruned.through else None,
        anchored=marks[-1].seq if marks and not problems else None,
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
    """One sentence for each thing that is wrong, as it is found."""
    head = connection.execute(select(HEAD.c.seq, HEAD.c.hash)).first()
    log = connection.execute(select(ENTRY).order_by(ENTRY.c.seq).execution_options(yield_per=1000))
    begin, problem = _beginning(connection)
    if problem:
        yield problem
    yield from check_links(log, (head.seq, head.hash) if head else (-1, ""), begin)
    for book in BOOKS:
        for rows in _chunks(connection, book.table):
            yield from _check_rows(connection, book, rows)
        yield from _gone(connection, book.kind, book.table)
    for rows in _chunks(connection, RUN):
        yield from _check_runs(connection, rows)
    yield from _gone(connection, "run", RUN)
    orphans = select(STEP.c.id).where(~select(RUN.c.id).where(RUN.c.id == STEP.c.run).exists()).limit(MOST_PROBLEMS)
    for row in connection.execute(orphans):
        yield f"step {row.id} belongs to no run"


def _beginning(connection: Connection) -> tuple[tuple[int, str], str]:
    """What the first entry has to follow from, and what is wrong with the checkpoint: it is as good as the last entry about it."""
    row = connection.execute(select(CHECKPOINT)).first()
    told = connection.execute(select(ENTRY.c.seq, ENTRY.c.data).where(ENTRY.c.kind == PRUNED).order_by(ENTRY.c.seq.desc()).limit(1)).first()
    if row is None:
        return (0, GENESIS), f"the checkpoint is gone; entry {told.seq} is about it" if told else ""
    begin, kept = (row.seq, row.hash), _decoded(row.data)
    if told is None:
        return begin, f"the checkpoint at entry {row.seq} has no entry in the log: more is missing than was pruned"
    said = _told(told.data)
    if kept != said or (said.get("through"), said.get("hash")) != begin:
        return begin, f"the checkpoint at entry {row.seq} is not what entry {told.seq} says"
    return begin, ""


def _chunks(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    last = ""
    while rows := connection.execute(select(table).where(table.c.id > last).order_by(table.c.id).limit(_CHUNK)).all():
        yield rows
        last = rows[-1].id


def _last_entries(connection: Connection, kind: str, refs: Sequence[str]) -> dict[str, Any]:
    # Spelled so that the index by kind does not serve: it would read all entries of the kind for every chunk.
    newest = select(func.max(ENTRY.c.seq)).where(ENTRY.c.ref.in_(refs), ENTRY.c.kind.concat("") == kind).group_by(ENTRY.c.ref)
    return {row.ref: row for row in connection.execute(select(ENTRY).where(ENTRY.c.seq.in_(newest)))}


def _gone(connection: Connection, kind: str, table: Table) -> Iterator[str]:
    there = select(table.c.id).where(table.c.id == ENTRY.c.ref).exists()
    lost = select(ENTRY.c.ref, func.max(ENTRY.c.seq).label("seq")).where(ENTRY.c.kind == kind, ~there)
    for row in connection.execute(lost.group_by(ENTRY.c.ref).limit(MOST_PROBLEMS)):
        yield f"{kind} {row.ref} is gone; entry {row.seq} is about it"


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
    if not told:
        return
    # "0" follows "/" in ASCII: all refs that begin with a run and a slash lie between; so may those of runs that are not asked for.
    least, most = min(f"{run}/" for run in told), max(f"{run}0" for run in told)
    between = select(ENTRY.c.seq, ENTRY.c.ref, ENTRY.c.data).where(ENTRY.c.ref > least, ENTRY.c.ref < most)
    # As in ``_last_entries``.
    of_steps = between.where(ENTRY.c.kind.concat("") == "step")
    for row in connection.execute(of_steps.order_by(ENTRY.c.ref, ENTRY.c.seq).execution_options(yield_per=1000)):
        run = row.ref.rpartition("/")[0]
        if run in told and row.seq > since[run]:
            step = _told(row.data)
            told[run][step.get("index", -1)] = step


def _check_steps(found: dict[int, Any], told: dict[int, Any]) -> Iterator[str]:
    for index in sorted(told.keys() - found.keys()):
        yield f"step {index} ({told[index].get('name', '')}) of a run is gone"
    for index, row in sorted(found.items()):
        if _decoded(row.data) != told.get(index):
            yield f"step {row.id} is not what the log says"
        else:
            yield from _unequal("step", STEP, row, spelled.step_row(row.run, from_json(row.data, Step), row.data))
