"""Reads the facts that gates judge by: all of one evaluation at once, each with a deadline, each only if some gate needs it.

In: a Case and the gates in force. Out: a Snapshot. A fact that cannot be read in time stands in it as Unread, which refuses.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from remediator import blame, readings
from remediator.actions import recurring
from remediator.attribution import account
from remediator.attribution.account import ATTRIBUTION, kept_elsewhere
from remediator.bgp.read import read_routes
from remediator.cilium.reading import read_picture
from remediator.errors import JournalError, KubeError, MonitoringError, Unreadable
from remediator.gates import Case, Fact, Gate, Snapshot, Unread, evaluate, in_force
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.model import Evidence, to_json, to_milliseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from remediator.attribution import Finding, Hint, Sought
    from remediator.kube import Kind, Listing
    from remediator.model import Alert, Target, Verdict
    from remediator.world import World

    T = TypeVar("T")

__all__ = ["IN_MID_RUN", "LONGEST_LOOK_BACK", "Facts", "patience"]

LONGEST_LOOK_BACK = timedelta(days=8)
"""Further back no gate looks (attempts within at most 7 days, cooldown shorter)."""
_DEADLINE = timedelta(seconds=1.5)
"""Real time for one fact: a decision follows the webhook's answer within 2 s even if a system hangs."""
_ALL_PODS = timedelta(seconds=10)
"""For the facts that every pod may have to be read for: 100,000 take 2 to 5 s. An API server that hangs shows by the other facts."""
_OF_THEM_PROMETHEUS = timedelta(seconds=9)
"""At most, however long a fact may take: one that hangs is told of before it could be taken for an API server that does."""
_LARGE = 1000
"""Nodes of a cluster up to which these times hold. Beyond, lists of nodes and of all pods have more."""
_FOR_A_NODE = timedelta(milliseconds=2)
"""So much more for each further one: of 5,000 nodes ten pages of nodes, and half as many again of agents, come one after the other."""
IN_MID_RUN = timedelta(seconds=10)
"""The same right before a step: nobody waits for an answer then, and a slow reply should not end a run."""
_OF_KUBERNETES = frozenset(
    {Fact.TARGET, Fact.NAMESPACE, Fact.ROUTES, Fact.CILIUM, Fact.CLUSTER, Fact.VIEW, Fact.LEASE, Fact.LOAD, Fact.HINDRANCES, Fact.RIGHTS}
)
_OF_ALL_NODES = frozenset({Fact.CLUSTER, Fact.CILIUM, Fact.VIEW})
_OF_ALL_PODS = frozenset({Fact.LOAD, Fact.ROUTES})
_OF_THE_TARGET = frozenset(
    {Fact.HISTORY, Fact.RESTARTS, Fact.TARGET, Fact.NAMESPACE, Fact.LEASE, Fact.LOAD, Fact.HINDRANCES, Fact.STILL_TRUE}
)
_OF_THE_PLAYBOOK = frozenset({Fact.STILL_TRUE, Fact.RIGHTS, Fact.HINDRANCES})
_HOSTNAME = "kubernetes.io/hostname"
_MANY_NODES = 8
"""From so many on a list of them is cheaper than to ask for each."""
_NODES_IN_A_LIST = 100
"""Names in one selector: an URL of 6 kB at most."""
_AT_ONCE = 20
"""Objects asked for at once."""
_NOT_YET = object()


