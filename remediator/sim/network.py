"""The network between the nodes: latency and loss of each pair, and who can reach whom.

In come the nodes and what a scenario does to them; out come numbers for the metrics. An intact pair has well under a millisecond and no
loss. A dead agent does not stop traffic (the datapath lives on), but nobody answers its health probes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster

__all__ = ["Link", "Network"]


@dataclass(frozen=True)
class Link:
    """What a scenario adds to a pair or to a node."""

    latency: float = 0.0
    """Seconds."""
    loss: float = 0.0
    """0 to 1."""


_UNTOUCHED = Link()


class Network:
    """Latency and loss between the nodes of one cluster."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._seed = seed
        self._nodes: dict[str, Link] = {}
        self._pairs: dict[tuple[str, str], Link] = {}
        self._parts: list[frozenset[str]] = []

    def degrade_node(self, node: str, *, latency: float = 0.0, loss: float = 0.0) -> None:
        """Everything from and to that node becomes slower or lossy."""
        self._nodes[node] = Link(latency, loss)

    def degrade_pair(self, source: str, target: str, *, latency: float = 0.0, loss: float = 0.0) -> None:
        """Only this direction of this pair."""
        self._pairs[source, target] = Link(latency, loss)

    def degrade_link(self, one: str, other: str, *, latency: float = 0.0, loss: float = 0.0) -> None:
        """Both directions of one pair, as a bad cable or path between two nodes does."""
        self.degrade_pair(one, other, latency=latency, loss=loss)
        self.degrade_pair(other, one, latency=latency, loss=loss)

    def degrade_zone(self, zone: str, *, latency: float = 0.0, loss: float = 0.0) -> None:
        """Everything between that zone and the others, as a bad uplink of a rack does; within it all is well."""
        zones = self._cluster.node_zones()
        for one, its in zones.items():
            for other, another in zones.items():
                if its == zone != another:
                    self.degrade_link(one, other, latency=latency, loss=loss)

    def restore_node(self, node: str) -> None:
        """Take back what was done to a node and its pairs."""
        self._nodes.pop(node, None)
        self._pairs = {pair: link for pair, link in self._pairs.items() if node not in pair}

    def partition(self, *parts: Iterable[str]) -> None:
        """Nodes of different parts cannot reach each other; nodes in none of them form one more part."""
        self._parts = [frozenset(part) for part in parts]

    def heal(self) -> None:
        """Take back everything."""
        self._nodes.clear()
        self._pairs.clear()
        self._parts = []

    def connected(self, source: str, target: str) -> bool:
        """Whether packets can get from one node to the other at all."""
        return self._part(source) == self._part(target)

    def latency(self, source: str, target: str, tick: int = 0) -> float:
        """Round trip in seconds; ``tick`` varies the noise."""
        jitter = 0.9 + 0.2 * zlib.crc32(f"{self._seed}/{source}/{target}/{tick}".encode()) / 2**32
        base = 0.00045 if source != target else 0.00005
        return (base + self._added(source, target).latency) * jitter

    def loss(self, source: str, target: str) -> float:
        """Share of packets lost."""
        if not self.connected(source, target):
            return 1.0
        return min(1.0, self._added(source, target).loss)

    def probe_answered(self, source: str, target: str) -> bool:
        """Whether the agent on ``target`` answers the health probe of the one on ``source``."""
        return self.connected(source, target) and self.loss(source, target) < 1 and self._cluster.agent_works(target)

    def unreachable_from(self, source: str) -> int:
        """How many other nodes the agent on ``source`` cannot reach."""
        others = (n for n in self._cluster.node_names() if n != source)
        if self.intact:
            return sum(not self._cluster.agent_works(target) for target in others)
        return sum(not self.probe_answered(source, target) for target in others)

    @property
    def intact(self) -> bool:
        """Whether nothing was done to it."""
        return not (self._nodes or self._pairs or self._parts)

    def _added(self, source: str, target: str) -> Link:
        if not (self._pairs or self._nodes):
            return _UNTOUCHED
        links = [self._pairs.get((source, target), Link())]
        if source != target:
            links += [self._nodes.get(source, Link()), self._nodes.get(target, Link())]
        passed = 1.0
        for link in links:
            passed *= 1 - link.loss
        return Link(sum(link.latency for link in links), 1 - passed)

    def _part(self, node: str) -> int:
        return next((number for number, part in enumerate(self._parts) if node in part), -1)
