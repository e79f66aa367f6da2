"""What people look at beside the journal: the cluster as it is now, and how a metric went while a run was at work.

In: the world, a run. Out: nouns of the API. What one source cannot tell is left out and named, since the rest is still worth seeing.
Nothing is decided by any of this.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from remediator import blame
from remediator.attribution import Sought, Symptom
from remediator.cluster.disturbed import disturbed
from remediator.cluster.read import read_cluster
from remediator.errors import ExpressionError, MonitoringError, RemediatorError, Unreadable
from remediator.kube import kinds
from remediator.model import to_milliseconds
from remediator.monitoring.promql import comparisons
from remediator.run import sought_by, template_values
from remediator.server.service import ClusterView, NodeView, Pairs, Series

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from remediator.model import Run
    from remediator.monitoring.promql import Comparison
    from remediator.world import World

__all__ = ["course", "overlook"]

_DEADLINE = 8.0
"""Real seconds for the pairs of one symptom, and for a metric."""
_LIMITS = {Symptom.LATENCY: 0.02, Symptom.LOSS: 0.01}
"""From where on a pair is bad if no playbook in force says so."""
_POINTS = 60
_BEFORE = timedelta(minutes=5)
_AFTER = timedelta(minutes=2)


async def overlook(world: World) -> ClusterView:
    """The nodes with what disturbs them, and the pairs. Raises KubeError, JournalError."""
    cluster, runs = await asyncio.gather(
        read_cluster(world.kube, world.cilium.namespace, world.cilium.agent_selector), world.journal.open_outlines()
    )
    works: dict[str, list[str]] = {}
    for run in runs:
        if run.target.kind == "Node" and run.disruptive and not run.dry_run and not run.unapproved:
            works.setdefault(run.target.name, []).append(run.id)
    troubles = disturbed(cluster, works)
    pairs, unread = await _pairs(world)
    return ClusterView(
        nodes=tuple(
            NodeView(
                name=node.name,
                zone=node.zone,
                control_plane=node.control_plane,
                troubles=troubles.get(node.name, ()),
                runs=tuple(works.get(node.name, ())),
            )
            for node in sorted(cluster.nodes, key=lambda node: node.name)
        ),
        disturbed=len(troubles),
        most=world.limits.max_disturbed.of(len(cluster.nodes)),
        pairs=pairs,
        unread=unread,
        at=world.clock.now(),
    )


async def _pairs(world: World) -> tuple[tuple[Pairs, ...], tuple[str, ...]]:
    try:
        async with asyncio.timeout(_DEADLINE):
            nodes, active = (await world.kube.list(kinds.NODE)).items, await _active(world)
    except (RemediatorError, TimeoutError) as error:
        return (), (f"pairs of nodes: {error}",)
    limits = {**_LIMITS, **{sought.symptom: sought.limit for one in world.library.playbooks if (sought := sought_by(one))}}
    asked = [Sought(symptom=symptom, limit=limits[symptom]) for symptom in _LIMITS]
    found = await asyncio.gather(*(_survey(world, sought, nodes, active) for sought in asked))
    return tuple(one for one in found if isinstance(one, Pairs)), tuple(one for one in found if isinstance(one, str))


async def _active(world: World) -> Collection[Any]:
    """Episodes that may give a hint; without them the pairs speak alone."""
    try:
        active = await world.alertmanager.active() if world.alertmanager else []
    except MonitoringError:
        active = []
    return {(one.fingerprint, to_milliseconds(one.starts_at)) for one in active}


async def _survey(world: World, sought: Sought, nodes: Sequence[Mapping[str, Any]], active: Collection[Any]) -> Pairs | str:
    try:
        async with asyncio.timeout(_DEADLINE):
            table, finding = await blame.survey(world, sought, nodes, active)
    except TimeoutError:
        return f"{sought.symptom} between nodes: no answer within {_DEADLINE:g} s"
    except (Unreadable, MonitoringError) as error:
        return f"{sought.symptom} between nodes: {error}"
    return Pairs(table=table, node=finding.node, words=finding.words)


async def course(world: World, run: Run) -> Series:
    """The first comparison of the run's verification that Prometheus has points for."""
    text = await world.journal.revision(run.revision)
    verify = world.load_revision(text).verify if text is not None else None
    if verify is None or verify.query is None:
        return Series()
    try:
        async with asyncio.timeout(_DEADLINE):
            return await _course(world, run, comparisons(verify.query.text(template_values(run, world))))
    except TimeoutError:
        return Series(detail=f"Prometheus did not answer within {_DEADLINE:g} s")
    except (MonitoringError, ExpressionError) as error:
        return Series(detail=world.redact.text(str(error)))


async def _course(world: World, run: Run, compared: Sequence[Comparison]) -> Series:
    if world.prometheus is None:
        return Series(detail="the settings name no prometheus.url")
    start, end = _span(run, world.clock.now())
    step = max((end - start) / _POINTS, timedelta(seconds=5))
    for one in compared:
        points = await world.prometheus.points(one.expression, start=start, end=end, step=step)
        if points:
            return Series(query=one.expression, operator=one.operator, limit=one.limit, points=tuple(points))
    return Series(detail="Prometheus has no points of it from that time") if compared else Series()


def _span(run: Run, now: datetime) -> tuple[datetime, datetime]:
    """From a while before the run to a while after it."""
    return run.started_at - _BEFORE, min(now, run.ended_at + _AFTER) if run.ended_at is not None else now
