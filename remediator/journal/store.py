"""Where the journal is kept: one SQLite file or one PostgreSQL database, behind two SQLAlchemy engines.

In: the store's URL and how long one call may take. Out: a connection for the writer, short read transactions for the readers, each
with one snapshot of committed data. Whatever the database or the disk cannot do is a JournalUnavailable that says what it was.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import weakref
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from remediator.errors import JournalUnavailable
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from sqlalchemy import Connection, Engine

__all__ = ["READERS", "Store", "error_of", "given_up_after", "is_outage", "sentence"]

READERS = 3
"""Threads and connections for reads."""
_ADVISORY_LOCK = 0x52454D45
"""Held on PostgreSQL while the schema is brought up to date."""

_LONGEST_NAME = 63
"""Characters of an application's name that PostgreSQL keeps."""

log = structlog.get_logger(__name__)


class Store:
    """One database. ``deadline`` bounds how long a statement, a lock or a connection may take."""

    def __init__(self, url: str, *, deadline: timedelta) -> None:
        self._seconds = deadline.total_seconds()
        self._lines: weakref.WeakSet[Any] = weakref.WeakSet()
        parsed = _parse(url)
        self.shown = parsed.set(query={}).render_as_string(hide_password=True)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        self.path = Path(parsed.database or "") if self.sqlite else None
        self.url = url
        """As it was given, password included."""
        self._url = parsed
        try:
            self.writing = self._engine(parsed, begin="BEGIN IMMEDIATE", pool_size=1)
            self._reading = self._engine(parsed, begin="BEGIN", pool_size=READERS)
        except ImportError as problem:
            raise JournalUnavailable("PostgreSQL needs psycopg: install remediator[postgres]") from problem

    def prepare(self) -> None:
        """Create the SQLite file, for its owner only, and switch it to write-ahead logging. Raises JournalUnavailable."""
        if self.path is None:
            return
        try:
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            pass  # another replica was quicker
        except OSError as problem:
            raise JournalUnavailable(f"the journal {self.path} cannot be created: {problem.strerror}") from problem
        with outage_of("open", self.shown), closing(sqlite3.connect(self.path, timeout=self._seconds)) as connection:
            _write_ahead(connection, self._seconds)

    def lock_schema(self, connection: Connection) -> None:
        """Hold off other replicas until this transaction ends. SQLite's transactions for writing do that by themselves."""
        if not self.sqlite:
            connection.execute(text("SET LOCAL statement_timeout = '10min'"))
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10min'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})

    @contextmanager
    def snapshot(self, *, patient: bool = False) -> Iterator[Connection]:
        """A read transaction that sees one committed state; ``patient``: its statements may take an hour. Raises JournalUnavailable."""
        with outage_of("read", self.shown), self._reading.begin() as connection:
            if patient and not self.sqlite:
                connection.exec_driver_sql("SET LOCAL statement_timeout = '1h'")
            yield connection

    def apart(self, name: str) -> Connection:
        """A session of its own on PostgreSQL, for as long as the caller keeps it; ``name`` is what the server shows for it."""
        connection = self._engine(self._url, begin="AUTOCOMMIT", pool_size=1, name=name).connect()
        return connection.execution_options(isolation_level="AUTOCOMMIT")

    def abort(self) -> None:
        """Cut the connections to a PostgreSQL server that does not answer, so that whoever waits for it is told. Any thread may call it."""
        for line in list(self._lines):
            # A connection that is closed or just closing by itself needs no cutting.
            with suppress(Exception), socket.socket(fileno=os.dup(line.fileno())) as handle:
                handle.shutdown(socket.SHUT_RDWR)

    def give_back(self) -> None:
        """Close the readers' connections to a SQLite file that are idle: each keeps 2 MB of pages. The next read opens another."""
        if self.sqlite:
            self._reading.dispose()

    def close(self) -> None:
        """Give all connections back."""
        for engine in (self.writing, self._reading):
            with suppress(SQLAlchemyError):
                engine.dispose()

    def _engine(self, url: URL, *, begin: str, pool_size: int, name: str = "remediator") -> Engine:
        if self.sqlite:
            return self._sqlite_engine(url, begin=begin, pool_size=pool_size)
        milliseconds = round(self._seconds * 1000)
        reads = begin == "BEGIN"
        # Whoever writes holds the head of the chain; a process that stands still must not keep the others from it for long.
        idle = 10 * milliseconds if reads else milliseconds // 2
        engine = create_engine(
            url,
            paramstyle="format",
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=reads,
            isolation_level="REPEATABLE READ" if reads else "READ COMMITTED",
            connect_args={
                **given_up_after(self._seconds),
                "application_name": name[:_LONGEST_NAME],
                "options": f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={idle}",
            },
        )
        event.listen(engine, "connect", lambda line, _: self._lines.add(line))
        return engine

    def _sqlite_engine(self, url: URL, *, begin: str, pool_size: int) -> Engine:
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            connect_args={"isolation_level": None, "timeout": self._seconds, "cached_statements": 256},
        )

        def on_connect(connection: sqlite3.Connection, _: Any) -> None:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 67108864")

        event.listen(engine, "connect", on_connect)
        event.listen(engine, "begin", lambda connection: connection.connection.cursor().execute(begin))
        return engine


