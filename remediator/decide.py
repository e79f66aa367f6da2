"""Decides on alerts: match, then gate, then a Decision for each, and a Run where the answer is yes.

In: a stored delivery, or a person's request. Out: one Decision per alert, kept in one transaction with the episodes and runs that follow
from it. One decision is made at a time, so that two alerts for one target cannot both be allowed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from remediator import record
from remediator.episodes import Episodes
from remediator.errors import JournalError, KubeError, Refused, Unreadable
from remediator.facts import Facts
from remediator.gates import Case, refusals
from remediator.match import choose, nearest, resolve
from remediator.model import (
    Alert,
    AlertStatus,
    Decision,
    DecisionKind,
    Delivery,
    Run,
    RunState,
    Trigger,
    TriggerKind,
    evolve,
    new_id,
)
from remediator.reasons import Reason
from remediator.run import brought_gates, planned_steps

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.model import Episode, Target, Verdict
    from remediator.playbook import Playbook
    from remediator.world import World

__all__ = ["Decider", "Judged"]

log = structlog.get_logger(__name__)


class Judged:
    """What became of one case: the decision and, if it is yes, the run that follows."""

    __slots__ = ("decision", "run")

    def __init__(self, decision: Decision, run: Run | None = None) -> None:
        self.decision = decision
        self.run = run


class _Batch:
    """Decisions that are kept in one transaction."""

    def __init__(self, delivery: str | None) -> None:
        self.delivery = delivery
        self.decisions: list[Decision] = []
        self.episodes: dict[tuple[str, datetime], Episode] = {}
        self.runs: list[Run] = []

    def add(self, judged: Judged, alert: Alert | None, episode: Episode | None) -> None:
        self.decisions.append(judged.decision)
        if alert is not None and episode is not None:
            self.episodes[alert.episode] = episode
        if judged.run is not None:
            self.runs.append(judged.run)


class Decider:
    """Makes every decision of this daemon, one at a time."""

    def __init__(self, world: World, episodes: Episodes) -> None:
        self._world = world
        self._episodes = episodes
        self._one_at_a_time = asyncio.Lock()

    def episode(self, alert: Alert) -> Episode | None:
        """What is known of the alert's episode."""
        return self._episodes.get(alert.episode)

    async def delivery(self, delivery: Delivery, *, again: bool = False) -> list[Run]:
        """Decide on every alert of ``delivery``; the runs to start. ``again`` after a crash: what was decided before stays decided.

        Raises JournalUnavailable; then ask ``again``.
        """
        async with self._one_at_a_time:
            done = await self._decided_before(delivery) if again else frozenset()
            if done is None:
                return []
            batch = _Batch(delivery.id)
            facts = Facts(self._world)
            runs: list[Run] = []
            for alert in delivery.alerts:
                if (alert.episode, alert.status) in done:
                    continue
                known = batch.episodes.get(alert.episode) or self._episodes.get(alert.episode)
                judged = await self._safely(delivery, alert, known, facts)
                batch.add(judged, alert, Episodes.after(known, judged.decision, alert))
                if judged.run is not None:
                    # A run is on disk before the next alert is judged, so that it counts for it.
                    await self._keep(batch, decided_at=None)
                    runs.append(judged.run)
                    batch, facts = _Batch(delivery.id), Facts(self._world)
            await self._keep(batch, decided_at=self._world.clock.now())
            return runs

    async def _keep(self, batch: _Batch, *, decided_at: datetime | None) -> None:
        """One transaction; what is in memory follows only when it is on disk."""
        delivery = batch.delivery if decided_at else None  # named only with its last decisions, which closes it
        await self._world.journal.decide(
            delivery, batch.decisions, episodes=list(batch.episodes.values()), runs=batch.runs, decided_at=decided_at
        )
        for episode in batch.episodes.values():
            self._episodes.put(episode)
        for run in batch.runs:
            record.count_open(run.playbook, +1)
        record.decided(batch.decisions)

    async def person(self, playbook: Playbook, target: Target, trigger: Trigger, **about: Any) -> Judged:
        """A manual trigger through the same gates. ``about``: parameters, alert, dry_run."""
        async with self._one_at_a_time:
            judged = await self.judge(playbook, target, trigger, facts=Facts(self._world), **about)
            batch = _Batch(None)
            batch.add(judged, None, None)
            if judged.run:
                await self._world.journal.keep_revision(playbook.revision, playbook.name, playbook.text)
            await self._keep(batch, decided_at=None)
            return judged

    async def refuse(self, playbook: Playbook, alert: Alert | None, reason: Reason, detail: str) -> Decision:
        """A person's request that fails before the gates, because there is no such target; kept like every decision."""
        async with self._one_at_a_time:
            batch = _Batch(None)
            decision = self._decision(alert, None, playbook=playbook.name, reason=reason, detail=detail)
            batch.add(Judged(decision), None, None)
            await self._keep(batch, decided_at=None)
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
        case = Case(
            playbook=playbook.name,
            mode=world.mode_of(playbook),
            target=target,
            trigger=trigger.kind,
            alert=alert,
            dry_run=dry_run or world.dry_run,
            disruptive=playbook.disruptive,
            settings=dict(playbook.gates),
            limits=world.limits,
        )
        verdicts = await facts.judge(case, brought_gates(playbook))
        decision = self._decision(alert, delivery, playbook=playbook.name, target=target, gates=verdicts)
        no = refusals(verdicts)
        if no:
            detail = "; ".join(f"{v.gate}: {v.detail}" if v.detail else v.gate for v in no)
            return Judged(evolve(decision, decision=DecisionKind.REFUSED, reason=no[0].reason, detail=detail))
        run = self._run(playbook, case, trigger, verdicts, parameters or {}, delivery)
        return Judged(evolve(decision, decision=DecisionKind.RUN, run=run.id), run)

    async def _safely(self, delivery: Delivery, alert: Alert, known: Episode | None, facts: Facts) -> Judged:
        """A fault of ours in one alert's decision must not keep the others waiting: it refuses, loudly."""
        try:
            return await self._alert(delivery, alert, known, facts)
        except JournalError:
            raise
        except Exception as error:  # the last boundary before the queue
            log.exception("a decision failed by a fault of this program", alert=alert.name, fingerprint=alert.fingerprint)
            detail = f"internal error, please report it: {type(error).__name__}: {error}"
            decision = self._decision(alert, delivery.id, decision=DecisionKind.REFUSED, reason=Reason.UNREADABLE, detail=detail)
            return Judged(decision)

    async def _alert(self, delivery: Delivery, alert: Alert, known: Episode | None, facts: Facts) -> Judged:
        """One alert: what needs no question to anybody first, then match, target and gates."""
        plain = self._without_questions(delivery, alert, known)
        if plain is not None:
            return Judged(plain)
        playbook = choose(alert.labels, self._world.library)
        if playbook is None or playbook.when is None:
            return Judged(self._unmatched(delivery, alert))
        try:
            target = await resolve(playbook.when.target, alert, self._world.kube)
        except Refused as error:
            return Judged(self._refused(delivery, alert, playbook, error.reason, error.detail))
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
        if known is not None and known.run is not None:
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
            return self._decision(alert, delivery.id, decision=DecisionKind.HELD, reason=Reason.TRUNCATED, detail=detail)
        return None

    def _unmatched(self, delivery: Delivery, alert: Alert) -> Decision:
        misses = nearest(alert.labels, self._world.library, most=1)
        detail = f"nearest: {misses[0].playbook}, which wants {', '.join(misses[0].failed)}" if misses else "no playbook takes alerts"
        return self._decision(alert, delivery.id, decision=DecisionKind.UNMATCHED, reason=Reason.UNMATCHED, detail=detail)

    def _refused(self, delivery: Delivery, alert: Alert, playbook: Playbook, reason: Reason, detail: str) -> Decision:
        return self._decision(alert, delivery.id, decision=DecisionKind.REFUSED, reason=reason, detail=detail, playbook=playbook.name)

    def _decision(
        self, alert: Alert | None, delivery: str | None, *, decision: DecisionKind = DecisionKind.REFUSED, **fields: Any
    ) -> Decision:
        now = self._world.clock.now()
        return Decision(id=new_id(now), at=now, alert=alert, delivery=delivery, decision=decision, **fields)

    def _run(
        self, playbook: Playbook, case: Case, trigger: Trigger, gates: tuple[Verdict, ...], parameters: dict[str, Any], delivery: str | None
    ) -> Run:
        now = self._world.clock.now()
        return Run(
            id=new_id(now),
            playbook=playbook.name,
            revision=playbook.revision,
            trigger=trigger,
            dry_run=case.dry_run,
            alert=case.alert,
            delivery=delivery,
            target=case.target,
            parameters=parameters,
            state=RunState.RUNNING,
            started_at=now,
            deadline=now + playbook.deadline,
            disruptive=case.disruptive,
            gates=gates,
            steps=planned_steps(playbook),
        )

    async def _decided_before(self, delivery: Delivery) -> frozenset[Any] | None:
        """The alerts of ``delivery`` that have their decision; None if all of it is decided."""
        stored = await self._world.journal.delivery(delivery.id)
        if stored is not None and stored.decided_at is not None:
            return None
        page = await self._world.journal.decisions(delivery=delivery.id, limit=10_000)
        return frozenset((d.alert.episode, d.alert.status) for d in page.items if d.alert)
