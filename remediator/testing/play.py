"""Plays a scenario against somebody who is to deal with it, and scores what came of it.

In: a scenario, who deals with it (``Hands``: the daemon, or something to compare it with), a clock that leaps. Out: a Performance. They see
the simulated cluster over HTTP only; what the judge knows comes from the request log, the cluster's own state, and their own record.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Self

from remediator.errors import ServerRefused
from remediator.model import RunState
from remediator.reasons import Reason
from remediator.sim import Simulation
from remediator.sim.alerting import Receiver
from remediator.sim.objects import dig, key_of
from remediator.testing.house import House
from remediator.testing.judge import Place, Score, deeds, judge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from remediator.model import Run
    from remediator.sim import Scenario
    from remediator.sim.store import Change
    from remediator.testing.leaping import LeapingClock

__all__ = ["START", "Daemons", "Hands", "Performance", "on_node", "perform"]

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
"""When every performance begins, so that windows of time can be written down in a scenario."""
_EVERY = timedelta(seconds=5)
_REST = timedelta(minutes=2)
"""How long it has to be whole, without an open alert and with nobody at work, before nobody looks on any longer."""
_ASKING = timedelta(seconds=60)
"""From the break until a person asks, who has seen the alert by then if there is one."""
_TRIES = 3
_RECEIVER = {
    "group_wait": timedelta(seconds=10),
    "group_interval": timedelta(seconds=30),
    "repeat_interval": timedelta(minutes=5),
}
_OPEN = [state for state in RunState if state.open]


class Hands(ABC):
    """Who deals with a scenario. Made for one performance; an async context manager."""

    name: ClassVar[str]

    def __init__(self, simulation: Simulation, scenario: Scenario, clock: LeapingClock, folder: Path) -> None:
        self.simulation = simulation
        self.scenario = scenario
        self.clock = clock
        self.folder = folder

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *_: object) -> None: ...

    @property
    @abstractmethod
    def webhook(self) -> tuple[str, str]:
        """Where alerts are posted, and the token."""

    @abstractmethod
    async def ask(self) -> None:
        """A person asks for what the scenario says."""

    @abstractmethod
    async def busy(self) -> bool:
        """Whether anything is under way."""

    async def runs(self) -> tuple[Run, ...]:
        """Their own record, if they keep one."""
        return ()

    async def reasons(self) -> frozenset[str]:
        """Every reason code in it."""
        return frozenset()


class _OffClock:
    """The daemon's own clock, which may be wrong."""

    def __init__(self, clock: LeapingClock) -> None:
        self._clock = clock
        self.by = timedelta(0)

    def now(self) -> datetime:
        """See Clock."""
        return self._clock.now() + self.by

    async def sleep(self, duration: timedelta) -> None:
        """See Clock. How long things take does not depend on what the clock says."""
        await self._clock.sleep(duration)


class Daemons(Hands):
    """The daemon with the shipped playbooks, all of them in mode ``auto``."""

    name: ClassVar[str] = "remediator"

    async def __aenter__(self) -> Self:
        """Start it, where the scenario says that it runs."""
        self._refused: frozenset[str] = frozenset()
        self._off = _OffClock(self.clock)
        for start, by in self.scenario.clock_is_off:
            self.simulation.cluster.loop.after(start, self._set, by)
        self._here = on_node(self.scenario.own_node)
        self._here.__enter__()
        self._house = House(self.simulation, self._off, self.folder, self.scenario.settings)
        await self._house.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        await self._house.__aexit__()
        self._here.__exit__(None, None, None)

    def _set(self, by: timedelta) -> None:
        self._off.by = by

    @property
    def webhook(self) -> tuple[str, str]:
        """See Hands."""
        return self._house.webhook, self._house.tokens["webhook"]

    async def ask(self) -> None:
        """See Hands. A refusal is an answer, unless something could not be read in time: then a person tries again."""
        truth = self.scenario.truth
        request = {"playbook": truth.playbook, "target": truth.target, "reason": self.scenario.asks, "by": "person"}
        for _ in range(_TRIES):
            try:
                await self._house.client.trigger(request)
            except ServerRefused as refusal:
                reason = str(refusal.problem.get("reason", ""))
                self._refused |= {reason}
                if reason == Reason.UNREADABLE:
                    continue
            return

    async def busy(self) -> bool:
        """See Hands."""
        return bool((await self._house.client.runs(state=_OPEN)).items)

    async def runs(self) -> tuple[Run, ...]:
        """See Hands."""
        return (await self._house.client.runs(limit=500)).items

    async def reasons(self) -> frozenset[str]:
        """See Hands. Of decisions, of every verdict in them, and of runs."""
        decisions = (await self._house.client.decisions(limit=500)).items
        runs = await self.runs()
        verdicts = [verdict for gates in (*(d.gates for d in decisions), *(r.gates for r in runs)) for verdict in gates]
        told = [*(d.reason for d in decisions), *(r.reason for r in runs), *(v.reason for v in verdicts)]
        return frozenset(str(reason) for reason in told if reason) | self._refused


@contextmanager
def on_node(node: str) -> Iterator[None]:
    """What the pod's downward API would say (deploy/kustomize/base/deployment.yaml)."""
    before = os.environ.get("NODE_NAME")
    os.environ["NODE_NAME"] = node
    try:
        yield
    finally:
        if before is None:
            del os.environ["NODE_NAME"]
        else:
            os.environ["NODE_NAME"] = before


