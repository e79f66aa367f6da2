"""The frame of all gates. A gate is one class in one module of this folder; nothing else needs an edit.

In: a Case (what somebody wants to do) and a Snapshot (what is known, read once per evaluation). Out: a Verdict with a reason code.
Gates judge and do nothing else: no clock, no network, so the same code serves alerts, manual runs, dry runs, ``match`` and later steps.
Every gate is evaluated and kept, not only the first refusal. A fact that could not be read refuses as ``unreadable``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from remediator.attribution import Sought
from remediator.errors import Unreadable
from remediator.model import Alert, Done, Mode, Noun, Outline, Pause, Run, Target, TriggerKind, Verdict
from remediator.reasons import Reason
from remediator.settings import Breaker, Settings, Share, Storm
from remediator.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

    from remediator.attribution import Finding
    from remediator.bgp.model import Routes
    from remediator.breaker import Past
    from remediator.cilium.picture import Picture
    from remediator.cluster.constraints import Load
    from remediator.cluster.model import Cluster, Lease, Network, Own, Symptom, View
    from remediator.drain.plan import Refusal

__all__ = ["Brought", "Case", "Fact", "Gate", "Limits", "Snapshot", "Unread", "evaluate", "gates", "refusals"]

T = TypeVar("T")


class Fact(StrEnum):
    """What a gate may ask to know; only the facts that some gate in force needs are read."""

    PAUSES = "pauses"
    OPEN_RUNS = "open runs"
    UNDOING = "ended runs whose changes are put back now"
    HISTORY = "history of the target"
    RESTARTS = "earlier restarts of the target"
    ACTIVE_ALERTS = "active alerts"
    TARGET = "target object"
    NAMESPACE = "namespace of the target"
    ROUTES = "announced routes"
    CILIUM = "Cilium's agents and operator"
    VIEW = "the daemon's own view"
    OWN = "the daemon's own node and pod"
    RECENT_RUNS = "recent runs"
    FAILURES = "runs since the breaker was reset"
    EPISODES = "recent episodes"
    CLUSTER = "nodes and the pods that matter"
    NETWORK = "what Prometheus sees of the network"
    LEASE = "lease on the target"
    STILL_TRUE = "the playbook's expression"
    LOAD = "pods of the target and room elsewhere"
    HINDRANCES = "what keeps the target from being emptied"
    FINDING = "who is to blame"
    RIGHTS = "what our account may do"


class Unread(Noun, frozen=True, kw_only=True):
    """Stands in a snapshot for a fact that could not be read."""

    detail: str


class Limits(Noun, frozen=True, kw_only=True):
    """The settings' ``limits`` that gates look at."""

    concurrent_runs: int = 4
    concurrent_disruptive: int = 1
    waiting: int = 20
    """Runs that may wait for people before their beginning."""
    min_speakers: int = 2
    concurrent_per_zone: int = 1
    disruptive_per_hour: int = 6
    max_disturbed: Share = Share(percent=20)
    storm: Storm = Storm()
    breaker: Breaker = Breaker()
    maintenance: tuple[Window, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """What the settings say."""
        limits = settings.limits
        return cls(
            concurrent_runs=limits.concurrent_runs,
            concurrent_disruptive=limits.concurrent_disruptive,
            waiting=settings.approval.waiting,
            min_speakers=limits.min_speakers,
            concurrent_per_zone=limits.concurrent_per_zone,
            disruptive_per_hour=limits.disruptive_per_hour,
            max_disturbed=limits.max_disturbed,
            storm=limits.storm,
            breaker=limits.breaker,
            maintenance=settings.maintenance,
        )


class Brought(Noun, frozen=True, kw_only=True):
    """The step that brings a gate along: what it would do, and with which parameters, filled in."""

    action: str
    parameters: dict[str, Any]


class Case(Noun, frozen=True, kw_only=True):
    """What is to be judged: this playbook on this target, for this alert or person, now."""

    playbook: str
    mode: Mode
    """The mode in force: the settings' for this playbook, under the ceiling."""
    target: Target
    trigger: TriggerKind
    alert: Alert | None = None
    dry_run: bool = False
    approved: bool = False
    """Whether people said yes to the run that asks again."""
    disruptive: bool = True
    looks: bool = False
    """The playbook changes nothing, whatever it finds."""
    actions: tuple[str, ...] = ()
    """The names of what would be done: the first rung, or the rest of the present one."""
    brought: dict[str, Brought | Unread] = {}  # noqa: RUF012 - msgspec copies defaults
    """For gates that judge a step by its parameters: by gate, the first of these steps that brings it."""
    undoing: bool = False
    """The run asks whether it may put back a change, where that disturbs too."""
    run: str | None = None
    """The run that asks again in mid-run; it does not stand in its own way."""
    order: int | None = None
    """Its place among runs (``Run.order``), as long as it is open: what began after it is refused because of it, and not the other way."""
    settings: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies defaults
    """The playbook's ``gates:``, each value a Gate.Settings."""
    limits: Limits = Limits()
    culprit: Sought | None = None
    """What is seen between nodes, if the playbook acts on whoever explains it."""

    def most_disturbed(self, total: int) -> int:
        """Of so many nodes, how many may be disturbed: the narrower of the settings' limit and the playbook's ``disturbance``."""
        own = self.settings.get("disturbance")
        shares = [self.limits.max_disturbed]
        shares += [Share(count=own.max_nodes)] if own is not None and own.max_nodes is not None else []
        shares += [Share(percent=own.max_percent)] if own is not None and own.max_percent is not None else []
        return min(share.of(total) for share in shares)

    def minds(self, other: Outline) -> bool:
        """Whether ``other``, as far as it is at work, may stand in the way: not what nobody approved, nor a live run in a dry one's.

        A run that asks again minds only those that began before it. If each minded the other, both would stop: one at work because
        somebody approved another one, two that were approved at once because of one another.
        """
        if other.id == self.run or other.dry_run != self.dry_run or other.unapproved:
            return False
        return self.order is None or (other.order, other.id) < (self.order, self.run or "")

    @property
    def asks(self) -> bool:
        """Whether people would be asked before anything is done."""
        return self.mode == Mode.SUGGEST and not self.looks and self.trigger is TriggerKind.ALERT and self.run is None and not self.dry_run


class Snapshot(Noun, frozen=True, kw_only=True):
    """The facts of one evaluation, all read before the first gate judges."""

    at: datetime
    facts: dict[Fact, Any]

    def _read(self, fact: Fact) -> Any:
        value = self.facts.get(fact, Unread(detail="it was not asked for"))
        if isinstance(value, Unread):
            raise Unreadable(fact.value, value.detail)
        return value

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """Pauses in force. Raises Unreadable, as all of these."""
        return self._read(Fact.PAUSES)  # type: ignore[no-any-return]  # the reader and this accessor agree on the type

    @property
    def open_runs(self) -> tuple[Outline, ...]:
        """Runs that have not ended."""
        return self._read(Fact.OPEN_RUNS)  # type: ignore[no-any-return]  # as above

    @property
    def undoing(self) -> tuple[Run, ...]:
        """Runs that have ended and whose changes are being put back now."""
        return self._read(Fact.UNDOING)  # type: ignore[no-any-return]  # as above

    @property
    def history(self) -> tuple[Run, ...]:
        """Runs on the target that began or ended within the longest time that any gate looks back."""
        return self._read(Fact.HISTORY)  # type: ignore[no-any-return]  # as above

    @property
    def restarts(self) -> tuple[Done, ...]:
        """What live runs did to the target within the longest time that any gate looks back, by actions that hide a fault if repeated."""
        return self._read(Fact.RESTARTS)  # type: ignore[no-any-return]  # as above

    @property
    def active_alerts(self) -> Mapping[tuple[str, datetime], tuple[str, ...]]:
        """Episodes that Alertmanager holds, each with the ids of what silences or inhibits it."""
        return self._read(Fact.ACTIVE_ALERTS)  # type: ignore[no-any-return]  # as above

    @property
    def target(self) -> dict[str, Any] | None:
        """The target as the API server has it now; None if it is gone."""
        return self._read(Fact.TARGET)  # type: ignore[no-any-return]  # as above

    @property
    def namespace(self) -> dict[str, Any] | None:
        """The target's namespace; None for cluster-scoped targets."""
        return self._read(Fact.NAMESPACE)  # type: ignore[no-any-return]  # as above

    @property
    def routes(self) -> Routes:
        """Who announces what by BGP."""
        return self._read(Fact.ROUTES)  # type: ignore[no-any-return]  # as above

    @property
    def cilium(self) -> Picture:
        """Cilium's agents and operator."""
        return self._read(Fact.CILIUM)  # type: ignore[no-any-return]  # as above

    @property
    def view(self) -> View:
        """Whom this daemon reaches itself."""
        return self._read(Fact.VIEW)  # type: ignore[no-any-return]  # as above

    @property
    def own(self) -> Own:
        """Where this daemon runs."""
        return self._read(Fact.OWN)  # type: ignore[no-any-return]  # as above

    @property
    def recent_runs(self) -> tuple[Outline, ...]:
        """Runs on any target that may disturb and began within the last day."""
        return self._read(Fact.RECENT_RUNS)  # type: ignore[no-any-return]  # as above

    @property
    def failures(self) -> Past:
        """What the breaker is judged by."""
        return self._read(Fact.FAILURES)  # type: ignore[no-any-return]  # as above

    @property
    def episodes(self) -> tuple[tuple[datetime, str], ...]:
        """Episodes that began within the last hours, with what each is about, also those that arrive together with this one."""
        return self._read(Fact.EPISODES)  # type: ignore[no-any-return]  # as above

    @property
    def cluster(self) -> Cluster:
        """Nodes, and the pods that the cluster hangs on."""
        return self._read(Fact.CLUSTER)  # type: ignore[no-any-return]  # as above

    @property
    def network(self) -> Network | None:
        """Who reaches whom, as Prometheus has it; None if there is no Prometheus to ask."""
        return self._read(Fact.NETWORK)  # type: ignore[no-any-return]  # as above

    @property
    def lease(self) -> Lease | None:
        """The lease on the target; None if there is none."""
        return self._read(Fact.LEASE)  # type: ignore[no-any-return]  # as above

    @property
    def symptom(self) -> Symptom:
        """What the playbook's ``still_true`` gives."""
        return self._read(Fact.STILL_TRUE)  # type: ignore[no-any-return]  # as above

    @property
    def load(self) -> Load:
        """The pods that would leave the target, and what other nodes have left."""
        return self._read(Fact.LOAD)  # type: ignore[no-any-return]  # as above

    @property
    def hindrances(self) -> tuple[Refusal, ...]:
        """Everything that keeps the target from ever being emptied by the step that would do it."""
        return self._read(Fact.HINDRANCES)  # type: ignore[no-any-return]  # as above

    @property
    def finding(self) -> Finding:
        """Which node explains what is seen between nodes."""
        return self._read(Fact.FINDING)  # type: ignore[no-any-return]  # as above

    @property
    def missing_rights(self) -> str:
        """In words what the playbook needs and our account may not; empty if it may do all of it."""
        return self._read(Fact.RIGHTS)  # type: ignore[no-any-return]  # as above


class Gate(ABC):
    """One question that may forbid a run. Subclasses set the class variables."""

    name: ClassVar[str]
    """Its file's name, in metrics and records; the reason code that it usually refuses with, unless ``reason`` is set."""
    reason: ClassVar[Reason | None] = None
    """The code that it refuses with, where a code says more than this gate asks."""
    summary: ClassVar[str]
    key: ClassVar[str | None] = None
    """Its name under a playbook's ``gates:``, where it takes settings."""
    Settings: ClassVar[type[BaseModel] | None] = None
    reads: ClassVar[frozenset[Fact]] = frozenset()
    always: ClassVar[bool] = True
    """Whether it applies to every playbook; otherwise only where a playbook or an action brings it."""
    only_disruptive: ClassVar[bool] = False
    """Whether it has nothing against runs that disturb nothing; then nothing is read for them either."""
    on_undo: ClassVar[bool] = True
    """Whether it is asked before an undo that disturbs, too; not if it looks at the symptom, or counts what was begun."""

    by_parameters: ClassVar[bool] = False
    """Whether it judges the step that brings it by its parameters (``Case.brought``)."""
    until_begun: ClassVar[bool] = False
    """Whether it is only about beginning: a step that has changed something does not bring it any more."""

    @abstractmethod
    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """The verdict. Pure; raises Unreadable for a fact that the snapshot lacks."""

    def needs(self, case: Case) -> frozenset[Fact]:
        """The facts of ``reads`` that must be read for this case."""
        return frozenset() if self.only_disruptive and not case.disruptive else self.reads

    def settings(self, case: Case) -> Any:
        """The playbook's settings for this gate, or None."""
        return case.settings.get(self.key or "")

    def allow(self, snapshot: Snapshot, detail: str = "") -> Verdict:
        """An allowing verdict."""
        return Verdict(gate=self.name, allowed=True, detail=detail, at=snapshot.at)

    def refuse(self, snapshot: Snapshot, detail: str, reason: Reason | None = None) -> Verdict:
        """A refusing verdict; the reason is the gate's own unless another is named."""
        code = reason or self.reason or Reason(self.name)
        return Verdict(gate=self.name, allowed=False, reason=code, detail=detail, at=snapshot.at)

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Everything about the gate, as ``gates list`` prints it."""
        schema = cls.Settings.model_json_schema() if cls.Settings is not None else None
        return {
            "name": cls.name,
            "summary": cls.summary,
            "key": cls.key,
            "reads": sorted(f.value for f in cls.reads),
            "always": cls.always,
            "on_undo": cls.on_undo,
            "settings": schema,
        }


@cache
def gates() -> Mapping[str, type[Gate]]:
    """Every gate in this folder, by name, in alphabetical order."""
    found: dict[str, type[Gate]] = {}
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        for thing in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(thing) or thing.__module__ != module.name:
                continue  # asking an imported class what it is of costs more than it looks
            if issubclass(thing, Gate) and not inspect.isabstract(thing):
                found[thing.name] = thing
    return dict(sorted(found.items()))


def in_force(case: Case, brought: Iterable[str] = ()) -> Sequence[Gate]:
    """The gates that apply to ``case``: those that always do, those that its playbook sets, those that its actions bring."""
    return _applying(frozenset(brought), frozenset(case.settings), undoing=case.undoing)


@lru_cache(maxsize=512)
def _applying(brought: frozenset[str], settings: frozenset[str], *, undoing: bool) -> Sequence[Gate]:
    """A gate has no state, so one of each serves all cases; there are as many ways to put them together as playbooks, about."""
    asked = (g for g in gates().values() if g.on_undo or not undoing)
    return tuple(g() for g in asked if g.always or g.name in brought or g.key in settings)


def evaluate(case: Case, snapshot: Snapshot, applying: Iterable[Gate]) -> tuple[Verdict, ...]:
    """Every gate's verdict. A fact that could not be read refuses."""
    return tuple(_judge(gate, case, snapshot) for gate in applying)


def _judge(gate: Gate, case: Case, snapshot: Snapshot) -> Verdict:
    if gate.only_disruptive and not case.disruptive:
        return gate.allow(snapshot, "nothing in it disturbs")
    try:
        return gate.judge(case, snapshot)
    except Unreadable as error:
        return gate.refuse(snapshot, str(error), Reason.UNREADABLE)


def refusals(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Those that refused."""
    return tuple(v for v in verdicts if not v.allowed)
