"""Plays one test on the simulated cluster, with the real daemon on a clock that leaps.

In: a case, the playbooks that it loads, a folder for the daemon's files. Out: what was Seen: decisions, runs, calls, changes left, what the
conditions on the cluster said, and the story that ``why`` tells. What could not happen as the file says stands in ``mishaps``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.errors import ServerRefused, Unreadable, UsageError
from remediator.model import DecisionKind, RunState
from remediator.sim import Simulation
from remediator.sim.alerting import Receiver
from remediator.sim.selectors import selector_test
from remediator.testing.cases import Case, Happening, fits
from remediator.testing.happen import World, of_people
from remediator.testing.house import House
from remediator.testing.judge import MARKS, tries
from remediator.testing.play import on_node

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from remediator.client import Client
    from remediator.model import Change, Decision, Run
    from remediator.sim.calls import Logged
    from remediator.sim.objects import Obj
    from remediator.testing.cases import Asked, Held, Paused, Steers
    from remediator.testing.leaping import LeapingClock

__all__ = ["Made", "Seen", "rehearsal"]

_EVERY = timedelta(seconds=5)
"""How often what was called is looked through, for what is to happen after it."""
_REST = timedelta(minutes=2)
"""How long nothing may happen before nobody looks on any longer."""
_LONGEST = timedelta(hours=3)
"""After that a test ends that does not say how long it lasts."""
_RECEIVER: dict[str, Any] = {"group_by": ("...",), "group_wait": timedelta(seconds=1), "group_interval": timedelta(seconds=30)}
_NEWEST = 500


@dataclass(frozen=True)
class Made:
    """One call that took effect."""

    after: timedelta
    """Since the beginning of the test."""
    call: str
    """``delete Pod/kube-system/cilium-x``"""


@dataclass
class Seen:
    """What came of a test."""

    decisions: list[Decision] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    calls: list[Made] = field(default_factory=list)
    changes_left: list[str] = field(default_factory=list)
    mishaps: list[tuple[int, str]] = field(default_factory=list)
    """Index in ``when``, and why it could not happen."""
    conditions: list[str] = field(default_factory=list)
    """One for each condition on the cluster: empty if it holds, else what was seen."""
    story: list[str] = field(default_factory=list)
    lasted: timedelta = timedelta(0)


async def rehearsal(case: Case, *, playbooks: Sequence[Path], objects: Iterable[Obj], clock: LeapingClock, folder: Path) -> Seen:
    """Play it to its end. Raises UsageError if what is given cannot be."""
    async with Simulation(nodes=case.given.nodes, clock=clock, seed=1) as simulation:
        world = World(simulation)
        if case.given.own_node:
            world.node(case.given.own_node)
        for obj in objects:
            world.create(obj)
        for metric in case.given.metrics:
            world.measure(metric.series, metric.value)
        settings = {"modes": {"*": "auto"}, **_sections(case), "playbooks": [str(path.absolute()) for path in playbooks]}
        with on_node(case.given.own_node):
            async with House(simulation, clock, folder, settings) as house:
                simulation.cluster.request_log.clear()
                simulation.add_receiver(Receiver(url=house.webhook, token=house.tokens["webhook"], **_RECEIVER))
                return await _Play(case, simulation, world, house.client).seen()


def _sections(case: Case) -> dict[str, Any]:
    return case.given.settings.model_dump(mode="json", exclude_unset=True, by_alias=True)


class _Play:
    def __init__(self, case: Case, simulation: Simulation, world: World, client: Client) -> None:
        self._case = case
        self._simulation = simulation
        self._clock = simulation.clock
        self._world = world
        self._client = client
        self._began = self._clock.now()
        self._last = self._began
        """When something last happened."""
        self._waiting = dict(enumerate(case.when))
        self._seen = Seen()

    @property
    def _elapsed(self) -> timedelta:
        return self._clock.now() - self._began

    async def seen(self) -> Seen:
        end = self._case.lasts or _LONGEST
        while True:
            await self._let_happen()
            if self._elapsed >= end or (self._case.lasts is None and await self._over()):
                break
            await self._clock.sleep(min(self._next(), end - self._elapsed))
        self._seen.mishaps += [(index, f"{one.after_call} was never called") for index, one in self._waiting.items() if one.after_call]
        self._seen.mishaps += [(index, "the test was over before") for index, one in self._waiting.items() if not one.after_call]
        await self._record()
        return self._seen

    def _next(self) -> timedelta:
        """Until there is something to look at: what is due, what may be due by then, or whether all is over."""
        if not self._waiting:
            return max(self._last + _REST - self._clock.now(), _EVERY)
        due = [_EVERY if (at := self._due(one)) is None else at - self._elapsed for one in self._waiting.values()]
        return max(min(due), timedelta(0))

    def _due(self, happening: Happening) -> timedelta | None:
        """When it is to happen, as far as that is known."""
        if happening.at is not None:
            return happening.at
        first = next((made.after for made in self._calls() if fits(happening.after_call or "", made.call)), None)
        return None if first is None else first + happening.delay

    async def _let_happen(self) -> None:
        due = [(at, index) for index, one in self._waiting.items() if (at := self._due(one)) is not None and at <= self._elapsed]
        for _, index in sorted(due):
            happening = self._waiting.pop(index)
            self._last = self._clock.now()
            try:
                await self._do(happening)
            except (UsageError, ServerRefused) as error:
                self._seen.mishaps.append((index, str(error)))

    async def _do(self, happening: Happening) -> None:
        if of_people(happening):
            name = happening.what[0]
            await getattr(self, f"_{name}")(getattr(happening, name))
        else:
            self._world.do(happening)

    async def _over(self) -> bool:
        """Whether all has happened, and no run went on for a while. Who waits for people waits in vain."""
        now = self._clock.now()
        if self._waiting or now - self._last < _REST:
            return False  # whatever the runs are like, which need not be asked for
        for run in (await self._client.runs(limit=_NEWEST)).items:
            if run.state.open and run.state is not RunState.AWAITING_APPROVAL:
                self._last = now
            elif run.ended_at is not None:
                self._last = max(self._last, run.ended_at)
        return now - self._last >= _REST

    # --- people ------------------------------------------------------------------------------------------------------

    async def _run(self, asked: Asked) -> None:
        """A refusal is an answer, and stands among the decisions."""
        request = {
            "playbook": asked.playbook, "target": asked.target, "parameters": asked.parameters,
            "reason": asked.reason, "by": asked.by, "dry_run": asked.dry_run,
        }  # fmt: skip
        try:
            await self._client.trigger(request)
        except ServerRefused as refusal:
            if not refusal.problem.get("reason"):
                raise

    async def _approve(self, said: Steers) -> None:
        await self._client.approve(await self._meant(said, _OPEN), by=said.by, reason=said.reason)

    async def _reject(self, said: Steers) -> None:
        await self._client.reject(await self._meant(said, _OPEN), by=said.by, reason=said.reason)

    async def _cancel(self, said: Steers) -> None:
        await self._client.cancel(await self._meant(said, _OPEN), by=said.by, reason=said.reason)

    async def _undo(self, said: Steers) -> None:
        await self._client.undo(await self._meant(said, _ENDED), by=said.by, reason=said.reason)

    async def _meant(self, said: Steers, states: frozenset[RunState]) -> str:
        """The id of the newest run that fits. Raises UsageError."""
        for run in (await self._client.runs(limit=_NEWEST)).items:
            if run.state in states and said.playbook in (None, run.playbook) and said.target in (None, run.target.key):
                return run.id
        raise UsageError("there is no such run that is open" if states is _OPEN else "there is no such run that has ended")

    async def _pause(self, said: Paused) -> None:
        await self._client.pause(playbook=said.playbook, target=said.target, reason=said.reason, by="person", duration=None)

    async def _resume(self, said: Paused) -> None:
        await self._client.resume(playbook=said.playbook, target=said.target, by="person")

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _record(self) -> None:
        client, seen = self._client, self._seen
        seen.lasted = self._elapsed
        seen.calls = list(self._calls())
        seen.decisions = list(reversed((await client.decisions(limit=_NEWEST)).items))
        runs = reversed((await client.runs(limit=_NEWEST)).items)
        seen.runs = [await client.run(run.id) for run in runs]
        left = (await client.changes(limit=_NEWEST)).items
        seen.changes_left = [change_text(change) for change in sorted(left, key=lambda change: change.id)]
        seen.conditions = [self._look(held) for held in (self._case.then.cluster if self._case.then else ())]
        seen.story = await self._story()

    async def _story(self) -> list[str]:
        """What ``why`` says of each run, or of the last decision where there is none."""
        refs = [run.id for run in self._seen.runs]
        refs += [
            one.id
            for one in self._seen.decisions
            if one.run is None and one.decision not in (DecisionKind.RESOLVED, DecisionKind.DUPLICATE)
        ][-1:]
        return [line for ref in refs for line in (await self._client.why(ref)).lines]

    def _calls(self) -> Iterator[Made]:
        for entry in self._simulation.cluster.request_log:
            if entry.service == "kubernetes" and entry.writes and entry.resource not in MARKS and not tries(entry.body):
                yield Made(entry.at - self._began, self._call_text(entry))

    def _call_text(self, entry: Logged) -> str:
        plural, _, group = entry.resource.partition(".")
        kind = next(
            (one.kind for one in self._simulation.cluster.kinds.all() if (one.plural, one.group) == (plural, group)), entry.resource
        )
        verb = "evict" if entry.subresource == "eviction" else entry.verb
        name = entry.name or str(((entry.body or {}).get("metadata") or {}).get("name", "")) if isinstance(entry.body, dict) else entry.name
        return f"{verb} " + "/".join(part for part in (kind, entry.namespace, name) if part)

    def _look(self, held: Held) -> str:
        cluster = self._simulation.cluster
        resource = cluster.kind(held.kind)
        wanted = selector_test(held.labels, held.fields, resource)
        found = [obj for obj in cluster.objects(held.kind, held.namespace) if wanted is None or wanted(obj)]
        names = ", ".join(str(obj["metadata"]["name"]) for obj in found[:5]) or "nothing"
        try:
            return "" if held.holds.evaluate({"objects": found}) else f"is false; found {names}"
        except Unreadable as error:
            return f"{error.detail}; found {names}"


def change_text(change: Change) -> str:
    """As calls are written."""
    return f"{change.verb} {change.resource.key}"


_OPEN = frozenset(state for state in RunState if state.open)
_ENDED = frozenset(RunState) - _OPEN
