"""Reads what gates judge the whole of things by: recent runs and episodes, the breaker's past, the cluster.

In: which fact, the case, the doors. Out: the fact's value, as the accessors of ``Snapshot`` name it. Raised: the errors of the doors.
``facts`` calls it, gives each a deadline and makes of every error an Unread.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from remediator.actions import actions
from remediator.beginnings import LOOK_BACK as OF_STORMS
from remediator.breaker import LOOK_BACK, NOTE, Past, Reset, counted
from remediator.cluster.load import read_load
from remediator.cluster.read import read_cluster, read_lease, read_network, read_own, read_symptom
from remediator.cluster.view import read_view
from remediator.drain.course import Wishes, hindrances
from remediator.errors import ExpressionError, Unreadable
from remediator.gates import Case, Fact, Unread
from remediator.model import from_json
from remediator.rights import lacking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remediator.beginnings import Beginning
    from remediator.cluster.model import Cluster, Network, Symptom, View
    from remediator.drain.plan import Refusal
    from remediator.model import Outline, Run
    from remediator.world import World

__all__ = ["breaker_past", "read"]

_RECENT = timedelta(days=1)
_MOST_EPISODES = 1000
"""Twice as many as make the largest storm."""


def read(fact: Fact, case: Case, world: World) -> Awaitable[Any]:
    """The value of ``fact``."""
    return _READERS[fact](world, case)


async def _recent_runs(world: World) -> tuple[Outline, ...]:
    return await world.journal.over_runs(tuple, since=world.clock.now() - _RECENT, disruptive=True)


async def _undoing(world: World) -> tuple[Run, ...]:
    found = [await world.journal.run(run) for run in sorted(world.undoing)]
    return tuple(run for run in found if run is not None)


async def _cluster(world: World) -> Cluster:
    return await read_cluster(world.kube, world.cilium.namespace, world.cilium.agent_selector)


async def _network(world: World) -> Network | None:
    return await read_network(world.prometheus) if world.prometheus is not None else None


async def _view(world: World) -> View:
    return await read_view(world.kube, world.cilium.health_port, (await read_own()).node)


async def _symptom(world: World, case: Case) -> Symptom:
    """The gate's setting is a template; the alert is not among what it may name, so that its text never reaches a query."""
    if world.prometheus is None:
        raise Unreadable("Prometheus", "the settings name no prometheus.url")
    cilium = world.cilium
    values = {
        "target": case.target.named,
        "cilium": {"namespace": cilium.namespace, "agent_selector": cilium.agent_selector},
    }
    try:
        query = case.settings["still_true"].root.text(values)
    except ExpressionError as error:
        raise Unreadable("still_true", str(error)) from error
    return await read_symptom(world.prometheus, query)


async def breaker_past(world: World) -> Past:
    """What the breaker is judged by. Raises JournalError."""
    now = world.clock.now()
    note = await world.journal.last_note(NOTE)
    reset = from_json(note.data, Reset) if note is not None else None
    since = max(now - LOOK_BACK, reset.at) if reset is not None else now - LOOK_BACK
    since -= _RECENT  # one that began before the reset may fail after it
    return Past(runs=await world.journal.over_runs(counted, since=since, dry_run=False, disruptive=True), reset=reset)


async def _episodes(world: World) -> tuple[Beginning, ...]:
    """From memory; of the journal only once, so that a storm of deliveries costs no storm of queries."""
    now = world.clock.now()
    if not world.beginnings.complete:
        world.beginnings.recall(await world.journal.recent_episodes(since=now - OF_STORMS, most=_MOST_EPISODES), now)
    return world.beginnings.until(now)


async def _rights(world: World, case: Case) -> str:
    """Of the playbook as it is loaded now; one that was taken away meanwhile is left to the API server."""
    playbook = next((one for one in world.library.playbooks if one.name == case.playbook), None)
    if world.rights is None or playbook is None:
        return ""
    return lacking(await world.rights.missing(playbook))


async def _hindrances(world: World, case: Case) -> tuple[Refusal, ...]:
    """By the parameters of the step that would empty the target."""
    step = case.brought.get("evictable", Unread(detail="no step is known that would empty it"))
    if isinstance(step, Unread):
        raise Unreadable("the step that empties the node", step.detail)
    try:
        parameters = actions()[step.action].Parameters.model_validate(step.parameters)
    except ValidationError as error:
        raise Unreadable(f"the parameters of {step.action}", "; ".join(one["msg"] for one in error.errors())) from error
    return await hindrances(world.kube, case.target.name, Wishes(**dict(parameters)), now=world.clock.now())


_READERS: dict[Fact, Callable[[World, Case], Awaitable[Any]]] = {
    Fact.RECENT_RUNS: lambda world, _: _recent_runs(world),
    Fact.UNDOING: lambda world, _: _undoing(world),
    Fact.FAILURES: lambda world, _: breaker_past(world),
    Fact.EPISODES: lambda world, _: _episodes(world),
    Fact.CLUSTER: lambda world, _: _cluster(world),
    Fact.NETWORK: lambda world, _: _network(world),
    Fact.VIEW: lambda world, _: _view(world),
    Fact.OWN: lambda _, __: read_own(),
    Fact.LEASE: lambda world, case: read_lease(world.kube, case.target.name),
    Fact.LOAD: lambda world, case: read_load(world.kube, case.target.name),
    Fact.HINDRANCES: _hindrances,
    Fact.STILL_TRUE: _symptom,
    Fact.RIGHTS: _rights,
}
