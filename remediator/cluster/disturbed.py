"""Which nodes are disturbed, whoever caused it, and how many may be. Pure.

In: the cluster of one moment, the nodes that our own runs work on, a share. Out: nodes with their troubles; numbers. Nothing is refused.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.cluster.model import Cluster

__all__ = ["disturbed", "named"]

_SHOWN = 5


def disturbed(cluster: Cluster, worked_on: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Nodes that are not fully in service, each with why: by their own record, by their agent, or because a run of ours works on them."""
    found: dict[str, list[str]] = defaultdict(list)
    for node in cluster.nodes:
        if troubles := node.troubles:  # of most there is nothing to tell
            found[node.name] += troubles
    for name, words in _agents(cluster).items():
        found[name].append(words)
    for name in worked_on:
        found[name].append("a run of ours is open")
    return {name: tuple(words) for name, words in sorted(found.items())}


def _agents(cluster: Cluster) -> dict[str, str]:
    """Nodes whose agent is not ready, or gone from where one was. A cluster without any agent has none to miss."""
    works = {pod.node for pod in cluster.agents if pod.ready}
    some = {pod.node for pod in cluster.agents if pod.node}
    missed = {node.name for node in cluster.nodes if node.had_agent} if cluster.agents else set()
    return {name: "agent not ready" if name in some else "no agent" for name in (some | missed) - works}


def named(nodes: Mapping[str, tuple[str, ...]]) -> str:
    """``node-1 (cordoned), node-2 (Ready is False), 3 more``"""
    shown = [f"{name} ({', '.join(words)})" for name, words in list(nodes.items())[:_SHOWN]]
    more = [f"{len(nodes) - _SHOWN} more"] if len(nodes) > _SHOWN else []
    return ", ".join([*shown, *more])
