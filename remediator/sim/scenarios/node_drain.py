"""Nothing is broken: a person wants node-3 empty, and its pods are guarded by budgets.

In comes a running simulation; out comes one whose node-3 carries three workloads, each with a PodDisruptionBudget, and a slow one. No alert
is raised: a person runs drain-node.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from remediator.sim.objects import dig, labels_of
from remediator.sim.scenarios.base import Act, May, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.objects import Obj
    from remediator.sim.simulation import Simulation

NODE = "node-3"
_LABEL = "demo"
_WORKLOADS = (("shop", 4, "25%", "2s"), ("search", 3, "34%", "3s"), ("mail", 2, "50%", "6s"))
_TURNS = 200


async def _play(sim: Simulation) -> None:
    """Only node-3 takes pods while the workloads come."""
    others = [name for name in sim.cluster.node_names() if name != NODE]
    for name in others:
        _cordon(sim, name, on=True)
    for name, replicas, unavailable, stops in _WORKLOADS:
        for thing in _workload(name, replicas, unavailable, stops):
            sim.cluster.create(thing)
    sim.cluster.booting = True  # they have been there for long when the person asks
    for _ in range(_TURNS):
        if _guarded(sim):
            break
        await asyncio.sleep(0)
        sim.cluster.loop.drain()
    sim.cluster.booting = False
    for name in others:
        _cordon(sim, name, on=False)


def _guarded(sim: Simulation) -> bool:
    """Every pod is ready and counted by its budget: a pod that is not running yet is held by none."""
    budgets = {name: sim.cluster.get("PodDisruptionBudget", name, "apps") for name, *_ in _WORKLOADS}
    return all(dig(budgets[name], "status.currentHealthy", 0) == replicas for name, replicas, *_ in _WORKLOADS)


def _cordon(sim: Simulation, name: str, *, on: bool) -> None:
    kind = sim.cluster.kind("Node")
    node = sim.cluster.store.edit(kind, sim.cluster.store.get(kind, name) or {})
    node["spec"].pop("unschedulable", None)
    if on:
        node["spec"]["unschedulable"] = True
    sim.cluster.store.replace(kind, node)


def _workload(name: str, replicas: int, unavailable: str, stops: str) -> tuple[Obj, Obj]:
    labels = {"app": name, _LABEL: "drain"}
    selector = {"matchLabels": {"app": name}}
    container: dict[str, Any] = {"name": name, "image": f"example.test/{name}:1"}
    template = {
        "metadata": {"labels": labels, "annotations": {"controlplane/stop-after": stops}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 10},
    }
    meta = {"name": name, "namespace": "apps"}
    spec = {"replicas": replicas, "selector": selector, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    budget_spec = {"maxUnavailable": unavailable, "selector": selector}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": dict(meta), "spec": budget_spec}
    return deployment, budget


def _left(sim: Simulation) -> list[Obj]:
    return [pod for pod in sim.cluster.objects("Pod", "apps") if dig(pod, "spec.nodeName") == NODE and _LABEL in labels_of(pod)]


SCENARIO = Scenario(
    name="node-drain",
    summary="A person empties a node whose pods are guarded by budgets",
    broken=f"{NODE} carries nine pods behind three PodDisruptionBudgets, and a person wants it empty.",
    truth=Truth(
        target=f"Node/{NODE}",
        cause="Maintenance.",
        cure="Evict every pod, never more at once than its budget allows, and leave the DaemonSets alone.",
        alerts=(),
        playbook="drain-node",
        may=(May(Act.CORDON, f"Node/{NODE}", most=1), May(Act.EVICT, f"Node/{NODE}")),
    ),
    play=_play,
    healed=lambda sim: not _left(sim),
    asks="a new kernel",
)
