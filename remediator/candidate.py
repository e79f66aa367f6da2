"""One replica of several: a standby until it leads, then the one that decides, runs and undoes, until it is over.

In: an elector, and the pipeline that only a leader may start. Out: a reason, once this process must end: it led and does so no more, or
could not begin to. It is not made a standby again, since the run engine cannot be stopped and begun anew while calls may be under way; a
process that starts afresh is a standby by itself (docs/adr/0015).

A standby follows the journal's log, so that whoever watches a run or a page through it sees what the leader does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from remediator.demotion import DEMOTED, REINSTATED
from remediator.errors import JournalUnavailable, RemediatorError
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.kube.elector import Elector
    from remediator.model import Entry
    from remediator.pipeline import Pipeline
    from remediator.world import World

__all__ = ["Candidate"]

log = structlog.get_logger(__name__)
_LOOK = timedelta(seconds=1)
"""Between two looks at what other replicas wrote."""
_MUTE = timedelta(seconds=60)
"""So long a leader may be cut off from the journal before it lets another one try; a restart of the database takes less."""
_PAGE = 500


class Candidate:
    """``stand`` for election; ``resign`` at the end. ``on_lead`` is called once it leads, ``on_end`` with the reason to end."""

    def __init__(
        self, world: World, pipeline: Pipeline, elector: Elector, *, on_lead: Callable[[], None], on_end: Callable[[str], None]
    ) -> None:
        self._world = world
        self._pipeline = pipeline
        self._elector = elector
        self._on_lead = on_lead
        self._on_end = on_end
        self._begun = False
        self._tasks: list[asyncio.Task[None]] = []

    async def stand(self) -> None:
        """Follow until it leads, then begin to lead; ends with that."""
        following = asyncio.create_task(self._follow(), name="follow the leader")
        try:
            await self._elector.campaign(lambda: self._world.journal.healthy)
        finally:
            following.cancel()
            await asyncio.wait([following])
        self._tasks.append(asyncio.create_task(self._keep(), name="renew the leader's lease"))
        try:
            await self._begin()
        except RemediatorError as error:
            self._on_end(f"this replica cannot begin to lead: {error}")
        except Exception as error:  # the last boundary: a leader that does nothing must not keep the others from it
            log.exception("this replica could not begin to lead by a fault of this program")
            self._on_end(f"this replica cannot begin to lead: {type(error).__name__}: {error}")

    async def resign(self, within: timedelta) -> None:
        """Let the call under way end, while the lease is still renewed, then let another one lead."""
        quiet = await self._pipeline.stop(within) if self._begun else True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if quiet:
            await self._elector.release()
        else:
            log.warning("the leader's lease is not given back, since a call may still be under way; it ends by itself")

    async def _begin(self) -> None:
        world = self._world
        epoch = await world.journal.lead(self._elector.identity)
        if not world.may_act:
            return  # lost while the journal was asked; _keep tells
        log.info("this replica leads", identity=self._elector.identity, epoch=epoch)
        self._begun = True
        await self._pipeline.start()
        self._tasks.append(asyncio.create_task(self._look_for_deliveries(), name="look for other replicas' deliveries"))
        METRICS.leader.set(1)
        self._on_lead()

    async def _keep(self) -> None:
        losing = asyncio.create_task(self._elector.keep(), name="keep the lease")
        journal, clock = self._world.journal, self._world.clock
        wrote = clock.now()
        try:
            while not losing.done() and not journal.deposed and clock.now() - wrote <= _MUTE:
                sleeping = asyncio.ensure_future(clock.sleep(_LOOK))
                await asyncio.wait((losing, sleeping), return_when=asyncio.FIRST_COMPLETED)
                sleeping.cancel()
                if journal.healthy:
                    wrote = clock.now()
            if losing.done():
                self._on_end("the lease is lost: " + losing.result())
            elif journal.deposed:
                self._on_end("another replica leads since")
            else:
                self._on_end(f"it could write nothing to the journal for {_MUTE.total_seconds():g} s; another replica may be able to")
        finally:
            losing.cancel()

    async def _look_for_deliveries(self) -> None:
        """What the others answered with 200."""
        while True:
            await self._world.clock.sleep(_LOOK)
            with suppress(JournalUnavailable):  # whoever writes to it says so
                if await self._world.journal.undecided(1):
                    self._pipeline.look_on_disk()

    async def _follow(self) -> None:
        """Publish what the log tells, and keep what is known in memory as the leader has it."""
        seen: int | None = None
        while True:
            with suppress(JournalUnavailable):  # as above
                if seen is None:
                    seen = await self._world.journal.last()
                    await self._world.demotions.load(self._world.journal, self._world.clock, ())
                for entry in await self._world.journal.entries(after=seen, limit=_PAGE):
                    await self._tell(entry)
                    seen = entry.seq
            await self._world.clock.sleep(_LOOK)

    async def _tell(self, entry: Entry) -> None:
        if entry.kind in (DEMOTED, REINSTATED):
            await self._world.demotions.load(self._world.journal, self._world.clock, ())
        self._world.feed.publish(*_news(entry))


def _news(entry: Entry) -> tuple[str, str]:
    """Kind and id as the feed has them: news of a step or a change are news of its run."""
    match entry.kind:
        case "step":
            return "run", entry.ref.rpartition("/")[0]
        case "change":
            return "run", str(entry.data["run"])
        case "resume":
            return "pause", entry.ref
        case kind:
            return kind, entry.ref
