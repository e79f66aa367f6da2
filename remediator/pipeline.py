"""The pipeline, on one screen.

::

    receive   HTTP body -> delivery on disk      remediator.receive, then the journal; 200 only after that
    match     alert -> playbook, target          remediator.match
    gate      candidate -> verdicts              remediator.gates, by the facts of remediator.facts
    run       steps in order -> outcomes         remediator.run, intents through remediator.context
    verify    run -> healed or not               remediator.verify
    undo      changes -> as they were            remediator.undo
    record    all of it                          remediator.record, remediator.journal

The webhook, a person's trigger and the dry run all come through here. ``decide`` strings match and gate together, ``carry`` the rest.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from remediator import record
from remediator.carry import UNDO, carry
from remediator.decide import Decider
from remediator.engine import Engine
from remediator.episodes import Episodes
from remediator.errors import JournalUnavailable
from remediator.inbox import Inbox
from remediator.model import AlertStatus, RunState, new_id
from remediator.reasons import Reason
from remediator.receive import parse_delivery
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.model import Delivery, Run
    from remediator.payload import Limits
    from remediator.world import World

__all__ = ["Pipeline"]

log = structlog.get_logger(__name__)
_EPISODES_AT_START = 5_000
_RETRY = timedelta(seconds=2)
_LARGE = 64 * 1024
"""Bodies from here on are parsed off the event loop."""
_TOGETHER = 32
"""Deliveries decided on together, at most."""
_STORM = 16
"""Writes that wait for the journal, from which on decisions give way to requests."""
_REST = 4
"""How many times as long as they took decisions then rest."""


class Pipeline:
    """Takes deliveries in, decides on them in order, and hands runs to the engine."""

    def __init__(self, world: World, store: str) -> None:
        self._world = world
        self._engine = world.engine = Engine(store, self._carry)
        self._decider: Decider | None = None
        self._inbox = Inbox(world.journal)
        self._deciding: asyncio.Task[None] | None = None

    @property
    def decider(self) -> Decider:
        """For requests of people; there is one once ``start`` has returned."""
        if self._decider is None:
            raise RuntimeError("the pipeline has not started")
        return self._decider

    @property
    def undecided(self) -> int:
        """Deliveries on disk that wait for their decisions."""
        return len(self._inbox)

    async def start(self) -> None:
        """Take up what an earlier life left: open runs first, then deliveries that were stored and not decided."""
        page = await self._world.journal.episodes(open_only=False, limit=_EPISODES_AT_START)
        self._decider = Decider(self._world, Episodes(reversed(page.items)))
        for run in await self._world.journal.open_runs():
            METRICS.runs_in_flight.labels(run.playbook).inc()
            if run.cancel:
                self._world.signals.cancel(run.id)
        self._engine.launch()
        for run in await self._world.journal.open_runs():
            if await self._engine.ended(run.id):
                await self._give_up(run.id, "the run engine holds this run for ended, the journal does not")
            else:
                await self._engine.start(run.id)
        left = await self._inbox.load()
        if left:
            log.info("deliveries from before the start are decided now", count=left)
        self._deciding = asyncio.create_task(self._decide_all(), name="decide")

    async def receive(self, body: bytes, *, sender: str, limits: Limits) -> Delivery:
        """A webhook's body to a delivery on disk. Raises PayloadError, JournalUnavailable; then nothing is stored."""
        now = self._world.clock.now()
        parse = partial(parse_delivery, body, id=new_id(now), at=now, sender=sender, limits=limits)
        delivery = parse() if len(body) < _LARGE else await asyncio.to_thread(parse)
        await self._world.journal.add_delivery(delivery)
        self._inbox.put(delivery)
        return delivery

    async def begin(self, runs: Sequence[Run]) -> None:
        """Hand decided runs to the engine. A crash before this is mended at the next start."""
        for run in runs:
            self._world.feed.publish("run", run.id)
            await self._engine.start(run.id)

    async def undo(self, run: str) -> None:
        """Begin to put back what an ended run left behind."""
        await self._engine.start(run + UNDO)

    async def stop(self, within: timedelta) -> None:
        """Decide nothing more, let the call under way end, leave open runs for the next start."""
        if self._deciding is not None:
            self._deciding.cancel()
            await asyncio.wait([self._deciding])
        await self._engine.stop(within)

    async def _carry(self, run: str) -> str:
        structlog.contextvars.clear_contextvars()  # of the request that began the run, in this task only
        structlog.contextvars.bind_contextvars(run=run)
        try:
            return await carry(self._world, run)
        except Exception as error:  # the last boundary: a fault of ours ends this run and no other
            log.exception("a run ended by a fault of this program")
            return await self._give_up(run, f"internal error, please report it: {type(error).__name__}: {error}")

    async def _give_up(self, run: str, detail: str) -> str:
        """Close a run that cannot be carried on as ``unknown``: a person must look what it left behind."""
        stored = await self._world.journal.run(run)
        if stored is not None and stored.state.open:
            await record.ended(self._world, stored, RunState.UNKNOWN, Reason.CRASHED, detail)
        return RunState.UNKNOWN.value

    async def _decide_all(self) -> None:
        """Oldest first. A delivery leaves the inbox only when its decisions are on disk."""
        while True:
            waiting = await self._inbox.next(_TOGETHER)
            METRICS.queue_oldest.set((self._world.clock.now() - waiting[0][0].received_at).total_seconds())
            began = time.monotonic()
            try:
                count = await self._decide(waiting)
            except JournalUnavailable as error:
                log.warning("decisions could not be kept; they are made again", delivery=waiting[0][0].id, error=str(error))
                self._inbox.retry(len(waiting))
                await self._world.clock.sleep(_RETRY)
                continue
            self._inbox.done(count)
            if not self._inbox:
                METRICS.queue_oldest.set(0)
            if self._world.journal.queue_depth >= _STORM:
                # Real time, since it is about this machine: a storm is taken in first, for what is answered 200 can be decided later.
                await asyncio.sleep((time.monotonic() - began) * _REST)

    async def _decide(self, waiting: Sequence[tuple[Delivery, bool]]) -> int:
        """Decide on the oldest of ``waiting`` and begin what follows; how many were decided."""
        try:
            count = await self.decider.deliveries(waiting)
        finally:
            await self.begin(self.decider.runs_to_begin())
        for delivery, _ in waiting[:count]:
            if any(alert.status is AlertStatus.RESOLVED for alert in delivery.alerts):
                await self._undo_resolved(delivery)
        return count

    async def _undo_resolved(self, delivery: Delivery) -> None:
        """What a healed run left behind goes back when its own episode resolves, if its playbook says so."""
        for alert in delivery.alerts:
            episode = self.decider.episode(alert) if alert.status is AlertStatus.RESOLVED else None
            run = await self._world.journal.run(episode.run) if episode and episode.run else None
            if run is None or run.state.open or not any(c.left_behind for s in run.steps for c in s.changes):
                continue
            text = await self._world.journal.revision(run.revision)
            if text is not None and self._world.load_revision(text).on_resolved == "undo":
                await self.undo(run.id)
