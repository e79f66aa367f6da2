"""A page of the log with the records that its entries are about: whether the links hold, and which records are in doubt.

In: a connection with a snapshot, where the page begins. Out: sentences about links, refs of records that have to be looked at closely.
A record is taken at the last word that the page has on it. Where that does not fit and a later page has another word, it is not in doubt
here: that page looks at it. All in plain tuples, since there are many millions.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import select

from remediator.journal import glance
from remediator.journal.chain import check_links
from remediator.journal.schema import ENTRY, RUN, STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Column, Connection, Table

__all__ = ["AT_ONCE", "Book", "Leaf", "Place", "Span"]

AT_ONCE = 500
"""Ids in one statement."""
_ENTRIES = 5000
"""Of one page; a tenth of a second."""


class Place(NamedTuple):
    """An entry of the log, by its number and hash."""

    seq: int
    hash: str


class Span(NamedTuple):
    """The entries after ``begin`` up to ``end``."""

    begin: Place
    end: Place


class Book(NamedTuple):
    """How the rows of one table are vouched for."""

    kind: str
    table: Table
    row: Callable[[str], tuple[Any, ...]] | None
    """The row that follows from a record's JSON; None if the record is no JSON."""
    fits: Callable[[Sequence[Any]], bool] | None = None
    """Whether the columns of a row are right for certain; None if there are few, so that each is looked at closely."""
    by_digest: bool = False
    closing: tuple[str, Column[Any]] | None = None
    """The kind of entry that sets one further column, and that column."""


class Leaf:
    """One page."""

    def __init__(self, connection: Connection, begin: Place, end: Place) -> None:
        self._connection = connection
        self._begin = begin
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        text = f"{_columns(connection, ENTRY)} WHERE seq > {mark} AND seq <= {mark} ORDER BY seq LIMIT {_ENTRIES}"
        self.entries: list[tuple[Any, ...]] = _raw(connection, text, (begin.seq, end.seq))
        self.last = Place(self.entries[-1][0], self.entries[-1][-1]) if self.entries else end
        """Where the next page begins."""
        self._words: dict[str, dict[str, str]] = defaultdict(dict)
        """By kind and ref the last word."""
        for _, _, kind, ref, data, _, _ in self.entries:
            self._words[kind][ref] = data

    def links(self) -> list[str]:
        """What is wrong with the chain."""
        if not self.entries:
            return [f"entries {self._begin.seq + 1} to {self.last.seq} are missing"]
        return list(check_links(self.entries, self.last, self._begin))

    def named(self, kind: str) -> Iterable[str]:
        """The refs that entries of that kind have."""
        return self._words[kind]

    def doubtful(self, book: Book) -> list[str]:
        """Records of one book, by their ref."""
        told = self._words[book.kind]
        closings = self._words[book.closing[0]] if book.closing else {}
        rows = {row[0]: row for row in self._rows(book.table.c.id, {**told, **closings})}
        unlike = [ref for ref, data in told.items() if not _fits(book, rows.get(ref), data)]
        doubtful = self._without_later(unlike, book.kind)
        if book.closing:
            kind, column = book.closing
            place = list(book.table.columns).index(column)
            closed = {ref: glance.closed_at(data) for ref, data in closings.items()}
            doubtful += self._without_later([ref for ref, row in rows.items() if row[place] != closed.get(ref)], kind)
        return list(dict.fromkeys(doubtful))

    def doubtful_runs(self) -> list[str]:
        """Runs that are not for certain, with their steps, as the log has them."""
        told: dict[str, tuple[str, dict[str, str]]] = {}
        alone = set()
        for _, _, kind, ref, data, _, _ in self.entries:
            if kind == "run":
                told[ref] = data, {}
            elif kind == "step":
                run = ref.rpartition("/")[0]
                if run in told:
                    told[run][1][ref] = data
                else:
                    alone.add(run)
        steps: dict[str, list[Any]] = defaultdict(list)
        for row in self._rows(STEP.c.run, told):
            steps[row[1]].append(row)
        rows = {row[0]: row for row in self._rows(RUN.c.id, told)}
        unlike = [id_ for id_, (data, later) in told.items() if not _run_fits(rows.get(id_), steps[id_], data, later)]
        return self._without_later([*unlike, *sorted(alone - told.keys())], "run")

    def _rows(self, column: Column[Any], values: Iterable[str]) -> list[tuple[Any, ...]]:
        wanted, found = list(values), []
        sqlite = self._connection.dialect.name == "sqlite"
        text = f"{_columns(self._connection, column.table)} WHERE {column.name}"
        for first in range(0, len(wanted), AT_ONCE):
            some = wanted[first : first + AT_ONCE]
            if sqlite:
                found += _raw(self._connection, f"{text} IN ({', '.join('?' * len(some))})", tuple(some))
            else:
                found += _raw(self._connection, f"{text} = ANY(%s)", (some,))
        return found

    def _without_later(self, refs: Sequence[str], kind: str) -> list[str]:
        """Those that no later page has a word of that kind on."""
        later: set[str] = set()
        for first in range(0, len(refs), AT_ONCE):
            # Spelled so that the index by kind does not serve: it would read all later entries of the kind.
            of_kind = ENTRY.c.ref.in_(refs[first : first + AT_ONCE]), ENTRY.c.kind.concat("") == kind
            later.update(self._connection.execute(select(ENTRY.c.ref).where(*of_kind, ENTRY.c.seq > self.last.seq).distinct()).scalars())
        return [ref for ref in refs if ref not in later]


def _fits(book: Book, row: Sequence[Any] | None, told: str) -> bool:
    if row is None or book.fits is None or not (glance.digest_fits(told, row[-1]) if book.by_digest else told == row[-1]):
        return False
    try:
        return book.fits(row)
    except msgspec.DecodeError:  # also ValidationError
        return False


def _run_fits(row: Sequence[Any] | None, steps: Sequence[Sequence[Any]], told: str, later: dict[str, str]) -> bool:
    try:
        return row is not None and glance.run_fits(row, steps, told, later)
    except msgspec.DecodeError:  # as above
        return False


def _columns(connection: Connection, table: Table) -> str:
    return str(select(table).compile(dialect=connection.dialect))


def _raw(connection: Connection, text: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Without a row object for each, which would cost as much as the reading."""
    with connection.exec_driver_sql(text, values) as result:
        cursor: Any = result.cursor
        return list(cursor.fetchall())