class _Witness:
    """Remembers where every pod was, and when the cluster was whole."""

    def __init__(self, simulation: Simulation) -> None:
        self._cluster = simulation.cluster
        self.pods: dict[tuple[str, str], Place] = {}
        self.whole: list[tuple[datetime, bool]] = []
        for pod in self._cluster.objects("Pod"):
            self.pods[key_of(pod)] = Place(str(dig(pod, "spec.nodeName") or ""), self._cluster.is_agent(pod))
        self._cluster.store.subscribe(self._changed, ("", "pods"))

    def _changed(self, change: Change) -> None:
        node = dig(change.obj, "spec.nodeName")
        if node:
            self.pods[key_of(change.obj)] = Place(str(node), self._cluster.is_agent(change.obj))

    def look(self, *, whole: bool) -> None:
        """Note how it is now."""
        self.whole.append((self._cluster.clock.now(), whole))

    @property
    def whole_since(self) -> datetime | None:
        """Since when it has been whole without a break; None if it is not now."""
        broken = max((at for at, whole in self.whole if not whole), default=None)
        return next((at for at, whole in self.whole if whole and (broken is None or at > broken)), None)

    def was_whole(self, moment: datetime) -> bool:
        """At the last look before that moment or at the first one after it."""
        before = [whole for at, whole in self.whole if at < moment][-1:]
        after = [whole for at, whole in self.whole if at >= moment][:1]
        return any((*before, *after))


@dataclass(frozen=True)
class Performance:
    """What happened."""

    score: Score
    runs: tuple[Run, ...]
    alerts: frozenset[str]
    """The names of the alerts that fired."""
    reasons: frozenset[str]
    """The reason codes in their record."""
    lasted: timedelta
    """On the simulated clock."""

    def told(self) -> str:
        """For whoever has to find out why."""
        lines = [f"{self.score.scenario}: healed {self.score.healed_after or 'never'}, {self.score.calls} calls, {self.lasted} long"]
        wrong = {deed: deed for deed in self.score.wrong}
        lines += [f"  did   {wrong.get(deed, deed)}" for deed in self.score.done]
        lines += [f"  run   {r.started_at:%H:%M:%S} {r.playbook} on {r.target.key}: {r.state} {r.reason} {r.detail}" for r in self.runs]
        lines += [f"  fired {', '.join(sorted(self.alerts)) or 'nothing'}; said {', '.join(sorted(self.reasons)) or 'nothing'}"]
        return "\n".join(lines)


async def perform(scenario: Scenario, hands: type[Hands], clock: LeapingClock, folder: Path) -> Performance:
    """Play it from the beginning to the end; ``folder`` is theirs to use."""
    async with Simulation(nodes=scenario.nodes, clock=clock, seed=1) as simulation:
        witness = _Witness(simulation)
        async with hands(simulation, scenario, clock, folder) as they:
            began = clock.now()
            simulation.cluster.request_log.clear()
            url, token = they.webhook
            simulation.add_receiver(Receiver(url=url, token=token, **{**_RECEIVER, **scenario.receiver}))
            await simulation.play(scenario)
            await _look_on(simulation, scenario, they, witness)
            score = _score(simulation, scenario, witness, began + scenario.breaks, await they.runs())
            fired = frozenset(alert.labels["alertname"] for alert in simulation.alertmanager.alerts.values())
            return Performance(score, await they.runs(), fired, await they.reasons(), clock.now() - began)


async def _look_on(simulation: Simulation, scenario: Scenario, they: Hands, witness: _Witness) -> None:
    clock, began = simulation.clock, simulation.clock.now()
    asks = bool(scenario.asks)
    while clock.now() - began < scenario.lasts:
        await clock.sleep(_EVERY)
        if clock.now() - began < scenario.breaks:
            continue
        witness.look(whole=scenario.healed(simulation))
        if asks and clock.now() - began >= scenario.breaks + _ASKING:
            asks = False
            await they.ask()
        if not asks and scenario.truth.healable and await _over(simulation, they, witness):
            return


async def _over(simulation: Simulation, they: Hands, witness: _Witness) -> bool:
    since = witness.whole_since
    if since is None or simulation.clock.now() - since < _REST or simulation.alertmanager.open_alerts():
        return False
    return not await they.busy()


def _score(simulation: Simulation, scenario: Scenario, witness: _Witness, broke: datetime, runs: tuple[Run, ...]) -> Score:
    done = deeds(simulation.cluster.request_log, witness.pods)
    since = witness.whole_since
    claims = [
        f"{run.playbook} on {run.target.key}"
        for run in runs
        if run.state is RunState.HEALED and run.ended_at is not None and not witness.was_whole(run.ended_at)
    ]
    return Score(
        scenario=scenario.name,
        healable=scenario.truth.healable,
        wrong=judge(scenario.truth, done, broke=broke),
        done=done,
        healed_after=max(since - broke, timedelta(0)) if since is not None else None,
        calls=sum(entry.service == "kubernetes" for entry in simulation.cluster.request_log),
        claims=tuple(claims),
    )
