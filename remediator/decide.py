"""Decides on alerts: match, then gate, then a Decision for each, and a Run where the answer is yes.

In: stored deliveries, or a person's request. Out: one Decision per alert, kept in one transaction with the episodes and runs that follow
from it. One decision is made at a time, so that two alerts for one target cannot both be allowed. Deliveries that wait are decided on
together, a slice at a time, because a commit costs as much as the decisions on several of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from remediator import record
from remediator.approval import asking_of, question
from remediator.attribution import Finding
from remediator.episodes import Episodes
from remediator.errors import HandsOver, JournalError, JournalUnavailable, KubeError, Refused, Unreadable
from remediator.facts import Facts
from remediator.gates import Case, refusals
from remediator.gates.self import only_here
from remediator.match import about_ourselves, assumed, choose, find, nearest, resolve
from remediator.model import (
    Alert,
    AlertStatus,
    Answer,
    Decision,
    DecisionKind,
    Delivery,
    Mode,
    Run,
    RunState,
    Target,
    Trigger,
    TriggerKind,
    evolve,
    new_id,
)
from remediator.reasons import Reason
from remediator.run import brought_gates, brought_with, coming_actions, planned_steps, sought_by, values_of, with_parameters
from remediator.tracing import PARENT
from remediator.windows import Edge, open_one, told_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from remediator.inbox import Portion
    from remediator.model import Approval, Episode, Verdict
    from remediator.playbook import Playbook, TargetSpec
    from remediator.world import World

__all__ = ["Decider", "Judged"]

log = structlog.get_logger(__name__)
_SLICE = timedelta(milliseconds=250)
"""Real time that deliveries are judged for before what was decided is kept; so old the facts may get that they share."""
_TURN = 0.005
"""Seconds of judging after which requests have their turn."""
_AHEAD = 500
"""Alerts of a slice whose targets are asked for together."""
_CULPRITS_AHEAD = 20
"""Alerts of a slice for whose target a culprit is sought, likewise."""
_MOST_TOGETHER = 64
"""Portions that are prepared for together, at most."""
_BEGIN = (DecisionKind.RUN, DecisionKind.REFUSED)
"""Decisions whose run begins with them: what is refused may be observed by a dry run."""
_LAST_WORDS = 20
"""Of the decisions on one fingerprint, in which the last on one of its episodes is looked for."""
_MOST_ALERTS = 5_000
"""Of one delivery; ``receive`` takes fewer."""


class Judged:
    """What became of one case: the decision and, if it is yes, the run that follows."""

    __slots__ = ("decision", "run")

    def __init__(self, decision: Decision, run: Run | None = None) -> None:
        self.decision = decision
        self.run = run


class _Batch:
    """Decisions that are kept in one transaction; the last ones on a delivery close it."""

    def __init__(self, delivery: str | None) -> None:
        self.delivery = delivery
        self.decisions: list[Decision] = []
        self.episodes: dict[tuple[str, datetime], Episode] = {}
        self.runs: list[Run] = []
        self.closed_at: datetime | None = None

    def add(self, judged: Judged, episode: Episode | None) -> None:
        self.decisions.append(judged.decision)
        if episode is not None:
            self.episodes[episode.fingerprint, episode.starts_at] = episode
        if judged.run is not None:
            self.runs.append(judged.run)


class _Slice:
    """What was judged and is not on disk yet, the episodes as they will stand, and the facts of its moment."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.batches: dict[str, _Batch] = {}
        """By delivery, so that its portions are kept together or not at all."""
        self.refused: set[str] = set()
        """Deliveries with decisions that the journal refused for good: they must not be closed without them."""
        self.episodes: dict[tuple[str, datetime], Episode] = {}

    def batch(self, delivery: str) -> _Batch:
        """Where decisions on it are added."""
        return self.batches.setdefault(delivery, _Batch(delivery))

    def take(self) -> list[_Batch]:
        """What is to be kept."""
        taken, self.batches = self.batches, {}
        return [batch for batch in taken.values() if batch.decisions or batch.closed_at is not None]


class _OneAtATime:
    """Held for a decision. After one that failed ``look_back`` comes first: what was to be kept may have landed, or still be about to."""

    def __init__(self, look_back: Callable[[], Awaitable[None]]) -> None:
        self._lock = asyncio.Lock()
        self._look_back = look_back
        self.in_doubt = False

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        try:
            if self.in_doubt:
                await self._look_back()
                self.in_doubt = False
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.in_doubt = self.in_doubt or error is not None
        self._lock.release()


