"""Deliveries that are on disk and wait for their decisions: the oldest in memory, the rest only on disk, so that a storm costs no memory.

In: deliveries as they are stored. Out: each exactly once, oldest first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.journal import Journal
    from remediator.model import Delivery

__all__ = ["Inbox"]

_IN_MEMORY = 500
_PAGE = 200


class Inbox:
    """``put`` after the commit, ``next`` to look at the oldest, ``done`` when their decisions are on disk."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: deque[tuple[Delivery, bool]] = deque()
        self._arrived = asyncio.Event()
        self._beyond = 0
        """How many deliveries were ever left on disk only."""
        self._on_disk = False
        self._after_restart = True
        self._count = 0
        self._handled: set[str] = set()
        """Those done since the last page was read."""
        self._unkept: set[str] = set()
        """Those done whose decisions the store would not have. They stay undecided on disk and are left for the next start."""

    def put(self, delivery: Delivery) -> None:
        """A delivery that the journal has just kept."""
        self._counted(+1)
        if self._on_disk or len(self._waiting) >= _IN_MEMORY:
            self._on_disk = True
            self._beyond += 1
        else:
            self._waiting.append((delivery, False))
        self._arrived.set()

    def doubt(self) -> None:
        """A delivery may be on disk without anybody knowing; look there."""
        self._on_disk = True
        self._arrived.set()

    async def load(self) -> int:
        """Begin with what an earlier life stored and did not decide; how many deliveries that is at least."""
        self._on_disk = True
        await self._refill()
        self._arrived.set()
        return len(self._waiting)

    async def next(self, most: int) -> list[tuple[Delivery, bool]]:
        """Wait for deliveries; the oldest, at most ``most``. True with one if a part of it may have been decided on before."""
        while not self._waiting:
            if self._on_disk:
                await self._refill()
            else:
                self._arrived.clear()
                await self._arrived.wait()
        return list(islice(self._waiting, most))

    def done(self, count: int) -> None:
        """The decisions on the oldest ``count`` are on disk."""
        for _ in range(count):
            delivery, _again = self._waiting.popleft()
            if self._on_disk:
                self._handled.add(delivery.id)
        self._counted(-count)

    def retry(self, count: int) -> None:
        """The decisions on the oldest ``count``, if there are as many, may be on disk in part; the next look at them is a careful one."""
        for index in range(min(count, len(self._waiting))):
            self._waiting[index] = (self._waiting[index][0], True)

    @property
    def oldest(self) -> datetime | None:
        """When the oldest that is in memory came; None if there is none."""
        return self._waiting[0][0].received_at if self._waiting else None

    def __len__(self) -> int:
        return max(self._count, int(self._on_disk))  # there may be more on disk

    async def _refill(self) -> None:
        """The next page from the disk. What arrives while it is read is on disk too, so it is read next."""
        before = self._beyond
        found = await self._journal.undecided(_PAGE + len(self._unkept))
        self._unkept |= {delivery.id for delivery in found} & self._handled
        self._handled.clear()
        page = [delivery for delivery in found if delivery.id not in self._unkept]
        self._waiting.extend((delivery, self._after_restart) for delivery in page)
        self._counted(max(0, len(self._waiting) - self._count))  # an earlier life left what nobody counted
        if not page and before == self._beyond:
            self._on_disk = False
            self._after_restart = False
            self._counted(-self._count)

    def _counted(self, change: int) -> None:
        self._count = max(0, self._count + change)
        METRICS.queue_depth.set(self._count)
