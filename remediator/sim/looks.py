"""What scenarios look at to say whether a cluster is whole: each gives a look at a running simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from remediator.sim.objects import controller_of, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.sim.simulation import Simulation

    Look: TypeAlias = Callable[[Simulation], bool]

__all__ = ["agents_work", "all_of", "announces", "emptied", "intact", "neither", "ready"]


def agents_work(*nodes: str) -> Look:
    """Each of these nodes has an agent that answers."""
    return lambda sim: all(sim.cluster.agent_works(node) for node in nodes)


def ready(*nodes: str) -> Look:
    """Each of these nodes is Ready."""
    return lambda sim: all(is_ready(sim.cluster.get("Node", node) or {}) for node in nodes)


def announces(node: str) -> Look:
    """A router hears from the node."""
    return lambda sim: any(heard.up for heard in sim.cluster.bgp.heard_from(node))


def emptied(node: str) -> Look:
    """Nothing is left there but what belongs to a DaemonSet."""
    return lambda sim: all((controller_of(pod) or {}).get("kind") == "DaemonSet" for pod in sim.cluster.indexes.pods_on(node))


def intact(sim: Simulation) -> bool:
    """Nothing is wrong between the nodes."""
    return sim.cluster.network.intact


def all_of(*looks: Look) -> Look:
    """Every one of them says yes."""
    return lambda sim: all(look(sim) for look in looks)


def neither(*looks: Look) -> Look:
    """Every one of them says no."""
    return lambda sim: not any(look(sim) for look in looks)
