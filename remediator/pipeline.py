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
import contextvars
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from remediator import record
from remediator.allocator import give_back
from remediator.carry import UNDO, carry, patiently, undo_due
from remediator.decide import Decider
from remediator.demotion import counts
from remediator.engine import Engine, EngineError
from remediator.episodes import KEPT, Episodes, is_held
from remediator.errors import HandsOver, JournalUnavailable, NotLeading
from remediator.ids import beginning
from remediator.inbox import Inbox
from remediator.match import choose
from remediator.model import AlertStatus, RunState, evolve, new_id
from remediator.reasons import Reason
from remediator.receive import Kept, parse_delivery
from remediator.telemetry import METRICS, REQUEST
from remediator.tracing import PARENT
from remediator.windows import Edge, open_one

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remediator.inbox import Portion
    from remediator.model import Alert, Run
    from remediator.payload import Limits
    from remediator.world import World

__all__ = ["Pipeline"]

log = structlog.get_logger(__name__)
_EPISODES_AT_START = 5_000
"""Episodes that are read at once; so many closed ones are still known after a start."""
_TRIES = 3
"""Then a delivery on which deciding fails by a fault of this program is left for the next start."""
_RETRY = timedelta(seconds=2)
_LARGE = 64 * 1024
"""Bodies from here on are parsed off the event loop."""
_LOOK_AT_HELD = timedelta(seconds=5)
"""From the end of a maintenance window until what it held is decided on, at most."""
_PAGE = 500
_TOGETHER = 320
"""Alerts decided on together, about."""
_STORM = 16
"""Webhooks that wait for the journal at once, from which on decisions give way to requests."""
_LOOK_FOR_ASTRAY = timedelta(seconds=5)
"""Real time between two looks for runs that nobody works on, since it is about other processes; two such looks tell."""
_FEW = 50
"""Alerts decided on together then: one queue's turn, so that a quiet playbook's is not far off; as dear as a hundred requests."""
_REST = timedelta(milliseconds=100)
_RESTS = 10
"""So many of them between two of those, fewer once the storm is over."""
_PATIENCE = timedelta(minutes=1)
"""When the oldest delivery waits for so long, decisions give way no more."""
_MANY = 2_000
"""Alerts decided on, after which memory that is free is given back to the system as soon as none waits."""


