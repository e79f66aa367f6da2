"""What other playbooks or settings would have done with deliveries that are on record: the same matching and the same gates, by their time.

In: deliveries in the order of time, a library and settings. Out: an Outcome for each episode, and how often each gate refused. Nothing is
asked of anybody, nothing is written. The cluster of that time is not known: a gate that needs to know it is named as unjudged, never as
allowing, so no outcome says more than that nothing known refuses. What is assumed instead stands in ``ASSUMED`` and is always told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from remediator.actions import recurring
from remediator.beginnings import Beginnings
from remediator.breaker import LOOK_BACK, Past, counted, opened
from remediator.errors import Refused, Unreadable
from remediator.facts import LONGEST_LOOK_BACK
from remediator.gates import Case, Fact, Gate, Limits, Snapshot, in_force
from remediator.match import assumed, choose
from remediator.model import (
    Alert,
    AlertStatus,
    DecisionKind,
    Done,
    Mode,
    Noun,
    Run,
    RunState,
    Target,
    Trigger,
    TriggerKind,
    Verdict,
    evolve,
    new_id,
)
from remediator.reasons import Reason
from remediator.run import brought_gates, coming_actions, sought_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from remediator.model import Delivery
    from remediator.playbook import Library, Playbook

__all__ = ["ASSUMED", "Backtest", "Difference", "Outcome", "Result", "differences"]

ASSUMED = (
    "Every target exists and is the one that the alert's labels name; whoever else was to blame is not known.",
    "Gates that could not be judged would have allowed; each outcome names them.",
    "A run works until its alert is resolved and has then healed it, or until its deadline and has then not healed it.",
    "Where people are asked they say yes at once.",
    "Nobody paused, cancelled or reset anything, and nothing was remembered from before the first delivery.",
    "What a maintenance window held is decided again with the first delivery after it.",
)
"""Said with every result."""
_KNOWN_LONG_ENOUGH = (Fact.EPISODES, Fact.FAILURES)
"""Facts that are the same for every alert of one delivery, as long as no run begins; what only they decide is judged once."""
_A_DAY = timedelta(days=1)


class Outcome(Noun, frozen=True, kw_only=True):
    """What would have become of one episode. ``run``: nothing known refuses; else the last word on it."""

    name: str
    fingerprint: str
    starts_at: datetime
    at: datetime
    """Of that decision."""
    decision: DecisionKind
    reason: Reason | None = None
    detail: str = ""
    playbook: str | None = None
    revision: str | None = None
    target: Target | None = None
    actions: tuple[str, ...] = ()
    """Of the whole ladder, in its order."""
    asks: bool = False
    """Whether people would have been asked first."""
    refused_by: tuple[str, ...] = ()
    """Gates."""
    unjudged: tuple[str, ...] = ()
    """Gates that need what is not known of that time."""


class Result(Noun, frozen=True, kw_only=True):
    """One replay, told with what it assumed."""

    deliveries: int
    alerts: int
    since: datetime | None
    until: datetime | None
    decisions: dict[str, int]
    """Episodes by their outcome."""
    gates: dict[str, int]
    """Episodes that each gate refused."""
    unjudged: dict[str, int]
    """Episodes for which each gate could not be judged."""
    items: tuple[Outcome, ...]
    """In the order of their decisions."""
    assumed: tuple[str, ...] = ASSUMED


class Difference(Noun, frozen=True, kw_only=True):
    """An episode that two revisions would have treated differently."""

    before: Outcome
    after: Outcome


class Backtest:
    """One replay. ``take`` each delivery in the order of time, then ask for the ``result``."""

    def __init__(self, library: Library, *, limits: Limits, mode_of: Callable[[Playbook], Mode], dry_run: bool = False) -> None:
        self._library = library
        self._limits = limits
        self._mode_of = mode_of
        self._dry_run = dry_run
        self._cases: dict[str, tuple[Case, Sequence[Gate]]] = {}
        self._outcomes: dict[tuple[str, datetime], Outcome] = {}
        self._held: dict[tuple[str, datetime], tuple[Delivery, Alert]] = {}
        self._open: dict[tuple[str, datetime], Run] = {}
        self._of_target: dict[str, list[Run]] = {}
        self._ended: list[Run] = []
        self._beginnings = Beginnings()
        self._beginnings.complete = True
        self._shared: dict[str, Verdict] = {}
        self._opened: tuple[datetime, Past] | None = None
        """When the breaker opened, and by what."""
        self._looked: datetime | None = None
        """When it was last asked about the breaker."""
        self._at: datetime | None = None
        self._since: datetime | None = None
        self._deliveries = self._alerts = 0

    def take(self, delivery: Delivery) -> None:
        """Decide on every alert of ``delivery``, at the time when it was received."""
        now = max(self._at or delivery.received_at, delivery.received_at)
        self._since = self._since or now
        self._at = now
        self._deliveries += 1
        self._alerts += len(delivery.alerts)
        self._shared.clear()
        self._expire(now)
        self._beginnings.arrived(delivery.alerts, now)
        for key, (of, alert) in list(self._held.items()):
            self._decide(of, alert, key, now)
        for alert in delivery.alerts:
            self._alert(delivery, alert, now)

    def result(self) -> Result:
        """Of all that was taken."""
        items = sorted(self._outcomes.values(), key=attrgetter("at", "name", "fingerprint"))
        return Result(
            deliveries=self._deliveries,
            alerts=self._alerts,
            since=self._since,
            until=self._at,
            decisions=_sorted(Counter(one.decision.value for one in items)),
            gates=_sorted(Counter(gate for one in items for gate in one.refused_by)),
            unjudged=_sorted(Counter(gate for one in items for gate in one.unjudged)),
            items=tuple(items),
        )

    def _alert(self, delivery: Delivery, alert: Alert, now: datetime) -> None:
        key = alert.episode
        known = self._outcomes.get(key)
        if alert.status is AlertStatus.RESOLVED:
            self._held.pop(key, None)
            if key in self._open:
                self._end(self._open.pop(key), RunState.HEALED, None, now)
            if known is None:
                self._keep(alert, now, decision=DecisionKind.RESOLVED, reason=Reason.RESOLVED, detail="it was resolved when it came")
        elif known is not None and known.decision is DecisionKind.RUN:
            pass  # the daemon would call it a duplicate
        elif delivery.truncated:
            detail = f"Alertmanager cut off {delivery.truncated} alerts (max_alerts)"
            self._keep(alert, now, decision=DecisionKind.HELD, reason=Reason.TRUNCATED, detail=detail)
        else:
            self._decide(delivery, alert, key, now)

    def _decide(self, delivery: Delivery, alert: Alert, key: tuple[str, datetime], now: datetime) -> None:
        self._held.pop(key, None)
        playbook = choose(alert.labels, self._library)
        if playbook is None or playbook.when is None:
            self._keep(alert, now, decision=DecisionKind.UNMATCHED, reason=Reason.UNMATCHED)
            return
        about: dict[str, Any] = {"playbook": playbook.name, "revision": playbook.revision, "actions": _ladder(playbook)}
        try:
            target = assumed(playbook.when.target, alert)
        except Refused as error:
            self._keep(alert, now, decision=DecisionKind.REFUSED, reason=error.reason, detail=error.detail, **about)
            return
        case, applying = self._case(playbook)
        case = evolve(case, target=target, alert=alert)
        refused, unjudged = self._judge(case, applying, now)
        about |= {"target": target, "asks": case.asks, "unjudged": unjudged, "refused_by": tuple(one.gate for one in refused)}
        if not refused:
            self._keep(alert, now, decision=DecisionKind.RUN, **about)
            self._begin(playbook, case, key, now)
            return
        held = any(one.reason is Reason.MAINTENANCE for one in refused)
        if held:
            self._held[key] = delivery, alert
        self._keep(
            alert,
            now,
            decision=DecisionKind.HELD if held else DecisionKind.REFUSED,
            reason=Reason.MAINTENANCE if held else refused[0].reason,
            detail="; ".join(f"{one.gate}: {one.detail}" if one.detail else one.gate for one in refused),
            **about,
        )

    def _keep(self, alert: Alert, now: datetime, **about: Any) -> None:
        fingerprint, starts_at = alert.episode
        self._outcomes[alert.episode] = Outcome(name=alert.name, fingerprint=fingerprint, starts_at=starts_at, at=now, **about)

    def _case(self, playbook: Playbook) -> tuple[Case, Sequence[Gate]]:
        """Of that playbook, for any target."""
        if playbook.name not in self._cases:
            mode = self._mode_of(playbook)
            case = Case(
                playbook=playbook.name,
                mode=mode,
                target=Target(kind="Node", name="any"),
                trigger=TriggerKind.ALERT,
                dry_run=self._dry_run or mode == Mode.OBSERVE,
                disruptive=playbook.disruptive,
                looks=playbook.looks,
                actions=coming_actions(playbook),
                settings=dict(playbook.gates),
                limits=self._limits,
                culprit=sought_by(playbook),
            )
            self._cases[playbook.name] = case, in_force(case, brought_gates(playbook))
        return self._cases[playbook.name]

    def _judge(self, case: Case, applying: Iterable[Gate], now: datetime) -> tuple[list[Verdict], tuple[str, ...]]:
        """Who refuses, and who cannot be judged."""
        snapshot = Snapshot(at=now, facts=self._facts(case, now))
        refused, unjudged = [], []
        for gate in applying:
            if gate.only_disruptive and not case.disruptive:
                continue
            try:
                verdict = self._verdict(gate, case, snapshot)
            except Unreadable:
                unjudged.append(gate.name)
                continue
            if not verdict.allowed:
                refused.append(verdict)
        return refused, tuple(unjudged)

    def _verdict(self, gate: Gate, case: Case, snapshot: Snapshot) -> Verdict:
        if not gate.reads or not gate.reads.issubset(_KNOWN_LONG_ENOUGH):
            return gate.judge(case, snapshot)
        if gate.name not in self._shared:
            self._shared[gate.name] = gate.judge(case, snapshot)
        return self._shared[gate.name]

    def _facts(self, case: Case, now: datetime) -> dict[Fact, Any]:
        history = [run for run in self._of_target.get(case.target.key, ()) if run.started_at >= now - LONGEST_LOOK_BACK]
        history.reverse()
        open_runs = tuple(self._open.values())
        facts: dict[Fact, Any] = {
            Fact.OPEN_RUNS: open_runs,
            Fact.UNDOING: (),
            Fact.HISTORY: tuple(history),
            Fact.RESTARTS: tuple(done for run in history for done in self._done(run)),
            Fact.RECENT_RUNS: (*self._since_then(now - _A_DAY), *open_runs),
        }
        if len(self._shared) < len(_KNOWN_LONG_ENOUGH):
            facts |= {Fact.EPISODES: self._beginnings.until(now), Fact.FAILURES: self._past(now, open_runs)}
        return facts

    def _past(self, now: datetime, open_runs: tuple[Run, ...]) -> Past:
        """What the breaker is judged by. Only what happened since it was last looked at can have opened it; what did keeps it open."""
        if self._opened is not None and now < self._opened[0] + LOOK_BACK:
            return self._opened[1]
        limits = self._limits.breaker
        since = (self._looked or now) - limits.within
        past = Past(runs=counted((*self._since_then(since), *open_runs)))
        found = opened(past, limits)
        self._looked = now
        self._opened = (found.at, past) if found is not None and now < found.at + LOOK_BACK else None
        return past

    def _since_then(self, since: datetime) -> Sequence[Run]:
        """Ended runs, in the order of their ends."""
        return self._ended[bisect_left(self._ended, since, key=lambda run: run.ended_at or since) :]

    def _done(self, run: Run) -> Iterable[Done]:
        if run.dry_run:
            return ()
        again = recurring().intersection(self._cases[run.playbook][0].actions)
        return [
            Done(action=name, target=run.target.key, at=run.started_at, run=run.id, playbook=run.playbook, state=run.state)
            for name in sorted(again)
        ]

    # runs

    def _begin(self, playbook: Playbook, case: Case, key: tuple[str, datetime], now: datetime) -> None:
        run = Run(
            id=new_id(now),
            playbook=playbook.name,
            revision=playbook.revision,
            trigger=Trigger(kind=TriggerKind.ALERT),
            dry_run=case.dry_run,
            alert=case.alert,
            target=case.target,
            state=RunState.RUNNING,
            started_at=now,
            deadline=now + playbook.deadline,
            disruptive=case.disruptive,
        )
        self._shared.clear()
        if run.dry_run:
            self._end(run, RunState.PREDICTED, None, now, begun=False)
            return
        self._open[key] = run
        self._of_target.setdefault(run.target.key, []).append(run)

    def _expire(self, now: datetime) -> None:
        due = sorted(((run.deadline, key) for key, run in self._open.items() if run.deadline <= now))
        for deadline, key in due:
            self._end(self._open.pop(key), RunState.NOT_HEALED, Reason.DEADLINE, deadline)

    def _end(self, run: Run, state: RunState, reason: Reason | None, at: datetime, *, begun: bool = True) -> None:
        ended = evolve(run, state=state, reason=reason, ended_at=at)
        of_target = self._of_target.setdefault(run.target.key, [])
        if begun:
            of_target[of_target.index(run)] = ended
        else:
            of_target.append(ended)
        self._ended.append(ended)
        self._shared.clear()


def differences(before: Result, after: Result) -> tuple[Difference, ...]:
    """Episodes of which the two would have made something else, by time: decision, playbook, target, actions, or who refuses."""
    earlier = {(one.fingerprint, one.starts_at): one for one in before.items}
    found = []
    for one in after.items:
        was = earlier.get((one.fingerprint, one.starts_at))
        if was is not None and _told(was) != _told(one):
            found.append(Difference(before=was, after=one))
    return tuple(found)


def _ladder(playbook: Playbook) -> tuple[str, ...]:
    return tuple(step.action for rung in playbook.ladder for step in rung.steps)


def _told(one: Outcome) -> tuple[Any, ...]:
    return one.decision, one.reason, one.playbook, one.target, one.actions, one.asks, one.refused_by


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
