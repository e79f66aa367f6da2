"""Who may act on a store: one daemon alone, or any number of replicas that elect one of them.

In: a store, and whether we are alone. Out: a seat, held until it is given back or its process dies. Refused with Occupied: a second daemon
that is alone, and one that is alone beside replicas that elect, since neither would know what the other does.

On PostgreSQL the seat is an advisory lock of a session of its own: exclusive for one that is alone, shared among those that elect. The
server lets go of it when the session ends, also where the other side is gone without a word (keepalives, below). On SQLite, where nobody
elects, it is a lock on a file beside the journal, which the system lets go of with its process.
"""

from __future__ import annotations

import fcntl
import os
import threading
import zlib
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from remediator.clock import iso
from remediator.errors import JournalUnavailable, Occupied
from remediator.journal.store import outage_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from remediator.journal.store import Store

__all__ = ["Seat"]

_KEY = {"space": 0x52454D45, "key": 1}
_ALONE = text("SELECT pg_try_advisory_lock(:space, :key)")
_TOGETHER = text("SELECT pg_try_advisory_lock_shared(:space, :key)")
_KEEPALIVES = (
    "SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false), "
    "set_config('tcp_keepalives_count', '3', false)"
)
"""After 14 s without an answer the server takes a session for dead; by default that is two hours."""
_PLACE = 0x52454D4E
_HERE = text("SELECT pg_try_advisory_lock_shared(:space, :node)")
"""Where a replica runs, as a lock for its session: among those that elect, so that one knows whether another is elsewhere."""
_ELSEWHERE = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = :space AND objid::bigint <> :node AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_HOLDERS = text(
    "SELECT DISTINCT a.application_name, host(a.client_addr), a.backend_start, l.mode FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.classid::bigint = :space AND l.objid::bigint = :key AND l.granted AND pid <> pg_backend_pid() "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY a.backend_start"
)


class Seat:
    """``take`` it, ``look`` now and then whether it is still ours, give it back with ``close`` for good. All of them block."""

    def __init__(self, store: Store, *, alone: bool, by: str, node: str = "") -> None:
        self._store = store
        self._alone = alone
        self._by = by
        self._node = zlib.crc32(node.encode()) >> 1 if node and not alone else None
        self._session: Connection | None = None
        self._file: int | None = None
        self._turn = threading.Lock()
        self._closed = False

    def take(self) -> None:
        """Raises Occupied if others are there, JournalUnavailable if the store cannot tell."""
        with self._turn:
            self._take()

    def look(self) -> None:
        """Still ours, or taken again after its session broke. Raises as ``take``: Occupied once somebody else was quicker."""
        with self._turn:
            if self._closed or self._file is not None:
                return
            if self._session is not None:
                try:
                    self._session.exec_driver_sql("SELECT 1")
                except SQLAlchemyError:
                    _drop(self._session)
                    self._session = None
                else:
                    return
            self._take()

    def others_elsewhere(self) -> bool:
        """Whether another replica that elects sits on another node than ours; False if nobody can tell."""
        with self._turn:
            if self._session is None or self._node is None:
                return False
            try:
                return bool(self._session.execute(_ELSEWHERE, {"space": _PLACE, "node": self._node}).scalar())
            except SQLAlchemyError:
                return False

    def close(self) -> None:
        """Let others have it."""
        with self._turn:
            self._closed = True
            if self._session is not None:
                with suppress(Exception):  # else the server lets go of it a moment later, with the session
                    self._session.exec_driver_sql("SELECT pg_advisory_unlock_all()")
                _drop(self._session)
                self._session = None
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _take(self) -> None:
        if self._store.path is not None:
            self._lock(self._store.path)
            return
        with outage_of("lock", self._store.shown):
            session = self._store.apart(f"remediator {self._by}")
            try:
                session.exec_driver_sql(_KEEPALIVES)
                taken = session.execute(_ALONE if self._alone else _TOGETHER, _KEY).scalar()
                holders = () if taken else session.execute(_HOLDERS, _KEY).all()
                if taken and self._node is not None:
                    session.execute(_HERE, {"space": _PLACE, "node": self._node})
            except BaseException:
                _drop(session)
                raise
        if not taken:
            _drop(session)
            raise Occupied(_told(self._store.shown, holders))
        self._session = session

    def _lock(self, journal: Path) -> None:
        path = journal.with_name(f"{journal.name}.lock")
        try:
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise JournalUnavailable(f"the lock beside the journal, {path}, cannot be opened: {problem.strerror}") from problem
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 0)
            os.pwrite(file, f"{self._by}, process {os.getpid()}\n".encode(), 0)
        except BlockingIOError as problem:
            holder = os.pread(file, 200, 0).decode("utf-8", "replace").strip()
            os.close(file)
            raise Occupied(_WORDS.format(store=path, holders=holder or "another process")) from problem
        except OSError as problem:
            os.close(file)
            raise JournalUnavailable(f"the lock beside the journal, {path}, cannot be taken: {problem.strerror}") from problem
        self._file = file


_WORDS = (
    "another daemon acts on {store}: {holders}. Of several daemons on one store none may act alone: "
    "stop the others, or set election.enabled for all of them"
)


def _told(store: str, found: Sequence[Any]) -> str:
    holders = []
    for name, host, since, mode in found:
        where = f" from {host}" if host else ""
        what = ", of those that elect" if mode == "ShareLock" else ""
        holders.append(f"{name}{where} since {iso(since.astimezone(UTC))}{what}")
    return _WORDS.format(store=store, holders="; ".join(holders) or "it has just gone")


def _drop(session: Connection) -> None:
    with suppress(Exception):  # it may be broken in any way; the server ends it with its connection
        session.invalidate()
    with suppress(Exception):  # the same
        session.close()
