"""The loop that runs controllers after changes, and timers on the simulated clock.

In come changes of the store; out come calls of ``reconcile``, one a key however many changes there were, within the event loop's next
turn. Nothing here sleeps on real time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from datetime import timedelta

    from remediator.clock import Clock
    from remediator.sim.store import Change, Store

__all__ = ["ControlLoop", "Controller"]

_AT_ONCE = 500


class Controller(Protocol):
    """What the loop runs."""

    @property
    def tables(self) -> tuple[tuple[str, str], ...]:
        """Whose changes concern it."""
        ...

    def keys(self, change: Change) -> Iterable[Hashable]:
        """What to look at after a change."""
        ...

    def reconcile(self, key: Any) -> None:
        """Bring one thing closer to what is wanted. Called again after every change that concerns it."""
        ...


class ControlLoop:
    """Runs controllers and timers of one cluster."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._by_table: dict[tuple[str, str], list[Controller]] = {}
        self._queue: dict[tuple[int, Hashable], Controller] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False
        self._timers: set[asyncio.Task[None]] = set()
        store.subscribe(self._changed)

    def add(self, controller: Controller) -> None:
        """Run one more controller."""
        for table in controller.tables:
            self._by_table.setdefault(table, []).append(controller)

    def start(self) -> None:
        """From now on run in the current event loop."""
        self._loop = asyncio.get_running_loop()
        self._schedule()

    async def stop(self) -> None:
        """Run nothing any more."""
        self._loop = None
        self._queue.clear()
        timers = [*self._timers]
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)

    def enqueue(self, controller: Controller, key: Hashable) -> None:
        """Have one thing looked at."""
        self._queue[id(controller), key] = controller
        self._schedule()

    def after(self, delay: timedelta, action: Callable[..., None], *args: Any) -> None:
        """Call ``action`` when ``delay`` has passed on the clock; does nothing before ``start``."""
        if self._loop is None:
            return
        timer = self._loop.create_task(self._wait(delay, action, args))
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)

    def drain(self) -> None:
        """Run until nothing is left to look at."""
        while self._queue:
            self._run_one()

    async def _wait(self, delay: timedelta, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        await self.clock.sleep(delay)
        action(*args)

    def _changed(self, change: Change) -> None:
        for controller in self._by_table.get(change.table, ()):
            for key in controller.keys(change):
                self._queue[id(controller), key] = controller
        self._schedule()

    def _schedule(self) -> None:
        if self._loop is not None and self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        for _ in range(_AT_ONCE):
            if not self._queue:
                return
            self._run_one()
        self._schedule()

    def _run_one(self) -> None:
        (identity, key), controller = next(iter(self._queue.items()))
        del self._queue[identity, key]
        controller.reconcile(key)
