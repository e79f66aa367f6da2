"""Blocking calls in threads of their own, with a deadline.

In: a call and its seconds. Out: its result, or TimeoutError when the time is up (the thread goes on until its own socket gives up; its
result is dropped), or Crowded when that many threads are still at it.

Not asyncio.to_thread and no ThreadPoolExecutor: their threads are shared or few, so that hung calls starve others, and the interpreter
waits for each of them when it exits. These are daemon threads, one a call; queries come a few a second at most.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Crowded", "Threads"]

C = TypeVar("C")
R = TypeVar("R")


class Crowded(Exception):  # noqa: N818 - a state; it never leaves the package
    """All threads are taken by calls that do not end."""


class Threads(Generic[C]):
    """Each thread works with a client of its own (they are not thread-safe), which is kept for later calls."""

    def __init__(self, make: Callable[[], C], close: Callable[[C], None], *, most: int) -> None:
        self._make = make
        self._close = close
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[C] = []
        self._busy = 0
        self._closed = False

    @property
    def busy(self) -> int:
        """Threads at work, those included that nobody waits for any more."""
        return self._busy

    async def run(self, call: Callable[[C], R], seconds: float) -> R:
        """What ``call`` returns or raises, within ``seconds``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        with self._lock:
            if self._busy >= self._most:
                raise Crowded(f"{self._busy} calls have not come back")
            self._busy += 1
        threading.Thread(target=self._work, args=(call, loop, future), daemon=True, name="prometheus").start()
        async with asyncio.timeout(seconds):
            return await future

    def close(self) -> None:
        """Close the idle clients now and the others when their calls end."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for client in idle:
            self._close(client)

    def _work(self, call: Callable[[C], R], loop: asyncio.AbstractEventLoop, future: asyncio.Future[R]) -> None:
        try:
            result = self._with_client(call)
        except Exception as error:  # noqa: BLE001 - boundary of a thread: whatever it is belongs to the one who waits
            settle = partial(_unless_done, future, partial(future.set_exception, error))
        else:
            settle = partial(_unless_done, future, partial(future.set_result, result))
        with self._lock:
            self._busy -= 1
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    def _with_client(self, call: Callable[[C], R]) -> R:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = self._make()
        try:
            return call(client)
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(client)
            if not keep:
                self._close(client)


def _unless_done(future: asyncio.Future[R], settle: Callable[[], None]) -> None:
    """The one who waited may have gone."""
    if not future.done():
        settle()
