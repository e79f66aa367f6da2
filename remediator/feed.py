"""What changed, for those who watch: the daemon publishes, streams listen. In memory, on the event loop's thread, and never waiting.

A watcher of one thing gets version numbers and reads the journal for the rest, so it can miss nothing and needs no queue. A listener to
everything has a bounded queue; one that does not keep up is cut off, and reads anew when it comes back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Feed", "Listener", "Notice"]


class Notice(Noun, frozen=True, kw_only=True):
    """Something changed; ``kind`` is that of journal entries (run, delivery, pause, ...), ``ref`` the id of what changed."""

    seq: int
    kind: str
    ref: str


class Listener:
    """One listener's queue. Iterate over it; it ends when the feed closes or when the listener fell too far behind (``dropped``)."""

    def __init__(self, limit: int) -> None:
        self.dropped = False
        self.closed = False
        self._limit = limit
        self._queue: deque[Notice] = deque()
        self._wake = asyncio.Event()

    def put(self, notice: Notice) -> None:
        """Queue ``notice``; one too many empties the queue and ends the iteration."""
        if len(self._queue) >= self._limit:
            self.dropped = True
            self.close()
            self._queue.clear()
        if not self.closed:
            self._queue.append(notice)
            self._wake.set()

    def close(self) -> None:
        """End the iteration once what is queued has been taken."""
        self.closed = True
        self._wake.set()

    async def get(self) -> Notice | None:
        """The next notice; None at the end."""
        while not self._queue and not self.closed:
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft() if self._queue else None

    async def __aiter__(self) -> AsyncIterator[Notice]:
        while (notice := await self.get()) is not None:
            yield notice


class Feed:
    """Versions of what changed lately, and the listeners."""

    def __init__(self, *, queue: int = 256, remembered: int = 4096) -> None:
        self.closed = False
        self._seq = 0
        self._queue = queue
        self._remembered = remembered
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._watchers: dict[str, set[asyncio.Future[None]]] = {}
        self._listeners: set[Listener] = set()

    def publish(self, kind: str, ref: str) -> None:
        """Say that ``ref`` changed. Call it after the change was committed; it returns at once."""
        self._seq += 1
        self._versions[ref] = self._seq
        self._versions.move_to_end(ref)
        if len(self._versions) > self._remembered:
            self._versions.popitem(last=False)
        if ref in self._watchers:
            self._wake(self._watchers.pop(ref))
        if self._listeners:
            notice = Notice(seq=self._seq, kind=kind, ref=ref)
            for listener in self._listeners:
                listener.put(notice)

    def version(self, ref: str) -> int:
        """A number that grows whenever ``ref`` changes; 0 if it did not change lately."""
        return self._versions.get(ref, 0)

    async def next_change(self, ref: str, seen: int) -> int:
        """Wait until the version of ``ref`` is above ``seen`` and return it; returns ``seen`` when the feed closes."""
        while not self.closed and self.version(ref) <= seen:
            future = asyncio.get_running_loop().create_future()
            self._watchers.setdefault(ref, set()).add(future)
            try:
                await future
            finally:
                self._forget(ref, future)
        return max(seen, self.version(ref))

    def listen(self) -> Listener:
        """A listener to everything from now on; give it back with ``leave``."""
        listener = Listener(self._queue)
        if self.closed:
            listener.close()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def close(self) -> None:
        """End every wait, at shutdown."""
        self.closed = True
        for futures in self._watchers.values():
            self._wake(futures)
        for listener in self._listeners:
            listener.close()

    def _forget(self, ref: str, future: asyncio.Future[None]) -> None:
        waiting = self._watchers.get(ref)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._watchers[ref]

    @staticmethod
    def _wake(futures: set[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)
