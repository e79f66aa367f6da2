"""The journal as lines of text, and back: ``take_in`` reads the log line by line, checks its chain, and makes the rows that it vouches for.

In: the lines of an export, and a store whose journal is empty. Out: the same journal there, with one more entry that tells of it; or
nothing at all, for it is one transaction. Refused with the line and what to do: a line that is none (UsageError), an entry that was
altered or is missing, a file that was cut (ChainBroken); and a journal that holds something already (UsageError).
Rows are made from the entries, as replaying them would: of runs the last entry and the steps after it, of other records the last word.
Before the commit the whole is verified as ``journal verify`` does it.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, select, update

from remediator.errors import ChainBroken, UsageError
from remediator.journal import rows as spelled
from remediator.journal.audit import BOOKS, problems_of
from remediator.journal.chain import GENESIS, Chain, digest_of
from remediator.journal.checkpoint import PRUNED, Checkpoint
from remediator.journal.migrate import migrate
from remediator.journal.redact import canonical
from remediator.journal.rows import stamp
from remediator.journal.schema import CHECKPOINT, ENTRY, RUN, STEP
from remediator.journal.store import Store, outage_of
from remediator.journal.transaction import Statements, Transaction
from remediator.journal.writes import drop_steps
from remediator.model import Noun, Run, Step, encode, evolve, from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable

    from sqlalchemy import Column, Table

    from remediator.journal.leaf import Book
    from remediator.model import Exported

__all__ = ["Imported", "lines_of", "take_in"]

_PATIENCE = timedelta(minutes=10)
"""For one statement: nothing waits for it but this import."""
_FLUSH = 2000
"""Lines after which rows are sent, so that memory stays bounded."""
_NOTHING_KEPT = "nothing was imported"
_BOOKS = {book.kind: book for book in BOOKS}


class Imported(Noun, frozen=True, kw_only=True):
    """What an import took in."""

    entries: int
    seq: int
    """Of the last entry taken in."""
    hash: str
    kinds: dict[str, int]
    """Entries by their kind."""


class _Line(msgspec.Struct):
    """An entry as it stands in the file; ``data`` are its very bytes, which the hash is over."""

    seq: int
    at: datetime
    kind: str
    ref: str
    data: msgspec.Raw
    previous: str
    hash: str
    record: str | None = None
    playbook: str | None = None
    end: int | None = None


_entry = msgspec.json.Decoder(_Line).decode


async def lines_of(entries: AsyncIterable[Exported]) -> AsyncIterator[bytes]:
    """A line an entry; the last one says under ``end`` how many there are, which tells a whole export from one that was cut."""
    count, held = 0, None
    async for entry in entries:
        if held is not None:
            yield encode(held) + b"\n"
        count, held = count + 1, entry
    if held is not None:
        yield encode(evolve(held, end=count)) + b"\n"


def take_in(url: str, lines: Iterable[bytes], *, source: str, by: str, now: datetime) -> Imported:
    """Import ``lines`` of ``source`` (a name for messages) into the empty journal at ``url``.

    Raises UsageError, ChainBroken, JournalUnavailable; then the journal is as empty as before.
    """
    store = Store(url, deadline=_PATIENCE)
    try:
        store.prepare()
        migrate(store)
        with outage_of("import", store.shown), store.writing.begin() as connection:
            store.lock_schema(connection)
            tx = Transaction(connection, Statements(store.writing.dialect), stamp(now))
            if tx.chain.mark() != (0, GENESIS) or connection.execute(select(ENTRY.c.seq).limit(1)).first() is not None:
                raise UsageError(
                    f"the journal at {store.shown} is not empty (its last entry is {tx.chain.seq}): import into a new file or database"
                )
            done = _Intake(tx, source).read(lines)
            tx.log("import", "", canonical({"by": by, "entries": done.entries, "seq": done.seq}).decode())
            tx.finish()
            for problem in islice(problems_of(connection), 1):
                raise ChainBroken(
                    f"{source}: {problem}; {_NOTHING_KEPT}. Export it again, from a journal that `journal verify` finds whole"
                )
            return done
    finally:
        store.close()


class _Intake:
    """One file on its way in."""

    def __init__(self, tx: Transaction, source: str) -> None:
        self._tx = tx
        self._source = source
        self._number = 0
        self._kinds: Counter[str] = Counter()

    def read(self, lines: Iterable[bytes]) -> Imported:
        """All of it. Raises UsageError, ChainBroken."""
        ended = False
        for self._number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if ended:
                raise self._broken("there are lines after the last one, so this is not one export")
            ended = self._take(line)
            if self._number % _FLUSH == 0:
                self._tx.flush()
        if not ended:
            raise self._broken("it ends without the line that ends an export, so it was cut, or written by a version that cannot import")
        for book in _BOOKS.values():
            if book.closing is not None:
                self._close(*book.closing)
        return Imported(
            entries=self._kinds.total(), seq=self._tx.chain.seq, hash=self._tx.chain.hash, kinds=dict(sorted(self._kinds.items()))
        )

    def _take(self, line: bytes) -> bool:
        """Whether it is the last one."""
        try:
            entry = _entry(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # also ValidationError
            cut = "" if line.endswith(b"\n") else " (the file ends here: was it cut?)"
            raise self._odd(f"not a line of a journal's export{cut}: {error}") from error
        if not self._kinds:
            # Whether the log may begin here, the entry about what was pruned says; that is looked at when all is there.
            self._tx.chain = Chain(entry.seq - 1, entry.previous, self._tx.chain.at)
        chain, data = self._tx.chain, bytes(entry.data).decode()
        if entry.seq != chain.seq + 1 or entry.previous != chain.hash:
            raise self._broken(
                f"entry {entry.seq} does not follow entry {chain.seq}: lines are missing, or the journal was pruned meanwhile"
            )
        self._tx.log(entry.kind, entry.ref, data, stamp(entry.at))
        if self._tx.chain.hash != entry.hash:
            raise self._broken(f"entry {entry.seq} ({entry.kind} {entry.ref}) was altered: its hash is not that of its content")
        self._kinds[entry.kind] += 1
        try:
            self._keep(entry, data)
        except msgspec.DecodeError as error:
            raise self._odd(f"the record of entry {entry.seq} ({entry.kind} {entry.ref}) cannot be read: {error}") from error
        if entry.end is not None and entry.end != self._kinds.total():
            raise self._broken(f"the export had {entry.end} entries, here are {self._kinds.total()}")
        return entry.end is not None

    def _keep(self, entry: _Line, data: str) -> None:
        """The row that follows from an entry. One without its record is an older word on it."""
        book = _BOOKS.get(entry.kind)
        if book is not None:
            self._record(book, entry, data)
        elif entry.kind == "run":
            self._run(entry.ref, data)
        elif entry.kind == "step":
            self._step(entry.ref.rpartition("/")[0], msgspec.json.decode(data))
        elif entry.kind == PRUNED:
            checkpoint = from_json(data, Checkpoint)
            self._tx.upsert(CHECKPOINT, (1, checkpoint.through, checkpoint.hash, data))

    def _record(self, book: Book, entry: _Line, data: str) -> None:
        text = entry.record if book.by_digest else data
        if text is None:
            return
        if book.by_digest and digest_of(text) != data:
            raise self._broken(f"the record of entry {entry.seq} ({entry.kind} {entry.ref}) was altered: its digest is another")
        self._tx.upsert(book.table, book.row(text) if book.row else (entry.ref, entry.playbook or "", text))

    def _run(self, ref: str, data: str) -> None:
        """By what the entry says, not by what this version makes of it: the row is compared with the entry."""
        told = msgspec.json.decode(data)
        steps = told.get("steps", [])
        self._tx.upsert(RUN, spelled.run_row(from_json(data, Run), canonical({**told, "steps": []}).decode()))
        for step in steps:
            self._step(ref, step)
        drop_steps(self._tx, ref, max((step["index"] for step in steps), default=-1) + 1)

    def _step(self, run: str, step: Any) -> None:
        text = canonical(step).decode()
        self._tx.upsert(STEP, spelled.step_row(run, from_json(text, Step), text))

    def _close(self, kind: str, column: Column[Any]) -> None:
        """What entries of another kind set, when all rows are there: pruning may have told a record again after it was closed."""
        table: Table = column.table
        close = update(table).where(table.c.id == bindparam("closed")).values({column.name: bindparam("moment")})
        last = 0
        wanted = select(ENTRY.c.seq, ENTRY.c.ref, ENTRY.c.data).where(ENTRY.c.kind == kind).order_by(ENTRY.c.seq).limit(_FLUSH)
        while found := self._tx.execute(wanted.where(ENTRY.c.seq > last), on=ENTRY).all():
            self._tx.execute(close, [{"closed": row.ref, "moment": msgspec.json.decode(row.data)["at"]} for row in found], on=table)
            last = found[-1].seq

    def _odd(self, what: str) -> UsageError:
        return UsageError(f"{self._source}:{self._number}: {what}; {_NOTHING_KEPT}. Export the journal again")

    def _broken(self, what: str) -> ChainBroken:
        return ChainBroken(f"{self._source}:{self._number}: {what}; {_NOTHING_KEPT}. Export the journal again")