class Pipeline:
    """Takes deliveries in, decides on them in order, and hands runs to the engine."""

    def __init__(self, world: World, store: str) -> None:
        self._world = world
        self._engine = world.engine = Engine(store, self._carry, may_act=lambda: world.may_act, redact=world.redact)
        self._decider: Decider | None = None
        self._inbox = Inbox(world.journal, self._queue_of)
        self._receiving = self._crowd = 0
        """Webhooks that wait for the journal, and the most of them at once since that was asked last: a moment alone says little."""
        self._deciding: asyncio.Task[None] | None = None
        self._holding: asyncio.Task[None] | None = None
        self._taking_up: asyncio.Task[None] | None = None
        self._after: set[asyncio.Task[None]] = set()

    @property
    def decider(self) -> Decider:
        """For requests of people; there is one once ``start`` has returned."""
        if self._decider is None:
            raise self._not_leading()
        return self._decider

    @property
    def leads(self) -> bool:
        """Whether this process decides and runs; of several replicas one does."""
        return self._deciding is not None and self._world.may_act

    def _not_leading(self) -> NotLeading:
        holder = self._world.elector.holder if self._world.elector is not None else ""
        who = f"{holder} leads" if holder else "nobody leads at the moment"
        return NotLeading(
            f"Only the leader does this, and this replica is a standby: {who}. Nothing was done; ask the leader, or ask again."
        )

    @property
    def undecided(self) -> int:
        """Deliveries on disk that wait for their decisions."""
        return len(self._inbox)

    @property
    def waiting_since(self) -> datetime | None:
        """When the oldest of them came; None if there is none."""
        return self._inbox.oldest

    async def start(self) -> None:
        """Take up what an earlier life left: open runs first, then deliveries that were stored and not decided."""
        self._decider = Decider(self._world, await self._known_episodes())
        for run in await self._world.journal.open_runs():
            METRICS.runs_in_flight.labels(run.playbook).inc()
            if run.cancel:
                self._world.signals.cancel(run.id)
        await self._world.demotions.load(self._world.journal, self._world.clock, self._alerted_playbooks())
        self._engine.launch()
        for one in await self._world.journal.open_outlines():
            if await self._engine.ended(one.id):
                await self._give_up(one.id, "the run engine holds this run for ended, the journal does not")
            else:
                await self._engine.start(one.id)
        await self._undo_what_is_due()
        left = await self._inbox.load()
        if left:
            log.info("deliveries from before the start are decided now", count=left)
        self._deciding = asyncio.create_task(self._decide_all(), name="decide")
        self._holding = asyncio.create_task(self._decide_held(), name="decide on held alerts")
        self._taking_up = asyncio.create_task(self._take_up(), name="take up runs that nobody works on")

    async def receive(self, body: bytes, *, sender: str, limits: Limits) -> Kept:
        """A webhook's body to a delivery on disk. Raises PayloadError, JournalUnavailable; then nothing is stored, or not yet.

        While it waits for the disk it holds no more than it needs afterwards: many wait for one commit, and what each holds then takes
        the processor's caches from the next one.
        """
        now = self._world.clock.now()
        id_ = new_id(now)
        if len(body) < _LARGE:
            delivery = parse_delivery(body, id=id_, at=now, sender=sender, limits=limits)
        else:
            delivery = await asyncio.to_thread(parse_delivery, body, id=id_, at=now, sender=sender, limits=limits)
        del body
        if trace := PARENT.get():
            delivery = evolve(delivery, trace=trace)
        kept = Kept.of(delivery)
        self._receiving += 1
        self._crowd = max(self._crowd, self._receiving)
        try:
            storing = self._world.journal.add_delivery(delivery)
            held = delivery if self._inbox.has_room else None
            del delivery
            await storing
        except JournalUnavailable:
            self._inbox.doubt()  # a commit without an answer may have taken place, or take place yet
            raise
        finally:
            self._receiving -= 1
        if self._deciding is not None:  # else it is the leader's, who looks on disk
            self._inbox.put(held) if held is not None else self._inbox.put_aside(id_)
        self._world.feed.publish("delivery", id_)
        return kept

    def look_on_disk(self) -> None:
        """There are deliveries that another replica stored."""
        self._inbox.look()

    async def begin(self, runs: Sequence[Run]) -> None:
        """Hand decided runs to the engine. A crash before this is mended at the next start."""
        for run in runs:
            self._world.events.began(run)
            await record.traced(self._world, self._world.tracing.began, run)
            self._world.feed.publish("run", run.id)
            await self._hand_over(run.id)

    async def undo(self, run: str) -> None:
        """Begin to put back what an ended run left behind; anew, if an earlier try ended and could not."""
        entries = await self._world.journal.entries(ref=run, kind="undo")
        tries = sum("outcome" in entry.data for entry in entries)
        await self._hand_over(f"{run}{UNDO}{tries or ''}")

    async def forget(self, before: datetime) -> int:
        """Have the engine forget the runs from before then that the journal has no more; how many durable works that were.

        The leader alone does it, for the engine is nowhere else. A run is in the journal before the engine hears of it, so one that is not
        there any more was pruned. Raises EngineError, JournalUnavailable.
        """

        async def gone(works: frozenset[str]) -> frozenset[str]:
            runs = {work: work.partition(UNDO)[0] for work in works}
            there = await self._world.journal.runs_there(set(runs.values()))
            return frozenset(work for work, run in runs.items() if run not in there)

        return await self._engine.forget(gone, before=beginning(before)) if self.leads else 0

    async def stop(self, within: timedelta) -> bool:
        """Decide nothing more, let the call under way end, leave open runs for the next start. Whether no call is under way any more."""
        tasks = [*self._after, *(task for task in (self._deciding, self._holding, self._taking_up) if task is not None)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        quiet = await self._engine.stop(within)
        await self._world.leases.close()
        return quiet

    async def _hand_over(self, run: str) -> None:
        """What is to be done is on disk, so it must begin: patiently, since nobody else would see to it before the next start."""
        while True:
            try:
                return await self._engine.start(run)
            except EngineError as error:
                log.warning("a run cannot begin yet", run=run, error=str(error))
                await self._world.clock.sleep(_RETRY)

    def _alerted_playbooks(self) -> list[str]:
        """Those that can act by themselves at all."""
        return [playbook.name for playbook in self._world.library.playbooks if playbook.when is not None]

    async def _learn(self, run: str) -> None:
        """A run ended: its playbook may have failed too often in a row."""
        stored = await self._world.journal.run(run)
        if stored is not None and stored.playbook in self._alerted_playbooks() and counts(stored):
            await self._world.demotions.look(self._world.journal, self._world.clock, stored.playbook)

    async def _carry(self, run: str) -> str:
        structlog.contextvars.clear_contextvars()  # of the request that began the run, in this task only
        REQUEST.set("")
        structlog.contextvars.bind_contextvars(run=run)
        try:
            state = await carry(self._world, run)
        except Exception as error:  # the last boundary: a fault of ours ends this run and no other
            if not self._world.may_act:
                raise asyncio.CancelledError from error  # it is another replica's now, who looks what came of it
            log.exception("a run ended by a fault of this program")
            detail = f"internal error, please report it: {type(error).__name__}: {error}"
            return await patiently(self._world, "give up", lambda: self._give_up(run, detail))
        await self._world.leases.release(run)
        if UNDO not in run:
            await patiently(self._world, "learn", lambda: self._learn(run))
            # The alert may have resolved while the run was closed; and what was refused while it was open may be allowed now.
            # In a context of its own, since it is no part of the run.
            due = patiently(self._world, "undo what is due", self._undo_what_is_due)
            task = asyncio.create_task(due, name="undo what is due", context=contextvars.Context())
            self._after.add(task)
            task.add_done_callback(self._after.discard)
        return state

    async def _give_up(self, run: str, detail: str) -> str:
        """Close a run that cannot be carried on as ``unknown``: a person must look what it left behind."""
        if UNDO in run:
            await self._world.journal.note("undo", run.partition(UNDO)[0], {"outcome": detail})
            return RunState.UNKNOWN.value
        stored = await self._world.journal.run(run)
        await self._world.leases.release(run)
        if stored is not None and stored.state.open:
            await record.ended(self._world, stored, RunState.UNKNOWN, Reason.CRASHED, detail)
        return RunState.UNKNOWN.value

    async def _known_episodes(self) -> Episodes:
        """The last that began, then those that are open: as many as are kept in memory, and all that a maintenance window holds."""
        page = await self._world.journal.episodes(open_only=False, limit=_EPISODES_AT_START)
        found, all_of_them = list(page.items), page.next is None
        cursor = None if all_of_them else ""
        while cursor is not None:
            page = await self._world.journal.episodes(limit=_EPISODES_AT_START, cursor=cursor or None)
            found += [episode for episode in page.items if len(found) < KEPT or is_held(episode)]
            cursor = page.next
        known = Episodes(reversed(found))
        if not all_of_them:
            known.more_on_disk()
        return known

    async def _decide_all(self) -> None:
        """By turns. A delivery leaves the inbox only when its decisions are on disk, or when we fail on it again and again."""
        faults = decided = 0
        together = _TOGETHER
        while True:
            waiting: list[Portion] = []
            try:
                waiting = await self._inbox.next(together)
                METRICS.queue_oldest.set(self._waits_for().total_seconds())
                count = await self._decide(waiting)
            except JournalUnavailable as error:
                log.warning("decisions could not be read or kept; they are made again", error=str(error))
                self._inbox.retry(waiting)
                await self._world.clock.sleep(_RETRY)
                continue
            except HandsOver as error:
                log.warning("this replica hands over", why=str(error))
                return
            except Exception:  # the last boundary: without this loop nothing would be decided any more, and nobody would know
                faults += 1
                log.exception("decisions failed by a fault of this program", tries=faults)
                if faults >= _TRIES and waiting:
                    self._leave(waiting[0].delivery.id)
                    faults = 0
                self._inbox.retry(waiting)
                await self._world.clock.sleep(_RETRY)
                continue
            faults = 0
            self._inbox.leave(self.decider.unkept())
            self._inbox.done(waiting[:count])
            self._inbox.back(waiting[count:])
            for portion in waiting[:count]:
                if portion.last:
                    self._world.feed.publish("delivery", portion.delivery.id)
            METRICS.queue_oldest.set(self._waits_for().total_seconds())
            decided += sum(len(portion.places) for portion in waiting[:count])
            if decided >= _MANY and not self._inbox:
                decided = 0
                await self._give_back()
            together = await self._rest()

    async def _rest(self) -> int:
        """Give way to webhooks while they come close together. Out: how many alerts are decided on next."""
        together = _TOGETHER
        for _ in range(_RESTS):
            if not self._storms():
                break
            together = _FEW
            # Real time, since it is about this machine: a storm is taken in first, for what is answered 200 can be decided later.
            await asyncio.sleep(_REST.total_seconds())
        return together

    def _storms(self) -> bool:
        """Whether webhooks came so close together, since this was asked last, that decisions have to give way."""
        crowd, self._crowd = self._crowd, self._receiving
        return crowd >= _STORM and self._waits_for() < _PATIENCE

    async def _give_back(self) -> None:
        """A storm is over: memory that is free goes back to the system, and what the journal keeps for reads."""
        with suppress(JournalUnavailable):
            await self._world.journal.give_back()
        await asyncio.to_thread(give_back)

    async def _take_up(self) -> None:
        """The runs that nobody works on: what a decision left that could not be confirmed, and what got lost on its way to the engine.

        Of several replicas also what one that led before, or died, had taken from the engine's queue after this one began to lead.
        """
        idle: frozenset[str] = frozenset()
        while True:
            await asyncio.sleep(_LOOK_FOR_ASTRAY.total_seconds())
            try:
                if self._world.elector is not None:
                    for run in await self._engine.take_up_astray():
                        log.warning("a run was under way nowhere; it goes on here", run=run)
                await self.decider.look_back()
                idle = await self._begin_forgotten(idle)
            except EngineError as error:
                log.warning("it cannot be told which runs are under way", error=str(error))
            except JournalUnavailable as error:
                log.debug("it cannot be told which runs are open", error=str(error))  # whoever writes says so
            except Exception:  # the last boundary, as above
                log.exception("runs were not taken up by a fault of this program")
            finally:
                await self.begin(self.decider.runs_to_begin())

    async def _begin_forgotten(self, before: frozenset[str]) -> frozenset[str]:
        """Begin the open runs that the engine does not know and that were idle ``before`` too; out: those that are idle now.

        What is idle at one look may just be beginning, or ending.
        """
        idle = frozenset(one.id for one in await self._world.journal.open_outlines()) - self._engine.running
        for id_ in sorted(idle & before):
            run = None if await self._engine.knows(id_) else await self._world.journal.run(id_)
            if run is not None and run.state.open and self._world.may_act:
                log.warning("a run is on disk and was never begun; it begins now", run=id_)
                await self.begin([run])
        return idle

    async def _decide_held(self) -> None:
        """When no maintenance window is open any more, what one held is decided again, also after a restart in between."""
        while True:
            await self._world.clock.sleep(_LOOK_AT_HELD)
            held, decided = self.decider.holds, 0
            try:
                while decided < held and (count := await self._decide_some_held()):
                    decided += count
            except JournalUnavailable as error:
                log.warning("held alerts cannot be decided on yet", error=str(error))
            except Exception:  # the last boundary, as above
                log.exception("held alerts were not decided on by a fault of this program")
            if decided:
                log.info("no maintenance window is open any more", decided_again=decided)
                self._world.feed.publish("episode", "")

    async def _decide_some_held(self) -> int:
        """Others have their turn between two slices, and what a slice decided begins at once. How many it was; 0 while a window is open."""
        if open_one(self._world.limits.maintenance, self._world.clock.now(), Edge.WIDE) is not None:
            return 0
        try:
            return await self.decider.held()
        finally:
            await self.begin(self.decider.runs_to_begin())

    def _leave(self, delivery: str) -> None:
        """The others must not wait for it; it is on disk, undecided, and is taken up at the next start."""
        log.error("a delivery is left for the next start", delivery=delivery)
        self._inbox.leave([delivery])

    def _waits_for(self) -> timedelta:
        """How long the oldest undecided delivery waits."""
        oldest = self._inbox.oldest
        return self._world.clock.now() - oldest if oldest is not None else timedelta()

    def _queue_of(self, alert: Alert) -> str:
        """Alerts wait beside those of other playbooks, and those that no playbook takes beside all of them."""
        playbook = choose(alert.labels, self._world.library)
        return playbook.name if playbook is not None else ""

    async def _decide(self, waiting: Sequence[Portion]) -> int:
        """Decide on the first of ``waiting`` and begin what follows; how many were decided."""
        try:
            count = await self.decider.portions(waiting)
        finally:
            await self.begin(self.decider.runs_to_begin())
        for portion in waiting[:count]:
            await self._undo_resolved(portion.alerts)
        return count

    async def _undo_resolved(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            episode = self.decider.episode(alert) if alert.status is AlertStatus.RESOLVED else None
            if episode is None or episode.run is None:
                continue
            self._world.signals.tell(episode.run)  # it may wait for people
            if episode.run in self._engine.running:
                self._world.signals.resolved(episode.run).set()
            if await undo_due(self._world, episode.run):
                await self.undo(episode.run)

    async def _undo_what_is_due(self) -> None:
        """What alerts left behind whose resolution is on disk: their undo never began, or it was refused or failed."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self._world.journal.changes(left_behind=True, limit=_PAGE, cursor=cursor or None)
            for run in {change.run for change in page.items}:
                if await undo_due(self._world, run):
                    await self.undo(run)
            cursor = page.next
