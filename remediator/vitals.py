"""How the daemon itself is, as metrics that its own alerts look at (deploy/prometheus/self.yaml).

In: the journal and the pipeline. Out: gauges. What is not read at the moment stays as it was: that the journal cannot be read is a metric
of its own. Nothing is refused.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from remediator.allocator import give_back
from remediator.errors import JournalUnavailable
from remediator.model import RunState
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remediator.pipeline import Pipeline
    from remediator.world import World

__all__ = ["Vitals", "keep_timing"]

log = structlog.get_logger(__name__)
_EVERY = timedelta(seconds=30)
_PAGE = 500
"""Changes left behind that are read at a time."""
_SETTLE = timedelta(minutes=10)
"""After a start there is other work than to verify the journal."""
_VERIFY_EVERY = timedelta(days=1)
_ANCHOR_EVERY = timedelta(hours=1)
_VERIFY_AGAIN = timedelta(hours=1)
"""After a verification that could not be finished."""

_TICK = 0.01
_STALL = 1.0
"""Seconds; a loop that stood still so long is told in the log."""


class Vitals:
    """Looks every half minute, anchors the journal every hour, and verifies it as a whole once a day."""

    def __init__(self, world: World, pipeline: Pipeline) -> None:
        self._world = world
        self._pipeline = pipeline

    async def keep_looking(self) -> None:
        """Until it is cancelled."""
        known = False
        while True:
            try:
                if not known:
                    await self._know_last_delivery()
                    known = True
                await self.look()
            except JournalUnavailable as error:
                log.warning("how the daemon is cannot be read", error=str(error))
            await self._world.clock.sleep(_EVERY)

    async def keep_verifying(self) -> None:
        """Until it is cancelled."""
        await self._world.clock.sleep(_SETTLE)
        while True:
            await self._world.clock.sleep(_VERIFY_EVERY if await self.verify() else _VERIFY_AGAIN)

    async def keep_anchoring(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._world.clock.sleep(_ANCHOR_EVERY)
            await self.anchor()

    async def look(self) -> None:
        """Every gauge once. Raises JournalUnavailable."""
        now, journal = self._world.clock.now(), self._world.journal
        METRICS.queue_oldest.set(_age([at] if (at := self._pipeline.waiting_since) is not None else [], now))
        METRICS.paused_oldest.set(_age([pause.at for pause in await journal.pauses(now)], now))
        runs = await journal.open_outlines()
        METRICS.runs_overdue.set(sum(run.state is not RunState.AWAITING_APPROVAL and run.deadline < now for run in runs))
        left = await self._left_behind({run.id for run in runs})
        METRICS.left_behind.set(len(left))
        METRICS.left_behind_oldest.set(_age(left, now))

    async def verify(self) -> bool:
        """Whether the journal could be read to its end; whether it is whole is in the metric and, with every fault, in the log."""
        try:
            report = await self._world.journal.verify(jobs=None)
        except JournalUnavailable as error:
            log.warning("the journal could not be verified", error=str(error))
            return False
        await asyncio.to_thread(give_back)  # it took some MB, which are not needed again before tomorrow
        METRICS.journal_whole.set(report.ok)
        METRICS.journal_verified_at.set(self._world.clock.now().timestamp())
        if not report.ok:
            log.error("the journal is not what was written", problems=report.problems)
        return True

    async def anchor(self) -> None:
        """Compare the journal with its anchor, where it has one, and write down there how far it came."""
        try:
            problems = await self._world.journal.anchor()
        except JournalUnavailable as error:
            log.warning("the journal could not be compared with its anchor", error=str(error))
            return
        if problems:
            METRICS.journal_whole.set(0)
            log.error("the journal is not what its anchor says", problems=problems)

    async def _know_last_delivery(self) -> None:
        """The one before the start: whoever was not told of anything for a day does not learn it by a restart."""
        page = await self._world.journal.deliveries(limit=1)
        for delivery in page.items:
            METRICS.delivered_at = delivery.received_at

    async def _left_behind(self, open_runs: set[str]) -> list[datetime]:
        """When each change was made that an ended run left behind."""
        found: list[datetime] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await self._world.journal.changes(left_behind=True, limit=_PAGE, cursor=cursor or None)
            found += [change.at for change in page.items if change.run not in open_runs]
            cursor = page.next
        return found


async def keep_timing() -> None:
    """How late a short timer comes, until it is cancelled: for so long one piece of work kept all others from going on.

    By the loop's own time and not the injected clock: it is about this process and not about the cluster.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _TICK
        await asyncio.sleep(_TICK)
        late = max(0.0, loop.time() - due)
        METRICS.loop_delay.observe(late)
        if late >= _STALL:
            log.warning("the event loop stood still", seconds=round(late, 3))


def _age(moments: Iterable[datetime], now: datetime) -> float:
    """Seconds since the first of ``moments``; 0 if there is none."""
    return max([(now - moment).total_seconds() for moment in moments], default=0)
