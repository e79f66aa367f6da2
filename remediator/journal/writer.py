"""The one writer: a thread that takes whatever waits and commits it together.

In: units of work from the event loop, at most ``queue_limit`` of them and 64 MiB waiting; those of one turn of the loop are handed over
together, so that the thread is woken once for all of them. Out: each unit's future, resolved on the loop after the commit, all of a batch
with one call. Refused with JournalUnavailable: a unit when the queue is full or the journal closed, and every unit of a batch whose
transaction or commit failed; nothing of it is kept then. A commit that hangs is given up too, and may land later, but before any other
one. A unit that cannot be stored for its own fault
(JournalError) does not fail the others: the batch is tried again with a savepoint around each. Long work is a batch of its own (``hold``),
so that it can be told how long it held up the others, and undone where that is too long.

After a failure the writer tries a commit of its own every second, so that ``healthy`` comes back when the store does.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from remediator.errors import Deposed, JournalError, JournalUnavailable
from remediator.journal import writes
from remediator.journal.rows import stamp
from remediator.journal.schema import ENTRY
from remediator.journal.store import is_outage, sentence
from remediator.journal.transaction import Late, Statements, Transaction
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection

    from remediator.clock import Clock
    from remediator.journal.store import Store

    T = TypeVar("T")

__all__ = ["Held", "Writer"]

BATCH_UNITS = 512
BATCH_BYTES = 8 << 20
QUEUE_BYTES = 64 << 20
PROBE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Held(NamedTuple):
    """For how many seconds nobody else could write."""

    statements: float
    commit: float


@dataclass(slots=True, eq=False)
class _Unit:
    """Something to do in a transaction, and who waits for it."""

    work: Callable[[Transaction], Any]
    size: int
    done: asyncio.Future[Any]
    alone: bool = False
    """A batch of its own; ``held`` says then how long its transaction took."""
    within: float | None = None
    """Seconds after which it is undone; of one that is alone."""
    held: Held = Held(0.0, 0.0)  # noqa: RUF009 - a tuple
    given_up: bool = False


class Writer:
    """Owns the thread and its connection. All but the thread's own methods belong to the event loop."""

    def __init__(
        self, store: Store, clock: Clock, *, queue_limit: int, deadline: timedelta, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._limit = queue_limit
        self._deadline = deadline.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._ticks = ticks
        self._gathered: list[_Unit] = []
        """Of this turn of the loop, not handed over yet."""
        self._queue: queue.SimpleQueue[Sequence[_Unit] | None] = queue.SimpleQueue()
        self._waiting: dict[_Unit, None] = {}
        self._bytes = 0
        self._closed = False
        self._ended = asyncio.Event()
        self._watch: asyncio.TimerHandle | None = None
        # of the thread
        self._taken: deque[_Unit] = deque()
        """Handed over, and not in a batch yet."""
        self._last = False
        """Whether nothing comes after them."""
        self._statements = Statements(store.writing.dialect)
        self._connection: Connection | None = None
        self._began: float | None = None
        self._epoch: int | None = None
        self.deposed = False
        self.healthy = True
        self._thread = threading.Thread(target=self._main, name="journal-writer", daemon=True)

    @property
    def depth(self) -> int:
        """How many units wait for their commit."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to take units."""
        self._thread.start()

    def write(self, work: Callable[[Transaction], T], size: int = 0) -> Awaitable[T]:
        """What ``work`` returns, after the commit. Raises JournalUnavailable (not kept, or not yet), or JournalError (it cannot be)."""
        return self._enqueue(_Unit(work, size, self._loop.create_future()))

    async def hold(self, work: Callable[[Transaction], T], *, within: float | None = None) -> tuple[T | None, Held]:
        """As ``write``, in a transaction of its own; also for how long nobody else could write.

        None, and nothing of it is kept, where a statement would have begun later than ``within`` seconds after the first one.
        """
        unit = _Unit(work, 0, self._loop.create_future(), alone=True, within=within)
        done: T | None = await self._enqueue(unit)
        return done, unit.held

    def _enqueue(self, unit: _Unit) -> asyncio.Future[Any]:
        size = unit.size
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        if len(self._waiting) >= self._limit or self._bytes + size > QUEUE_BYTES:
            METRICS.store_failures.labels("queue").inc()
            raise JournalUnavailable(f"{len(self._waiting)} writes wait for the journal already")
        self._waiting[unit] = None
        self._bytes += size
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline, self._look)
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(unit)
        return unit.done

    def _hand_over(self) -> None:
        """Give the thread what this turn of the loop brought. Waking a thread that waits costs as much as the rest of taking a unit."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._queue.put(gathered)

    async def lead(self, by: str) -> int:
        """From now on write only as the one that leads, and only until another one does; the number of it. Raises as ``write``."""
        epoch = await self.write(partial(writes.lead, by=by))
        self._epoch = epoch
        return epoch

    async def close(self) -> None:
        """Take nothing more, commit what waits, end the thread; a store that does not answer holds it up for two deadlines at most."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        try:
            async with asyncio.timeout(2 * self._deadline):
                await self._ended.wait()
        except TimeoutError:
            self._store.abort()
            log.warning("the journal's writer does not end; its store does not answer", store=self._store.shown)
        if self._watch is not None:
            self._watch.cancel()

    def _look(self) -> None:
        """Cut off a store that does not answer: once the deadline is over the connection, a second later the patience of who waits."""
        self._watch = None
        if not self._waiting:
            return
        late = 0.0 if self._began is None else time.monotonic() - self._began - self._deadline
        if late > 0:
            self._store.abort()
        if late > 1:
            self._give_up()
        self._watch = self._loop.call_later(min(1.0, self._deadline), self._look)

    def _give_up(self) -> None:
        """Nobody waits longer for a store that hangs. What the thread has not begun it will not store; of what it has, nobody can say."""
        for unit in self._waiting:
            unit.given_up = True
        outcome = JournalUnavailable(f"the journal at {self._store.shown} does not answer")
        self._settle(list(self._waiting), [outcome] * len(self._waiting))

    def _settle(self, batch: Sequence[_Unit], outcomes: Sequence[Any]) -> None:
        """Tell who waits; on the loop."""
        for unit, outcome in zip(batch, outcomes, strict=True):
            if unit in self._waiting:
                del self._waiting[unit]
                self._bytes -= unit.size
            if unit.done.done():
                continue
            if isinstance(outcome, JournalError):
                unit.done.set_exception(type(outcome)(*outcome.args).with_traceback(None))
            else:
                unit.done.set_result(outcome)

    # the thread

    def _main(self) -> None:
        while (batch := self._next()) is not None:
            outcomes = self._commit(batch)
            self._tell(self._settle, batch, outcomes)
        self._drop()
        self._tell(self._ended.set)

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop was closed before the journal: nobody waits any more
            self._loop.call_soon_threadsafe(what, *args)

    def _next(self) -> list[_Unit] | None:
        """All that waits, up to the bounds of a batch; empty when it is time to probe a store that failed; None at the end."""
        if not self._taken and not self._last:
            try:
                self._take(self._queue.get(timeout=None if self.healthy else PROBE_SECONDS))
            except queue.Empty:
                return []
        while not self._queue.empty():
            self._take(self._queue.get())
        if not self._taken:
            return None
        batch: list[_Unit] = []
        size = 0
        while self._taken and len(batch) < BATCH_UNITS and size < BATCH_BYTES:
            if batch and (batch[0].alone or self._taken[0].alone):
                break
            unit = self._taken.popleft()
            batch.append(unit)
            size += unit.size
        return [unit for unit in batch if not unit.given_up]

    def _take(self, handed: Sequence[_Unit] | None) -> None:
        if handed is None:
            self._last = True
        else:
            self._taken.extend(handed)

    def _commit(self, batch: list[_Unit]) -> list[Any]:
        """One outcome for each unit: what it returned, or the JournalError to raise."""
        self._began = time.monotonic()
        try:
            outcomes = self._store_batch(batch)
        except Exception as problem:  # noqa: BLE001 - the thread must outlive whatever happens; everybody is told
            self.deposed = self.deposed or isinstance(problem, Deposed)
            self._drop()
            self._ill(problem)
            outage = JournalUnavailable(f"the journal at {self._store.shown} cannot be written: {sentence(problem)}")
            return [outage] * len(batch)
        finally:
            self._began = None
        self._well()
        return outcomes

    def _store_batch(self, batch: list[_Unit]) -> list[Any]:
        try:
            return self._transact(batch, apart=False)
        except Exception as problem:
            if is_outage(problem):
                raise
        return self._transact(batch, apart=True)

    def _transact(self, batch: list[_Unit], *, apart: bool) -> list[Any]:
        connection, transaction = self._begin()
        began = self._ticks()
        long = batch[0] if batch and batch[0].alone else None
        if long is not None and (within := long.within) is not None and not apart:
            transaction.bound(lambda: self._ticks() > began + within)
        try:
            outcomes = [(_alone if apart else _together)(transaction, unit) for unit in batch]
            transaction.finish()
        except Late:
            connection.rollback()
            batch[0].held = Held(self._ticks() - began, 0.0)
            return [None]
        except BaseException:
            connection.rollback()
            raise
        done = self._ticks()
        try:
            connection.commit()
        except DBAPIError:
            self._drop()
            if not self._landed(transaction):
                raise
        if long is not None:
            long.held = Held(done - began, self._ticks() - done)
        return outcomes

    def _begin(self) -> tuple[Connection, Transaction]:
        """A transaction; a connection that was lost while nobody used it is replaced once, unnoticed."""
        fresh = self._connection is None
        try:
            return self._open()
        except DBAPIError as problem:
            self._drop()
            if fresh or not problem.connection_invalidated:
                raise
        return self._open()

    def _open(self) -> tuple[Connection, Transaction]:
        if self._connection is None:
            self._connection = self._store.writing.connect()
        return self._connection, Transaction(self._connection, self._statements, stamp(self._clock.now()), self._epoch)

    def _landed(self, transaction: Transaction) -> bool:
        """After a commit that ended in an error: whether it took place all the same. False if that cannot be found out."""
        last = select(ENTRY.c.hash).where(ENTRY.c.seq == transaction.chain.seq)
        try:
            with self._store.writing.begin() as connection:
                return bool(connection.execute(last).scalar() == transaction.chain.hash)
        except Exception as problem:
            if is_outage(problem):
                return False
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it may be broken in any way; the next batch opens another
                connection.rollback()
            with suppress(Exception):  # the same
                connection.invalidate()
            with suppress(Exception):  # the same
                connection.close()

    def _ill(self, problem: Exception) -> None:
        METRICS.store_failures.labels("write").inc()
        if self.healthy:
            log.error("journal unavailable", store=self._store.shown, error=sentence(problem))
        self.healthy = False

    def _well(self) -> None:
        if not self.healthy:
            log.info("journal available again", store=self._store.shown)
        self.healthy = True


def _together(transaction: Transaction, unit: _Unit) -> Any:
    return unit.work(transaction)


def _alone(transaction: Transaction, unit: _Unit) -> Any:
    """As ``_together``, but a unit's own fault becomes its outcome."""
    try:
        with transaction.apart():
            return unit.work(transaction)
    except Exception as problem:
        if is_outage(problem):
            raise
        log.warning("record refused by the journal", error=sentence(problem))
        return problem if isinstance(problem, JournalError) else JournalError(f"the journal cannot take it: {sentence(problem)}")