class Decider:
    """Makes every decision of this daemon, one at a time."""

    def __init__(self, world: World, episodes: Episodes) -> None:
        self._world = world
        self._episodes = episodes
        self._one_at_a_time = _OneAtATime(self._look_back)
        self._began = world.clock.now()
        self._to_begin: list[Run] = []
        self._unkept: set[str] = set()
        self._unconfirmed: list[_Batch] = []
        """What people asked for, with a run, that may be on disk or may get there yet."""
        self._at_work = 0.0
        """Since when, by the monotonic clock, no request had its turn."""
        self._together = _MOST_TOGETHER
        """Portions that are prepared for together: one after a run began, since that makes facts old; then more and more again."""

    def episode(self, alert: Alert) -> Episode | None:
        """The episode of an alert that was decided on just now."""
        return self._episodes.get(alert.episode)

    @property
    def between_decisions(self) -> _OneAtATime:
        """Held from a decision's facts until it is kept. Whoever lets a run begin otherwise takes it, so that it counts for the next."""
        return self._one_at_a_time

    @property
    def holds(self) -> int:
        """How many alerts wait for the end of a maintenance window."""
        return len(self._episodes.held())

    def runs_to_begin(self) -> list[Run]:
        """The runs that were decided on for alerts, or found by a look back, and that are on disk; each once, more often if in doubt."""
        runs, self._to_begin = self._to_begin, []
        return runs

    async def look_back(self) -> None:
        """Find out what the journal kept of a decision that it could not confirm, if there is one; then ask ``runs_to_begin``.

        Raises JournalUnavailable while nobody can tell.
        """
        if self._one_at_a_time.in_doubt:
            async with self._one_at_a_time:
                pass

    async def _look_back(self) -> None:
        """What lands late lands before the next decision is made: that one would not know of it, and one episode would have two runs.

        Alerts are looked at again with their delivery. What a person asked for nobody would look at, so it is done here: what is on disk is
        begun, as it would be after a restart.
        """
        await self._world.journal.settled()
        while self._unconfirmed:
            batch = self._unconfirmed[0]
            runs = [await self._world.journal.run(run.id) for run in batch.runs]
            if all(runs):
                self._kept(batch)
            self._to_begin += [run for run in runs if run is not None and run.state.open]
            self._unconfirmed.pop(0)

    def unkept(self) -> set[str]:
        """The deliveries whose decisions the journal refused for good since this was asked last."""
        unkept, self._unkept = self._unkept, set()
        return unkept

    async def portions(self, waiting: Sequence[Portion]) -> int:
        """Decide on the first of ``waiting``, and on more as long as they lead to no run and time is left; how many it was.

        What was decided before, by a portion that is looked at again, stays decided. Raises JournalUnavailable; then any part may be
        decided. In every case ask ``runs_to_begin``, and ``unkept``.
        """
        async with self._one_at_a_time:
            waiting = waiting[: self._together]
            until = time.monotonic() + _SLICE.total_seconds()
            slice_ = _Slice(Facts(self._world))
            for portion in waiting:
                if portion.first:
                    self._world.beginnings.arrived(portion.delivery.alerts, self._world.clock.now())
            await self._recall(alert.episode for portion in waiting if not portion.again for alert in portion.alerts)
            await self._look_ahead(((portion.delivery, portion.alerts) for portion in waiting), slice_.facts)
            for count, portion in enumerate(waiting, start=1):
                await self._judge_all(portion, slice_)
                if self._to_begin or slice_.facts.silent or time.monotonic() > until or count == len(waiting):
                    break
            else:
                return 0
            await self._keep_slice(slice_)
            self._together = 1 if self._to_begin else min(2 * self._together, _MOST_TOGETHER)
            return count

    async def held(self) -> int:
        """Decide once more on some of the alerts that a maintenance window held and that are not resolved; how many it was: 0 if none is.

        Each with all its gates, so also whether it still fires; a slice at a time, as ``portions`` does. What cannot be decided on, or
        not be kept, comes after all others. Raises JournalUnavailable. In every case ask ``runs_to_begin``.
        """
        async with self._one_at_a_time:
            keys = self._episodes.held(self._together)
            try:
                return await self._slice_of_held(keys)
            except Exception:
                self._together = 1
                self._episodes.postpone(keys)
                raise

    async def _slice_of_held(self, keys: Sequence[tuple[str, datetime]]) -> int:
        said = await self._last_words(keys)
        await self._recall(said)
        facts = Facts(self._world)
        await self._look_ahead(((delivery, (alert,)) for delivery, alert in said.values()), facts)
        until = time.monotonic() + _SLICE.total_seconds()
        batches: list[_Batch] = []
        done: list[tuple[str, datetime]] = []
        for key in keys:
            await self._give_way()
            if key in said:
                batches.append(await self._judge_held(*said[key], facts))
            done.append(key)
            if self._to_begin or (batches and batches[-1].runs) or facts.silent or time.monotonic() > until:
                break
        await self._keep_all(batches)
        self._episodes.postpone(done)
        self._together = 1 if self._to_begin else min(2 * self._together, _MOST_TOGETHER)
        return len(done)

    async def _last_words(self, keys: Sequence[tuple[str, datetime]]) -> dict[tuple[str, datetime], tuple[Delivery, Alert]]:
        """The journal's last word on each that is held: of which delivery and alert. What it decided without anybody knowing stays so."""
        journal = self._world.journal
        pages = await asyncio.gather(*(journal.decisions(fingerprint=key[0], limit=_LAST_WORDS) for key in keys))
        deliveries: dict[str, Delivery | None] = {}
        said = {}
        for key, page in zip(keys, pages, strict=True):
            last = next((d for d in page.items if d.alert is not None and d.alert.episode == key), None)
            if last is not None and last.decision is not DecisionKind.HELD:
                await self._remember(last)
                continue
            if last is not None and last.delivery and last.delivery not in deliveries:
                whole = await journal.delivery(last.delivery)
                deliveries[last.delivery] = evolve(whole, alerts=()) if whole is not None else None  # it may have thousands
            delivery = deliveries.get(last.delivery or "") if last is not None else None
            if last is None or last.alert is None or delivery is None:
                log.warning("a held alert is not decided again: its delivery is gone from the journal", fingerprint=key[0])
                self._episodes.let_go(key)
            else:
                said[key] = delivery, last.alert
        return said

    async def _judge_held(self, delivery: Delivery, alert: Alert, facts: Facts) -> _Batch:
        """A batch of its own, so that one that cannot be kept keeps no other waiting."""
        known = self._episodes.get(alert.episode)
        judged = await self._safely(delivery, alert, known, facts)
        episode = Episodes.after(known, judged.decision, alert)
        batch = _Batch(None)
        batch.add(judged, evolve(episode, deliveries=known.deliveries) if known is not None else episode)
        return batch

    async def _recall(self, keys: Iterable[tuple[str, datetime]]) -> None:
        """Have those of these episodes in memory that the journal has. Raises JournalUnavailable."""
        unknown = self._episodes.unknown(keys)
        for episode in await self._world.journal.episodes_of(unknown) if unknown else ():
            self._episodes.put(episode)

    async def _give_way(self) -> None:
        """Let requests have their turn, if it is time."""
        if time.monotonic() - self._at_work > _TURN:
            await asyncio.sleep(0)
            self._at_work = time.monotonic()

    async def _judge_all(self, portion: Portion, slice_: _Slice) -> None:
        """Every alert of ``portion`` that has no decision; what comes of it waits in ``slice_``."""
        delivery = portion.delivery
        places = await self._not_decided(portion) if portion.again else portion.places
        if places is None or delivery.id in slice_.refused:
            return
        for alert in map(delivery.alerts.__getitem__, places):
            await self._give_way()
            key = alert.episode
            known = slice_.episodes.get(key) or self._episodes.get(key)
            judged = await self._safely(delivery, alert, known, slice_.facts)
            await self._leave_to_others(judged.decision)
            slice_.episodes[key] = episode = Episodes.after(known, judged.decision, alert)
            slice_.batch(delivery.id).add(judged, episode)
            if judged.run is not None:
                # A run is on disk before the next alert is judged, so that it counts for it.
                await self._keep_slice(slice_)
                if delivery.id in slice_.refused:
                    return  # it must not be closed without its decision
                slice_.facts = Facts(self._world)
        if portion.last:
            slice_.batch(delivery.id).closed_at = self._world.clock.now()

    async def _keep_slice(self, slice_: _Slice) -> None:
        refused = await self._keep_all(slice_.take())
        slice_.refused |= refused
        self._unkept |= refused

    async def _leave_to_others(self, decision: Decision) -> None:
        """Raise HandsOver where nothing stands in the way but that this daemon runs there, and another replica takes over."""
        no = refusals(decision.gates)
        target, hand_over = decision.target, self._world.hand_over
        if target is not None and hand_over is not None and len(no) == 1 and only_here(no[0], target) and await hand_over(target):
            raise HandsOver(f"{target.key} is left to another replica, since this one runs there")

    async def _look_ahead(self, coming: Iterable[tuple[Delivery, Sequence[Alert]]], facts: Facts) -> None:
        """What the alerts will ask of their targets, asked at once; what is not found so is asked again, and told, with its own alert."""
        named: list[Target] = []
        sought: list[tuple[Playbook, TargetSpec, Alert]] = []
        for delivery, alerts in coming:
            await self._give_way()
            for alert in alerts if len(named) < _AHEAD else ():
                known = self._episodes.get(alert.episode)
                asks = alert.status is AlertStatus.FIRING and not delivery.truncated and not self._is_answered(known)
                playbook = choose(alert.labels, self._world.library) if asks else None
                if playbook is None or playbook.when is None:
                    continue
                if playbook.when.target.culprit is not None:
                    sought.append((playbook, playbook.when.target, alert))
                else:
                    with suppress(Refused):
                        named.append(assumed(playbook.when.target, alert))
        culprits = (self.aim(*one, facts) for one in sought[:_CULPRITS_AHEAD])
        *found, _ = await asyncio.gather(*culprits, facts.look_ahead(named), return_exceptions=True)
        await facts.look_ahead(target for target in found if isinstance(target, Target))

    async def _keep_all(self, batches: Sequence[_Batch]) -> set[str]:
        """Ask for all of them at once, so that they share a commit. Out: the deliveries of those that the journal refused for good.

        Raises JournalUnavailable if one of them could not be kept for that.
        """
        writes = [asyncio.ensure_future(self._write(batch)) for batch in batches[:1]]
        try:
            for batch in batches[1:]:
                await asyncio.sleep(0)  # each turns its records into text first, and requests have their turn between them
                writes.append(asyncio.ensure_future(self._write(batch)))
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
        finally:
            for write in writes:
                write.cancel()
        refused: set[str] = set()
        for batch, outcome in zip(batches, outcomes, strict=True):
            await self._give_way()
            if outcome is None:
                self._kept(batch)
                self._to_begin += batch.runs
            elif isinstance(outcome, JournalError) and not isinstance(outcome, JournalUnavailable):
                # One record that the store will not have must not keep the others waiting; it is tried again at the next start.
                log.error("decisions on one delivery cannot be kept", delivery=batch.delivery, exc_info=outcome)
                refused |= {batch.delivery} if batch.delivery is not None else set()
        for outcome in outcomes:
            if outcome is not None and (isinstance(outcome, JournalUnavailable) or not isinstance(outcome, JournalError)):
                raise outcome
        return refused

    async def _keep(self, batch: _Batch) -> None:
        """One transaction; what is in memory follows only when it is on disk."""
        try:
            await self._write(batch)
        except (JournalUnavailable, asyncio.CancelledError):
            self._unconfirmed += [batch] if batch.runs else []
            raise
        self._kept(batch)

    async def _write(self, batch: _Batch) -> None:
        delivery = batch.delivery if batch.closed_at else None  # named only with its last decisions, which closes it
        await self._world.journal.decide(
            delivery, batch.decisions, episodes=list(batch.episodes.values()), runs=batch.runs, decided_at=batch.closed_at
        )

    def _kept(self, batch: _Batch) -> None:
        for episode in batch.episodes.values():
            self._episodes.put(episode)
        for run in batch.runs:
            record.count_open(run.playbook, +1)
        record.decided(batch.decisions, {run.id: self._world.tracing.trace_id(run) for run in batch.runs})
        for decision in batch.decisions:
            if decision.decision is DecisionKind.REFUSED and not self._world.dry_run:
                self._world.events.refused(decision)

    async def person(self, playbook: Playbook, target: Target, trigger: Trigger, **about: Any) -> Judged:
        """A manual trigger through the same gates. ``about``: parameters, alert, dry_run.

        Raises HandsOver; then nothing is kept. Raises JournalUnavailable; then a run may be kept, which ``look_back`` finds.
        """
        async with self._one_at_a_time:
            judged = await self.judge(playbook, target, trigger, facts=Facts(self._world), **about)
            if not about.get("dry_run"):
                await self._leave_to_others(judged.decision)
            batch = _Batch(None)
            batch.add(judged, None)
            if judged.run:
                await self._world.journal.keep_revision(playbook.revision, playbook.name, playbook.text)
            await self._keep(batch)
            return judged

    async def refuse(self, playbook: Playbook, alert: Alert | None, reason: Reason, detail: str) -> Decision:
        """A person's request that fails before the gates, because there is no such target; kept like every decision."""
        async with self._one_at_a_time:
            batch = _Batch(None)
            decision = self._decision(alert, None, playbook=playbook.name, reason=reason, detail=detail)
            batch.add(Judged(decision), None)
            await self._keep(batch)
            return decision

    async def judge(
        self,
        playbook: Playbook,
        target: Target,
        trigger: Trigger,
        *,
        facts: Facts,
        alert: Alert | None = None,
        delivery: str | None = None,
        parameters: dict[str, Any] | None = None,
        dry_run: bool = False,
    ) -> Judged:
        """Every gate's verdict on this playbook for this target, and the run that would follow. Keeps nothing."""
        world = self._world
        mode = world.mode(playbook)
        observes = mode == Mode.OBSERVE and trigger.kind is TriggerKind.ALERT
        case = Case(
            playbook=playbook.name,
            mode=mode,
            target=target,
            trigger=trigger.kind,
            alert=alert,
            dry_run=dry_run or world.dry_run or observes,
            disruptive=playbook.disruptive,
            looks=world.looks(playbook),
            actions=coming_actions(playbook),
            brought=brought_with(playbook, values_of(world, target, playbook.defaults if parameters is None else parameters)),
            settings=dict(playbook.gates),
            limits=world.limits,
            culprit=sought_by(playbook),
        )
        verdicts = await facts.judge(case, brought_gates(playbook))
        decision = self._decision(alert, delivery, playbook=playbook.name, target=target, gates=verdicts, dry_run=case.dry_run)
        decision = evolve(decision, evidence=await facts.evidence(case.culprit, alert, decision.id))
        no = refusals(verdicts)
        if no:
            detail = "; ".join(f"{v.gate}: {v.detail}" if v.detail else v.gate for v in no)
            # Whatever else refuses in a maintenance window says little: it is asked again when the window ends.
            held = alert is not None and any(v.reason is Reason.MAINTENANCE for v in no)
            kind, reason = (DecisionKind.HELD, Reason.MAINTENANCE) if held else (DecisionKind.REFUSED, no[0].reason)
            refused = evolve(decision, decision=kind, reason=reason, detail=detail)
            if not observes or len(no) > 1:
                return Judged(refused)
            run = evolve(self._run(playbook, case, trigger, verdicts, parameters or {}, delivery), evidence=decision.evidence)
            return Judged(evolve(refused, run=run.id), run)  # nothing else stands in the way: a dry run tells what would be done
        run = evolve(self._run(playbook, case, trigger, verdicts, parameters or {}, delivery), evidence=decision.evidence)
        return Judged(evolve(decision, decision=DecisionKind.RUN, run=run.id), run)

    async def aim(self, playbook: Playbook, spec: TargetSpec, alert: Alert, facts: Facts) -> Target:
        """The object to judge: the one that the alert names, or, where the playbook asks for the culprit, whoever is to blame.

        Where nobody is, it is the alert's own object again, and the gate ``no_culprit`` refuses it with all the others' verdicts beside it.
        Raises Refused, Unreadable, KubeError.
        """
        sought = sought_by(playbook)
        found = await facts.finding(sought, alert) if sought is not None else None
        if isinstance(found, Finding) and found.node is not None:
            return await facts.of_kubernetes(find("Node", found.node, "", facts.seen))
        try:
            # Whom only an address names is looked for among all nodes.
            return await facts.of_kubernetes(resolve(spec, alert, facts.seen), patience=facts.for_all_nodes)
        except Refused as error:
            if isinstance(found, Finding):
                raise Refused(Reason.NO_CULPRIT, f"{found.kind}: {found.words}") from error
            raise

    async def _safely(self, delivery: Delivery, alert: Alert, known: Episode | None, facts: Facts) -> Judged:
        """A fault of ours in one alert's decision must not keep the others waiting: it refuses, loudly."""
        try:
            return await self._alert(delivery, alert, known, facts)
        except JournalUnavailable:
            raise
        except Exception as error:  # the last boundary before the queue
            log.exception("a decision failed by a fault of this program", alert=alert.name, fingerprint=alert.fingerprint)
            detail = f"internal error, please report it: {type(error).__name__}: {error}"
            decision = self._decision(alert, delivery.id, decision=DecisionKind.REFUSED, reason=Reason.UNREADABLE, detail=detail)
            return Judged(decision)

    async def _alert(self, delivery: Delivery, alert: Alert, known: Episode | None, facts: Facts) -> Judged:
        """One alert: what needs no question to anybody first, then match, target and gates."""
        PARENT.set(delivery.trace)
        plain = self._without_questions(delivery, alert, known)
        if plain is not None:
            return Judged(plain)
        playbook = choose(alert.labels, self._world.library)
        if playbook is None or playbook.when is None:
            return Judged(self._unmatched(delivery, alert))
        try:
            target = await self.aim(playbook, playbook.when.target, alert, facts)
        except Refused as error:
            refused = self._refused(delivery, alert, playbook, error.reason, error.detail)
            return Judged(evolve(refused, evidence=await facts.evidence(sought_by(playbook), alert, refused.id)))
        except (KubeError, Unreadable) as error:
            return Judged(self._refused(delivery, alert, playbook, Reason.UNREADABLE, str(error)))
        trigger = Trigger(kind=TriggerKind.ALERT, by=delivery.receiver, reason=alert.name)
        judged = await self.judge(playbook, target, trigger, facts=facts, alert=alert, delivery=delivery.id, parameters=playbook.fill({}))
        if judged.run:
            await self._world.journal.keep_revision(playbook.revision, playbook.name, playbook.text)
        return judged

    def _without_questions(self, delivery: Delivery, alert: Alert, known: Episode | None) -> Decision | None:
        if alert.status is AlertStatus.RESOLVED:
            return self._decision(alert, delivery.id, decision=DecisionKind.RESOLVED, reason=Reason.RESOLVED, detail="the episode is over")
        if known is not None and self._is_answered(known):
            detail = f"the episode led to run {known.run} already"
            return self._decision(
                alert,
                delivery.id,
                decision=DecisionKind.DUPLICATE,
                reason=Reason.DUPLICATE,
                detail=detail,
                playbook=known.playbook,
                run=known.run,
            )
        if delivery.truncated > 0:
            detail = f"Alertmanager cut off {delivery.truncated} alerts (max_alerts), so nobody knows how many targets are affected"
            return self._decision(alert, delivery.id, **self.without_gates(DecisionKind.HELD, Reason.TRUNCATED, detail))
        return None

    def _is_answered(self, known: Episode | None) -> bool:
        """Whether nothing more may be done about the episode than its run: a dry run answers as long as the daemon or the mode is so."""
        if known is None or known.run is None:
            return False
        if known.decision is DecisionKind.REFUSED:  # it was only observed
            now = next((playbook for playbook in self._world.library.playbooks if playbook.name == known.playbook), None)
            return now is None or self._world.mode(now) == Mode.OBSERVE
        return known.dry_run == self._world.dry_run

    def _unmatched(self, delivery: Delivery, alert: Alert) -> Decision:
        misses = nearest(alert.labels, self._world.library, most=1)
        detail = f"nearest: {misses[0].playbook}, which wants {', '.join(misses[0].failed)}" if misses else "no playbook takes alerts"
        if about_ourselves(alert.labels):
            detail = "it is about remediator itself, so no playbook may take it"
        return self._decision(alert, delivery.id, decision=DecisionKind.UNMATCHED, reason=Reason.UNMATCHED, detail=detail)

    def _refused(self, delivery: Delivery, alert: Alert, playbook: Playbook, reason: Reason, detail: str) -> Decision:
        told = self.without_gates(DecisionKind.REFUSED, reason, detail)
        return self._decision(alert, delivery.id, playbook=playbook.name, **told)

    def without_gates(self, decision: DecisionKind, reason: Reason, detail: str) -> dict[str, Any]:
        """How an alert is decided about which no gate can be asked; held where that says little, since a maintenance window is open."""
        found = open_one(self._world.limits.maintenance, self._world.clock.now(), Edge.WIDE)
        if found is not None:
            detail = f"{Reason.MAINTENANCE}: {told_of(*found)}; {reason}: {detail}"
            decision, reason = DecisionKind.HELD, Reason.MAINTENANCE
        return {"decision": decision, "reason": reason, "detail": detail}

    def _decision(
        self, alert: Alert | None, delivery: str | None, *, decision: DecisionKind = DecisionKind.REFUSED, **fields: Any
    ) -> Decision:
        now = self._world.clock.now()
        return Decision(id=new_id(now), at=now, alert=alert, delivery=delivery, decision=decision, **fields)

    def _run(
        self, playbook: Playbook, case: Case, trigger: Trigger, gates: tuple[Verdict, ...], parameters: dict[str, Any], delivery: str | None
    ) -> Run:
        now = self._world.clock.now()
        asked = self._question(playbook, case, trigger, now)
        run = Run(
            id=new_id(now),
            playbook=playbook.name,
            revision=playbook.revision,
            trigger=trigger,
            dry_run=case.dry_run,
            alert=case.alert,
            delivery=delivery,
            trace=PARENT.get(),
            target=case.target,
            parameters=parameters,
            state=RunState.AWAITING_APPROVAL if asked else RunState.RUNNING,
            approvals=asked,
            started_at=now,
            deadline=now + playbook.deadline,
            disruptive=case.disruptive,
            gates=gates,
            steps=planned_steps(playbook),
        )
        return with_parameters(run, playbook, self._world)

    def _question(self, playbook: Playbook, case: Case, trigger: Trigger, now: datetime) -> tuple[Approval, ...]:
        """What people are asked before the run begins, if they are. Whoever triggers a run has said yes by that, for one person."""
        if case.mode != Mode.SUGGEST or case.dry_run or case.looks:
            return ()
        by_hand = trigger.kind is TriggerKind.MANUAL
        answers = (Answer(by=trigger.by, at=now, approved=True, reason=trigger.reason),) if by_hand else ()
        text = f"May {playbook.name} act on {case.target.key}?"
        asked = question(asking_of(self._world, playbook), now, text=text, answers=answers)
        return (asked,) if asked.missing else ()

    async def _not_decided(self, portion: Portion) -> list[int] | None:
        """The places of ``portion`` that were not decided on before; None if all of its delivery is decided.

        The journal may have kept what it could not confirm: memory follows here, and runs that are open are handed out (once more).
        """
        delivery = portion.delivery
        page = await self._world.journal.decisions(delivery=delivery.id, limit=_MOST_ALERTS)
        for decision in reversed(page.items):
            await self._remember(decision)
        await self._recall(alert.episode for alert in portion.alerts)
        stored = await self._world.journal.delivery(delivery.id)
        if stored is not None and stored.decided_at is not None:
            return None
        done = Counter((d.alert.episode, d.alert.status) for d in page.items if d.alert)
        decided = set()
        for place, alert in enumerate(delivery.alerts):
            key = alert.episode, alert.status
            if done[key]:
                done[key] -= 1  # an alert that is in it twice has two decisions, the first of them first
                decided.add(place)
        return [place for place in portion.places if place not in decided]

    async def _remember(self, decision: Decision) -> None:
        await self._take_note(decision)
        run = await self._world.journal.run(decision.run) if decision.run and decision.decision in _BEGIN else None
        if run is not None and run.state.open:
            self._to_begin.append(run)

    async def _take_note(self, decision: Decision) -> None:
        """Remember a decision that is on disk, unless it is known here."""
        if decision.alert is None:
            return
        key = decision.alert.episode
        known = self._episodes.get(key)
        if known is not None and known.last_seen >= decision.at:
            return
        if known is None:
            await self._recall([key])
            known = self._episodes.get(key)
        if known is None or known.last_seen < decision.at:
            self._episodes.put(Episodes.after(known, decision, decision.alert))
        if decision.at < self._began:
            return  # whoever made it counted it
        record.decided([decision])
        if decision.run and decision.decision in _BEGIN and decision.playbook is not None:
            record.count_open(decision.playbook, +1)
