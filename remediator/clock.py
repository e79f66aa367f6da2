"""The one source of time. Everything that waits, waits on a Clock, so tests and the demo can drive it.

``SystemClock`` is the wall clock; ``FastClock`` runs at a multiple of it (demo, playbook tests); ``ManualClock`` stands still until told.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "FastClock", "ManualClock", "SystemClock", "iso", "parse_time"]


class Clock(Protocol):
    """What the product may know about time."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...

    async def sleep(self, duration: timedelta) -> None:
        """Return when ``duration`` has passed on this clock; at once if it is zero or negative."""
        ...


class SystemClock:
    """The wall clock."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    async def sleep(self, duration: timedelta) -> None:
        """See Clock."""
        await asyncio.sleep(max(0.0, duration.total_seconds()))


class FastClock:
    """The wall clock from its creation on, ``rate`` times as fast."""

    def __init__(self, rate: float, *, start: datetime | None = None) -> None:
        self.rate = rate
        self._start = start or datetime.now(UTC)
        self._began = time.monotonic()

    def now(self) -> datetime:
        """See Clock."""
        return self._start + timedelta(seconds=(time.monotonic() - self._began) * self.rate)

    async def sleep(self, duration: timedelta) -> None:
        """See Clock."""
        await asyncio.sleep(max(0.0, duration.total_seconds()) / self.rate)


class ManualClock:
    """Stands still until ``advance``; sleepers wake in the order of their deadlines."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 10, tzinfo=UTC)) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def now(self) -> datetime:
        """See Clock."""
        return self._now

    async def sleep(self, duration: timedelta) -> None:
        """See Clock."""
        if duration <= timedelta(0):
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + duration, next(self._count), future))
        await future

    def advance(self, duration: timedelta) -> None:
        """Move time on and wake everybody whose deadline has come."""
        self._now += duration
        while self._sleepers and self._sleepers[0][0] <= self._now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    def next_deadline(self) -> datetime | None:
        """When the next sleeper wants to wake; None if nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and Z, as every record has it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time. Raises ValueError if it is malformed or names no zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone; write for example 2026-01-05T10:00:00Z")
    return moment.astimezone(UTC)
