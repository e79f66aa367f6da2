"""What may happen to a simulated cluster, in words that scenarios are written with.

A Happening is something that is done to a running simulation. ``timeline`` strings them to what ``Scenario.play`` is. People and other
tools write through the store, so that the request log holds only what the product, or what it is compared with, does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from remediator.sim import managed
from remediator.sim.objects import labels_of, name_of, rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remediator.sim.controllers.cilium import AgentFault
    from remediator.sim.objects import Obj
    from remediator.sim.simulation import Simulation
    from remediator.sim.store import Change

    Happening: TypeAlias = Callable[[Simulation], Any]

__all__ = [
    "agent_hangs",
    "agent_recovers",
    "also",
    "annotate",
    "as_soon_as",
    "control_plane",
    "cordoned",
    "cut_off",
    "edit_node",
    "kubelet_dies",
    "label",
    "labelled",
    "lossy_uplink",
    "operator_gone",
    "people_cordon",
    "people_uncordon",
    "slow_node",
    "timeline",
]


_KUBECTL = managed.Manager("kubectl", "Update", "v1")
"""By whom the API server says that people changed a field."""


def timeline(*happenings: tuple[int, Happening]) -> Callable[[Simulation], Awaitable[None]]:
    """Each happening so many seconds after the beginning; those at 0 have happened when it returns."""

    async def play(sim: Simulation) -> None:
        for seconds, happening in happenings:
            if seconds:
                sim.cluster.loop.after(timedelta(seconds=seconds), happening, sim)
            else:
                happening(sim)

    return play


def also(*happenings: Happening) -> Happening:
    """Several at once."""

    def happen(sim: Simulation) -> None:
        for happening in happenings:
            happening(sim)

    return happen


def as_soon_as(seen: Callable[[Simulation, Change], bool], then: Happening, *, again: bool = False) -> Happening:
    """``then`` one second after the first change of the store for which ``seen`` says yes; after each of them if ``again``."""

    def happen(sim: Simulation) -> None:
        def look(change: Change) -> None:
            if seen(sim, change):
                if not again:
                    stop()
                sim.cluster.loop.after(timedelta(seconds=1), then, sim)

        stop = sim.cluster.store.subscribe(look)

    return happen


def agent_hangs(node: str, how: AgentFault = "hung") -> Happening:
    """See ``Cluster.kill_agent``."""
    return lambda sim: sim.cluster.kill_agent(node, how)


def agent_recovers(node: str) -> Happening:
    """By itself."""
    return lambda sim: sim.cluster.heal_agent(node)


def kubelet_dies(node: str) -> Happening:
    """See ``Cluster.stop_kubelet``."""
    return lambda sim: sim.cluster.stop_kubelet(node)


def edit_node(node: str, change: Callable[[Obj], None]) -> Happening:
    """Somebody edits the node."""

    def happen(sim: Simulation) -> None:
        kind = sim.cluster.kind("Node")
        found = sim.cluster.store.get(kind, node)
        if found is not None:
            copy = sim.cluster.store.edit(kind, found)
            change(copy)
            managed.own_changes(found, copy, _KUBECTL, rfc3339(sim.cluster.store.clock.now()))
            sim.cluster.store.replace(kind, copy)

    return happen


def label(node: str, name: str, value: str | None) -> Happening:
    """Somebody labels the node; None takes the label off."""

    def change(obj: Obj) -> None:
        obj["metadata"].setdefault("labels", {}).pop(name, None)
        if value is not None:
            obj["metadata"]["labels"][name] = value

    return edit_node(node, change)


def annotate(node: str, name: str, value: str) -> Happening:
    """Somebody annotates the node."""
    return edit_node(node, lambda obj: obj["metadata"].setdefault("annotations", {}).update({name: value}))


def people_cordon(node: str) -> Happening:
    """An admin cordons the node."""
    return edit_node(node, lambda obj: obj["spec"].update(unschedulable=True))


def people_uncordon(node: str) -> Happening:
    """An admin lifts a cordon, whosever it is, and leaves the notes on the node alone, as ``kubectl uncordon`` does."""
    return edit_node(node, lambda obj: obj["spec"].pop("unschedulable", None))


def control_plane(*nodes: str) -> Happening:
    """These nodes are the control plane."""
    return also(*(label(node, "node-role.kubernetes.io/control-plane", "") for node in nodes))


def cordoned(node: str) -> Callable[[Simulation, Change], bool]:
    """The node was cordoned just now."""
    return lambda _sim, change: _is(change, node) and bool(change.obj["spec"].get("unschedulable"))


def labelled(node: str, name: str) -> Callable[[Simulation, Change], bool]:
    """The node carries that label just now."""
    return lambda _sim, change: _is(change, node) and name in labels_of(change.obj)


def _is(change: Change, node: str) -> bool:
    return change.table == ("", "nodes") and change.kind != "DELETED" and name_of(change.obj) == node


def operator_gone() -> Happening:
    """Somebody scaled the Cilium operator to zero."""

    def happen(sim: Simulation) -> None:
        kind = sim.cluster.kind("Deployment")
        found = sim.cluster.store.get(kind, "cilium-operator", "kube-system")
        if found is not None:
            copy = sim.cluster.store.edit(kind, found)
            copy["spec"]["replicas"] = 0
            sim.cluster.store.replace(kind, copy)

    return happen


def cut_off(*nodes: str) -> Happening:
    """These nodes are cut off from all others and from the API server."""
    return lambda sim: sim.cluster.partition(*nodes)


def slow_node(node: str, latency: float = 0.040) -> Happening:
    """Everything from and to the node takes longer; ``latency`` in seconds."""
    return lambda sim: sim.cluster.network.degrade_node(node, latency=latency)


def lossy_uplink(node: str) -> Happening:
    """The node's way to the routers loses packets."""
    return lambda sim: sim.cluster.bgp.lossy.add(node)
