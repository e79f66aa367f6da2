"""Whether a node may take pods again, and whether its DaemonSet pods work. In: a Kube, a node's name. Out: words, empty if all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.drain.classify import daemonset_of
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.kube.records import Node, Pod

if TYPE_CHECKING:
    from remediator.kube import Kube

__all__ = ["sickness", "unready_daemons"]

_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
_HEALTHY = frozenset({"node.kubernetes.io/unschedulable"})
"""Taints that a cordoned node may carry; every other one says that somebody keeps pods away from it."""
_FROM_TROUBLE = ("node.kubernetes.io/", "node.cilium.io/")


def sickness(node: Node) -> str:
    """What speaks against giving the node work again; empty if nothing does."""
    if not node.ready:
        return f"it is not Ready ({node.ready_status})"
    wrong = [c.type for c in node.status.conditions if c.type in _PRESSURES and c.status != "False"]
    if wrong:
        return f"it has {', '.join(sorted(wrong))}"
    taints = [t.key for t in node.spec.taints if t.key.startswith(_FROM_TROUBLE) and t.key not in _HEALTHY]
    return f"it is tainted {', '.join(sorted(taints))}" if taints else ""


async def unready_daemons(kube: Kube, name: str) -> str:
    """What is still to come on a node that is schedulable again; empty if all is well or the node is gone. Raises KubeError."""
    try:
        node = await kube.get(kinds.NODE, name, decode=Node)
    except NotFound:
        return ""
    if not node.ready:
        return f"it is not Ready ({node.ready_status}), so its pods cannot be"
    listing = await kube.list(kinds.POD, fields=f"spec.nodeName={name}", decode=Pod)
    unready = [pod.name for pod in listing.items if daemonset_of(pod) and not pod.ready and not pod.finished]
    return f"not ready yet: {', '.join(sorted(unready))}" if unready else ""
