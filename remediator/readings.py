"""Reads what gates judge the whole of things by: recent runs and episodes, the breaker's past, the cluster.

In: which fact, the case, the doors. Out: the fact's value, as the accessors of ``Snapshot`` name it. Raised: the errors of the doors.
``facts`` calls it, gives each a deadline and makes of every error an Unread.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.beginnings import LOOK_BACK as OF_STORMS
from remediator.breaker import LOOK_BACK, NOTE, Past, Reset
from remediator.cluster.load import read_load
from remediator.cluster.read import read_cluster, read_lease, read_network, read_own, read_symptom
from remediator.errors import ExpressionError, Unreadable
from remediator.gates import Case, Fact
from remediator.model import from_json

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime

    from remediator.beginnings import Beginning
    from remediator.cluster.model import Network, Symptom
    from remediator.world import World

__all__ = ["breaker_past", "read"]

_RECENT = timedelta(days=1)
_MOST_EPISODES = 1000
"""Twice as many as make the largest storm."""


def read(fact: Fact, case: Case, world: World) -> Awaitable[Any]:  # noqa: PLR0911 - one for each fact
    """The value of ``fact``."""
    now = world.clock.now()
    if fact is Fact.RECENT_RUNS:
        return world.journal.recent_runs(since=now - _RECENT)
    if fact is Fact.FAILURES:
        return breaker_past(world)
    if fact is Fact.EPISODES:
        return _episodes(world, now)
    if fact is Fact.CLUSTER:
        return read_cluster(world.kube, world.cilium.namespace, world.cilium.agent_selector)
    if fact is Fact.NETWORK:
        return _network(world)
    if fact is Fact.OWN:
        return read_own()
    if fact is Fact.LEASE:
        return read_lease(world.kube, case.target.name)
    if fact is Fact.LOAD:
        return read_load(world.kube, case.target.name)
    if fact is Fact.STILL_TRUE:
        return _symptom(world, case)
    raise AssertionError(f"nobody reads {fact} for {case.playbook}")


async def _network(world: World) -> Network | None:
    return await read_network(world.prometheus) if world.prometheus is not None else None


async def _symptom(world: World, case: Case) -> Symptom:
    """The gate's setting is a template; the alert is not among what it may name, so that its text never reaches a query."""
    if world.prometheus is None:
        raise Unreadable("Prometheus", "the settings name no prometheus.url")
    target, cilium = case.target, world.cilium
    values = {
        "target": {"kind": target.kind, "name": target.name, "namespace": target.namespace, "uid": target.uid},
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
    runs = await world.journal.recent_runs(since=since - _RECENT, dry_run=False)  # one that began before the reset may fail after it
    return Past(runs=tuple(runs), reset=reset)


async def _episodes(world: World, now: datetime) -> tuple[Beginning, ...]:
    """From memory; of the journal only once, so that a storm of deliveries costs no storm of queries."""
    if not world.beginnings.complete:
        world.beginnings.recall(await world.journal.recent_episodes(since=now - OF_STORMS, most=_MOST_EPISODES), now)
    return world.beginnings.until(now)
