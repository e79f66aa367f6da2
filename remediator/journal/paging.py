"""Pages of a list, newest first, by the last row seen: what comes in meanwhile neither repeats nor hides a row.

In: a table, conditions, the two columns it is ordered by, a cursor of an earlier page. Out: the rows and the cursor of the next page.
A cursor is opaque to whoever holds it; one that this journal did not give out is a UsageError.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, tuple_

from remediator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column, ColumnElement, Connection, Table

__all__ = ["MOST", "newest_first"]

MOST = 5000
"""Rows of one page, whatever is asked for."""


def newest_first(
    connection: Connection,
    table: Table,
    conditions: Sequence[ColumnElement[bool]],
    by: Column[str],
    *,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[Any], str | None]:
    """Rows ordered by ``by`` and id, both descending, after the cursor; and the cursor that goes on from there."""
    limit = max(1, min(limit, MOST))
    statement = select(table).where(*conditions).order_by(by.desc(), table.c.id.desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(tuple_(by, table.c.id) < _read(cursor))
    rows = connection.execute(statement).all()
    last = rows[limit - 1] if len(rows) > limit else None
    return rows[:limit], None if last is None else _write(last._mapping[by], last.id)  # noqa: SLF001 - SQLAlchemy's public name


def _write(value: str, id_: str) -> str:
    return base64.urlsafe_b64encode(f"{value} {id_}".encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as problem:
        raise UsageError("that is not a cursor of this list") from problem
    value, space, id_ = text.partition(" ")
    if not space or "\0" in text:
        raise UsageError("that is not a cursor of this list")
    return value, id_
