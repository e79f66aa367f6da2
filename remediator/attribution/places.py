"""The nodes that may take part, from Node objects as the API server has them, and which of them a label means.

In: Nodes. Out: one Place for each, in their order. ``without`` leaves out those that are known from elsewhere to be out of service (off
for a month): nobody can clear them, and in a small cluster one node that cannot be cleared holds every verdict back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from remediator.attribution.model import Place
from remediator.clock import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime

__all__ = ["NODE_LABELS", "Names", "away", "places"]

NODE_LABELS: Final = ("target_node", "node", "nodename", "node_name", "kubernetes_node")
"""Labels of an alert that name a node, best first: where it carries target_node, the node label names only the observer."""
_ZONE: Final = "topology.kubernetes.io/zone"
_AWAY: Final = timedelta(hours=1)


def places(nodes: Iterable[Mapping[str, Any]], without: AbstractSet[str] = frozenset()) -> tuple[Place, ...]:
    """Name, zone and InternalIP of each node."""
    return tuple(_place(node) for node in nodes if node["metadata"]["name"] not in without)


def _place(node: Mapping[str, Any]) -> Place:
    meta, status = node["metadata"], node.get("status") or {}
    addresses = (a["address"] for a in status.get("addresses") or () if a.get("type") == "InternalIP")
    return Place(name=meta["name"], zone=(meta.get("labels") or {}).get(_ZONE, ""), address=next(addresses, ""))


def away(nodes: Iterable[Mapping[str, Any]], now: datetime) -> frozenset[str]:
    """Those that have not been Ready for an hour: known to be out of service, so nobody is asked about them."""
    return frozenset(node["metadata"]["name"] for node in nodes if _since(node, now) > _AWAY)


def _since(node: Mapping[str, Any], now: datetime) -> timedelta:
    """How long the node has not been Ready; 0 if it is, or if it does not say since when."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = next((c for c in conditions if c.get("type") == "Ready"), {"status": "True"})
    changed = ready.get("lastTransitionTime")
    return now - parse_time(changed) if ready.get("status") != "True" and changed else timedelta(0)


class Names:
    """Which node a label means: by a node's name or address, with or without a port."""

    def __init__(self, nodes: Iterable[Place]) -> None:
        listed = tuple(nodes)
        self._known = {place.address: place.name for place in listed if place.address} | {place.name: place.name for place in listed}

    def node(self, labels: Mapping[str, str], keys: Iterable[str]) -> str | None:
        """The first of ``keys`` whose label is a listed node's name or address decides; None if none is."""
        values = (labels.get(key, "") for key in keys)
        return next((node for value in values if (node := self._known.get(value) or self._known.get(_host(value)))), None)


def _host(value: str) -> str:
    return value.rpartition(":")[0].strip("[]")
