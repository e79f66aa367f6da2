"""One transaction of the writer: rows and entries go in, few statements come out.

In: rows to insert or replace, statements, entries for the log. Out: the same in the database, rows of one table together in statements
of many rows (each statement costs a hand-over between threads, each row hardly anything), entries chained from the head on disk.
What is sent for every transaction goes to the driver's own cursor, since SQLAlchemy's way there takes as long as SQLite takes for it.
The order of statements on one table is kept. Raises what the database raises, and Late; the writer decides what becomes of the transaction.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from itertools import chain as flatten
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from remediator.errors import Deposed
from remediator.journal.chain import Chain
from remediator.journal.schema import ENTRY, HEAD
from remediator.journal.store import error_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, CursorResult, Dialect, Executable

    Row = Sequence[Any]
    Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
    How = Literal["insert", "upsert"]

__all__ = ["Late", "Statements", "Transaction"]

_LARGE, _MIDDLE = 64, 32
"""Rows in one statement: these, or any smaller number; so there are few statements, and few texts for the database to know."""
_ONE_ROW = re.compile(r"(?<= VALUES )(\([^()]*\))")
_TAKE_HEAD = select(HEAD.c.seq, HEAD.c.hash, HEAD.c.epoch).with_for_update()
_KEEP_HEAD = update(HEAD).values(seq=bindparam("to_seq"), hash=bindparam("to_hash"))


class Late(Exception):  # noqa: N818 - no fault of anything: a bound that the caller has set
    """The work takes longer than it may; its transaction has to be rolled back."""


class Statements:
    """Inserts of many rows as SQL text, compiled once for a dialect with positional parameters."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[tuple[How, str, int], str] = {}
        self.take_head = str(_TAKE_HEAD.compile(dialect=dialect))
        self.keep_head = str(_KEEP_HEAD.compile(dialect=dialect))

    def text(self, how: How, table: Table, count: int) -> str:
        """SQL that inserts ``count`` rows, or replaces those whose id is there; parameters are the rows' values one after the other."""
        key = how, table.name, count
        if key not in self._texts:
            self._texts[key] = self._compile(how, table, count)
        return self._texts[key]

    def _compile(self, how: How, table: Table, count: int) -> str:
        insert = (sqlite if self._dialect.name == "sqlite" else postgresql).insert(table)
        if how == "upsert":
            others = {c.name: insert.excluded[c.name] for c in table.columns if not c.primary_key}
            insert = insert.on_conflict_do_update(index_elements=[table.c.id], set_=others)
        # Compiling one row and repeating its values takes a thousandth of the time of compiling many.
        before, values, after = _ONE_ROW.split(str(insert.compile(dialect=self._dialect)), maxsplit=1)
        return f"{before}{', '.join([values] * count)}{after}"


class Transaction:
    """Work in progress on one connection, whose transaction has begun. ``now`` is the time that its entries carry.

    ``epoch``: of the replica that leads, if that is us. Raises Deposed if another one led since; the head's row is locked by then, so
    nobody can begin to lead before this transaction ends.
    """

    def __init__(self, connection: Connection, statements: Statements, now: str, epoch: int | None = None) -> None:
        self._connection = connection
        if not connection.in_transaction():
            connection.begin()  # SQLAlchemy does that by itself only for what goes through it
        self._cursor = connection.connection.cursor()
        self._statements = statements
        self._pending: dict[Table, tuple[How, list[Row] | dict[str, Row]]] = {}
        self.epoch: int
        self._run(statements.take_head)
        [(seq, hash_, self.epoch)] = self._cursor.fetchall()
        if epoch is not None and epoch != self.epoch:
            raise Deposed(f"another replica leads since: epoch {self.epoch}, ours is {epoch}")
        self.chain = Chain(seq, hash_, now)
        self._late: Callable[[], bool] | None = None

    def bound(self, late: Callable[[], bool]) -> None:
        """From now on each ``execute`` first asks ``late``, and raises Late if it is."""
        self._late = late

    def insert(self, table: Table, row: Row) -> None:
        """A new row, its values in the order of the columns; one with the same id is an IntegrityError at the latest on ``finish``."""
        self._group(table, "insert", []).append(row)

    def upsert(self, table: Table, row: Row) -> None:
        """A row that takes the place of the one with the same id (its first value)."""
        rows = self._group(table, "upsert", {})
        rows.pop(row[0], None)
        rows[row[0]] = row

    def log(self, kind: str, ref: str, data: str, at: str = "") -> None:
        """An entry of the log; ``data`` is canonical JSON. ``at`` where it is about another time than now."""
        self.insert(ENTRY, self.chain.append(kind, ref, data, at))

    def execute(self, statement: Executable, parameters: Parameters | None = None, *, on: Table) -> CursorResult[Any]:
        """Run ``statement``, which touches the table ``on`` alone, after all on it that came before; often, with several parameters."""
        if self._late is not None and self._late():
            raise Late
        self._send(on)
        return self._connection.execute(statement, parameters)

    def flush(self) -> None:
        """Send what waits."""
        for table in list(self._pending):
            self._send(table)

    def finish(self) -> None:
        """Send what waits and keep the new head of the chain. What remains is the commit."""
        self.flush()
        self._run(self._statements.keep_head, (self.chain.seq, self.chain.hash))

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A savepoint: if the block raises, what it did is undone, the rest of the transaction stands."""
        mark = self.chain.mark()
        self.flush()
        try:
            with self._connection.begin_nested():
                yield
                self.flush()
        except BaseException:
            self._pending.clear()
            self.chain.rewind(mark)
            raise

    def _group(self, table: Table, how: How, empty: Any) -> Any:
        waiting = self._pending.get(table)
        if waiting is None or waiting[0] != how:
            self._send(table)
            waiting = self._pending[table] = (how, empty)
        return waiting[1]

    def _send(self, table: Table) -> None:
        how, rows = self._pending.pop(table, ("insert", []))
        left = list(rows.values()) if isinstance(rows, dict) else rows
        begin = 0
        while (size := len(left) - begin) > 0:
            if size > _MIDDLE:
                size = _LARGE if size >= _LARGE else _MIDDLE
            values = tuple(flatten.from_iterable(left[begin : begin + size]))
            self._run(self._statements.text(how, table, size), values)
            begin += size

    def _run(self, text: str, values: Row = ()) -> None:
        try:
            self._cursor.execute(text, values)
        except self._connection.dialect.loaded_dbapi.Error as problem:
            raise error_of(self._connection, problem) from problem