class Facts:
    """The facts of one moment. Make a new one for each slice of decisions, request or step; what is asked twice is read once."""

    def __init__(self, world: World, *, deadline: timedelta | None = None) -> None:
        self._world = world
        self._seconds = (deadline or world.patience or _DEADLINE).total_seconds()
        self._silence = f"no answer within {self._seconds} s"
        self._known: dict[tuple[Fact, str], asyncio.Task[Any]] = {}
        self._held: dict[tuple[Fact, str], Any] = {}
        """What was read together for several cases."""
        self.seen = _Seen(world)
        """Where the target is looked for, so that what was found is not asked for again by a gate."""
        self._kubernetes_hangs = False
        self._no_answer = False
        self._waiting: set[asyncio.Timeout] = set()
        self._matrix_in: dict[str, str] = {}
        """By what was sought: the record that has the matrix."""

    @property
    def silent(self) -> bool:
        """Whether a question got no answer in time. Then others should ask anew, since what refuses them may be over."""
        return self._no_answer

    @property
    def for_all_nodes(self) -> timedelta:
        """Real time that a list of all nodes may take, as long as other questions get answers; zero if no more than any fact."""
        return patience(Fact.CLUSTER, self._world.agents)

    async def judge(self, case: Case, brought: Iterable[str] = ()) -> tuple[Verdict, ...]:
        """Every applying gate's verdict on ``case``."""
        applying = in_force(case, brought)
        return evaluate(case, await self.snapshot(case, applying), applying)

    async def of_kubernetes(self, question: Awaitable[T], *, patience: timedelta = timedelta(0)) -> T:
        """The answer to ``question``, in the time that one fact may take; once one got none, no other one waits for its own.

        ``patience``: real time that it may take in any case, as long as the others get answers.
        Raises Unreadable, and whatever the question itself raises.
        """
        seconds = max(self._seconds, patience.total_seconds())
        try:
            async with asyncio.timeout(0 if self._kubernetes_hangs else seconds) as limit:
                self._waiting.add(limit)
                try:
                    return await question
                finally:
                    self._waiting.discard(limit)
        except TimeoutError as error:
            silence = self._silence if self._kubernetes_hangs else f"no answer within {seconds:g} s"
            self._kubernetes_hangs = self._no_answer = True
            for other in self._waiting:
                if not other.expired():
                    other.reschedule(asyncio.get_running_loop().time())
            raise Unreadable("Kubernetes", silence) from error

    async def snapshot(self, case: Case, applying: Iterable[Gate]) -> Snapshot:
        """The facts that ``applying`` need, read concurrently."""
        needed = {fact for gate in applying for fact in gate.needs(case)}
        found = {fact: value for fact in needed if (value := self._at_hand(fact, case)) is not _NOT_YET}
        if missing := sorted(needed - found.keys()):
            found |= zip(missing, await asyncio.gather(*(self._read(fact, case) for fact in missing)), strict=True)
        return Snapshot(at=self._world.clock.now(), facts=found)

    async def look_ahead(self, targets: Iterable[Target]) -> None:
        """What several cases will ask of their targets, in few questions: the objects, and their histories.

        What it does not find is asked for again by its own case, which then tells why.
        """
        unique = {target.key: target for target in targets}
        await asyncio.gather(self._objects_of(unique.values()), self._histories_of(unique))

    async def _objects_of(self, targets: Iterable[Target]) -> None:
        with suppress(KubeError, Unreadable):
            await self.of_kubernetes(self.seen.look_ahead(targets))

    async def _histories_of(self, targets: Iterable[str]) -> None:
        keys = [key for key in targets if (Fact.HISTORY, key) not in self._known]
        if keys:
            asked = partial(self._world.journal.histories, keys, since=self._world.clock.now() - LONGEST_LOOK_BACK)
            read = await self._guarded(Fact.HISTORY, asked)
            self._held |= {(Fact.HISTORY, key): read if isinstance(read, Unread) else read[key] for key in keys}

    async def finding(self, sought: Sought, alert: Alert | None) -> Finding | Unread:
        """Which node explains ``sought``, as the gates will be told; other episodes than the alert's own may give hints."""
        found = await self._blamed(sought, alert)
        return found if isinstance(found, Unread) else found[0]

    async def evidence(self, sought: Sought | None, alert: Alert | None, record: str) -> tuple[Evidence, ...]:
        """What was found, for the record of that id. Several records of one moment share a matrix: the first one has it."""
        found = await self._blamed(sought, alert) if sought is not None else None
        if sought is None or found is None or isinstance(found, Unread):
            return ()
        told, holder = account(found[0], sought, found[1]), self._matrix_in.setdefault(_about(sought, alert), record)
        told = told if holder == record else kept_elsewhere(told, holder)
        return (Evidence(name=ATTRIBUTION, at=self._world.clock.now(), data=to_json(told)),)

    async def _blamed(self, sought: Sought, alert: Alert | None) -> tuple[Finding, tuple[Hint, ...]] | Unread:
        read = partial(self._guarded, Fact.FINDING, partial(self._blame, sought, alert))
        found: tuple[Finding, tuple[Hint, ...]] | Unread = await self._once(Fact.FINDING, _about(sought, alert), read)
        return found

    async def _blame(self, sought: Sought, alert: Alert | None) -> tuple[Finding, tuple[Hint, ...]]:
        """The nodes first, since whether Kubernetes hangs is told by itself; then the pairs, in what is left of the time for one fact.

        Where the nodes have more than that, the pairs have the time of a fact for themselves.
        """
        loop, longer = asyncio.get_running_loop(), self.for_all_nodes
        until = loop.time() + self._seconds
        nodes, active = await asyncio.gather(self.of_kubernetes(self.seen.list(kinds.NODE), patience=longer), self._active())
        if longer:
            until = loop.time() + self._seconds
        async with asyncio.timeout_at(until):
            return await blame.find(
                self._world, sought, nodes.items, () if isinstance(active, Unread) else active, blame.own_episode(alert)
            )

    def _at_hand(self, fact: Fact, case: Case) -> Any:
        """The fact if it is read already; a storm of cases would otherwise make a task for each of their facts."""
        if fact is Fact.FINDING:
            return _NOT_YET
        if fact is Fact.TARGET:
            target = case.target
            return self.seen.at_hand(kinds.by_name(target.kind), target.name, target.namespace)
        if fact is Fact.NAMESPACE and not case.target.namespace:
            return None
        key = fact, _subject(fact, case)
        if key in self._held:
            return self._held[key]
        task = self._known.get(key)
        return task.result() if task is not None and task.done() else _NOT_YET

    async def _read(self, fact: Fact, case: Case) -> Any:
        if fact is Fact.FINDING:
            return await self._sought(case)
        if fact is Fact.ACTIVE_ALERTS:
            return await self._active()
        return await self._once(fact, _subject(fact, case), partial(self._guarded, fact, partial(self._reader, fact, case)))

    async def _active(self) -> Any:
        return await self._once(Fact.ACTIVE_ALERTS, "", partial(self._guarded, Fact.ACTIVE_ALERTS, self._active_alerts))

    async def _sought(self, case: Case) -> Finding | Unread:
        return await self.finding(case.culprit, case.alert) if case.culprit is not None else Unread(detail="nothing is sought")

    async def _once(self, fact: Fact, about: str, read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        task = self._known.get((fact, about))
        if task is None:
            task = self._known[fact, about] = asyncio.ensure_future(read())
        return await task

    async def _guarded(self, fact: Fact, read: Callable[[], Awaitable[Any]]) -> Any:
        try:
            if fact is Fact.FINDING:
                return await read()  # it keeps the time by itself
            if fact in _OF_KUBERNETES:
                return await self.of_kubernetes(read(), patience=patience(fact, self._world.agents))
            async with asyncio.timeout(self._seconds):
                return await read()
        except Unreadable as error:
            return Unread(detail=error.detail)
        except TimeoutError:
            self._no_answer = True
            return Unread(detail=self._silence)
        except (KubeError, MonitoringError, JournalError) as error:
            return Unread(detail=str(error))

    def _reader(self, fact: Fact, case: Case) -> Awaitable[Any]:  # noqa: PLR0911 - one for each fact
        journal, now = self._world.journal, self._world.clock.now()
        match fact:
            case Fact.PAUSES:
                return journal.pauses(now)
            case Fact.OPEN_RUNS:
                return journal.open_outlines()
            case Fact.HISTORY:
                return journal.history(case.target.key, since=now - LONGEST_LOOK_BACK)
            case Fact.RESTARTS:
                return journal.done(recurring(), since=now - LONGEST_LOOK_BACK, target=case.target.key)
            case Fact.TARGET:
                return self._object(case.target.kind, case.target.name, case.target.namespace)
            case Fact.NAMESPACE:
                return self._namespace(case.target.namespace)
            case Fact.ROUTES:
                where = self._world.cilium
                return read_routes(
                    self._world.kube,
                    self._world.prometheus,
                    namespace=where.namespace,
                    agents=where.agent_selector,
                    now=now,
                    within=min(timedelta(seconds=self._seconds), _OF_THEM_PROMETHEUS),
                )
            case Fact.CILIUM:
                return read_picture(self._world.kube, self._world.cilium.namespace, self._world.cilium.agent_selector)
            case _:
                return readings.read(fact, case, self._world)

    async def _active_alerts(self) -> Any:
        if self._world.alertmanager is None:
            return Unread(detail="the settings name no alertmanager.url to ask")
        active = await self._world.alertmanager.active()
        return {(a.fingerprint, to_milliseconds(a.starts_at)): (*a.silenced_by, *a.inhibited_by) for a in active}

    async def _object(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        try:
            return await self.seen.get(kinds.by_name(kind), name, namespace)
        except NotFound:
            return None

    async def _namespace(self, name: str) -> dict[str, Any] | None:
        return await self._object("Namespace", name, "") if name else None


def patience(fact: Fact, agents: int) -> timedelta:
    """Real time that ``fact`` may take where the API server answers other questions, in a cluster of about as many nodes as ``agents``."""
    more = _FOR_A_NODE * max(0, agents - _LARGE)
    if fact in _OF_ALL_PODS:
        return _ALL_PODS + more
    return _DEADLINE + more if more and fact in _OF_ALL_NODES else timedelta(0)


class _Seen:
    """Objects as they were first read in this moment. Who asks for one that is being read waits for that answer."""

    def __init__(self, world: World) -> None:
        self._kube = world.kube
        self._objects: dict[tuple[Kind, str, str], dict[str, Any]] = {}
        self._lists: dict[Kind, Listing[dict[str, Any]]] = {}
        self._turns: defaultdict[Any, asyncio.Lock] = defaultdict(asyncio.Lock)

    def at_hand(self, kind: Kind, name: str, namespace: str) -> Any:
        """The object if it was read already."""
        return self._objects.get((kind, name, namespace), _NOT_YET)

    async def look_ahead(self, targets: Iterable[Target]) -> None:
        """Read what exists of ``targets``: many nodes with a list of those alone, everything else one by one, a few at a time.

        Raises KubeError for the list; what is not there, or cannot be read, is left to whoever asks for it.
        """
        wanted = [(kinds.by_name(target.kind), target.name, target.namespace) for target in targets]
        nodes = [name for kind, name, _ in wanted if kind is kinds.NODE]
        if len(nodes) >= _MANY_NODES:
            for first in range(0, len(nodes), _NODES_IN_A_LIST):
                names = ",".join(nodes[first : first + _NODES_IN_A_LIST])
                # The label is what kubelets set, nearly always the node's name; where it is not, the node is asked for by its name later.
                for node in (await self._kube.list(kinds.NODE, labels=f"{_HOSTNAME} in ({names})")).items:
                    self._objects[kinds.NODE, node["metadata"]["name"], ""] = node
            wanted = [one for one in wanted if one[0] is not kinds.NODE]
        for first in range(0, len(wanted), _AT_ONCE):
            await asyncio.gather(*(self.get(*one) for one in wanted[first : first + _AT_ONCE]), return_exceptions=True)

    async def get(self, kind: Kind, name: str, namespace: str) -> dict[str, Any]:
        """See Kube.get."""
        key = kind, name, namespace
        async with self._turns[key]:
            if key not in self._objects:
                self._objects[key] = await self._kube.get(kind, name, namespace)
            return self._objects[key]

    async def list(self, kind: Kind) -> Listing[dict[str, Any]]:
        """See Kube.list."""
        async with self._turns[kind]:
            if kind not in self._lists:
                self._lists[kind] = await self._kube.list(kind)
            return self._lists[kind]


def _subject(fact: Fact, case: Case) -> str:
    """What a fact is about within one moment; empty for those that are the same for all cases."""
    about = case.target.key if fact in _OF_THE_TARGET else ""
    return f"{about} by {case.playbook}" if fact in _OF_THE_PLAYBOOK else about


def _about(sought: Sought, alert: Alert | None) -> str:
    """What a finding depends on within one moment."""
    return f"{sought.symptom} {sought.limit} {blame.own_episode(alert) or ''}"