def given_up_after(seconds: float) -> dict[str, int]:
    """What libpq is told, so that a server whose machine is gone without a word is given up: by default it waits for hours.

    ``seconds`` bounds a connection's making and what was sent without being acknowledged; an answer that does not come is asked about after
    5 s, and given up 9 s later.
    """
    return {
        "connect_timeout": max(2, round(seconds)),
        "tcp_user_timeout": round(seconds * 1000),
        "keepalives_idle": 5,
        "keepalives_interval": 3,
        "keepalives_count": 3,
    }


def _parse(url: str) -> URL:
    """The SQLAlchemy URL for what stands in the settings. Raises JournalUnavailable for anything but the two kinds of store."""
    try:
        parsed = make_url(url)
    except ArgumentError as problem:
        raise JournalUnavailable("the store's URL is malformed; write sqlite:////path or postgresql://...") from problem
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(drivername="sqlite")
    raise JournalUnavailable(f"{backend!r} is not a store; write sqlite:////path/to/file.db or postgresql://...")


def _write_ahead(connection: sqlite3.Connection, seconds: float) -> None:
    """Switch the file to write-ahead logging. Where others switch it at the same time SQLite says busy at once, whatever its timeout."""
    until = time.monotonic() + seconds
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise sqlite3.OperationalError(f"this file system does not bear write-ahead logging (the file is in mode {mode})")
        return


def is_outage(problem: BaseException) -> bool:
    """Whether the store failed, as opposed to one record that it cannot take."""
    if isinstance(problem, IntegrityError | DataError):
        return False
    return isinstance(problem, SQLAlchemyError | sqlite3.Error | OSError | JournalUnavailable)


def error_of(connection: Connection, problem: Any) -> BaseException:
    """What SQLAlchemy raises for ``problem`` of the driver, which came of a statement beside it; a broken connection is given up."""
    dialect = connection.dialect
    broken = dialect.is_disconnect(problem, connection.connection.dbapi_connection, None)
    if broken:
        connection.invalidate(problem)
    told: BaseException = DBAPIError.instance(
        None, None, problem, dialect.loaded_dbapi.Error, connection_invalidated=broken, dialect=dialect
    )
    return told


def sentence(problem: BaseException) -> str:
    """The database's own words, without the statement and its parameters (they may hold an alert's text)."""
    original = getattr(problem, "orig", None) or problem
    if type(original).__name__ == "ConnectionTimeout":  # psycopg's, which may not be installed
        return "the server did not answer a new connection in time"
    return " ".join(str(original).split())[:300] or type(original).__name__


@contextmanager
def outage_of(operation: str, shown: str) -> Iterator[None]:
    """Turns the database's errors into JournalUnavailable and counts them."""
    try:
        yield
    except Exception as problem:
        if not is_outage(problem) or isinstance(problem, JournalUnavailable):
            raise
        METRICS.store_failures.labels(operation).inc()
        raise JournalUnavailable(f"the journal at {shown} cannot {operation}: {sentence(problem)}") from problem
