"""The nodes that may take part, from Node objects as the API server has them.

In: Nodes. Out: one Place for each, in their order. ``without`` leaves out those that are known from elsewhere to be out of service (off
for a month): nobody can clear them, and in a small cluster one node that cannot be cleared holds every verdict back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remediator.attribution.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

__all__ = ["places"]

_ZONE: Final = "topology.kubernetes.io/zone"


def places(nodes: Iterable[Mapping[str, Any]], without: AbstractSet[str] = frozenset()) -> tuple[Place, ...]:
    """Name, zone and InternalIP of each node."""
    return tuple(_place(node) for node in nodes if node["metadata"]["name"] not in without)


def _place(node: Mapping[str, Any]) -> Place:
    meta, status = node["metadata"], node.get("status") or {}
    addresses = (a["address"] for a in status.get("addresses") or () if a.get("type") == "InternalIP")
    return Place(name=meta["name"], zone=(meta.get("labels") or {}).get(_ZONE, ""), address=next(addresses, ""))
