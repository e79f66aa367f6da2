"""The daemon's own place in the network: whether it reaches the other nodes itself, and whether the API server takes its writes.

In: the door to Kubernetes, the port of the agents' health endpoint, the daemon's own node. Out: a View. Raised: KubeError, if a write (a
dry run, so that nothing is kept) is not taken: what can only be read may be a member of etcd that lost its quorum.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remediator.cluster.model import View
from remediator.kube import kinds, records
from remediator.kube.errors import AlreadyExists

if TYPE_CHECKING:
    from remediator.kube import Kube

__all__ = ["read_view"]

_PROBE = "remediator-probe"
_NAMESPACE = "kube-node-lease"
"""Every cluster has it: kubelets keep their leases there."""
_CONNECT = 0.7
"""Seconds; less than what one fact may take."""
_MOST = 100
"""Nodes asked, spread over all of them: the first page of a list is in order of name, often all of one zone, the daemon's own perhaps."""


async def read_view(kube: Kube, port: int, own: str) -> View:
    """``own``: the daemon's node, empty outside of the cluster, from where nodes need not be reachable. ``port`` 0: nobody is asked."""
    if not own or not port:
        await _write(kube)
        why = "cilium.health_port is 0" if own else "this daemon runs outside of the cluster"
        return View(detail=f"{why}, so it asks no node itself")
    listing, _ = await asyncio.gather(kube.list(kinds.NODE, decode=records.Node), _write(kube))
    nodes = [(node.name, node.addresses[0]) for node in listing.items if node.addresses and node.name != own]
    asked = nodes[:: max(1, -(-len(nodes) // _MOST))]
    answers = await asyncio.gather(*(_answers(address, port) for _, address in asked))
    reached = tuple(name for (name, _), answer in zip(asked, answers, strict=True) if answer)
    return View(asked=tuple(name for name, _ in asked), reached=reached)


async def _write(kube: Kube) -> None:
    try:
        await kube.create(kinds.LEASE, {"metadata": {"name": _PROBE, "namespace": _NAMESPACE}, "spec": {}}, _NAMESPACE, dry_run=True)
    except AlreadyExists:
        return  # somebody keeps one of that name; the API server looked


async def _answers(address: str, port: int) -> bool:
    """A node that refuses the connection was reached, too."""
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
