"""Reads Cilium's pods and rollouts through the door to Kubernetes. In: the door, a namespace, selectors. Out: a Picture, or a Fleet.

Raises KubeErrors only. ControllerRevisions are asked for only where a DaemonSet updates OnDelete, since they hold whole templates.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remediator.cilium.picture import OPERATOR_SELECTOR, Fleet, Picture
from remediator.kube import kinds, records, workloads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.kube import Kube

__all__ = ["read_fleet", "read_picture", "successors"]


async def read_picture(kube: Kube, namespace: str, agent_selector: str) -> Picture:
    """Agents, their DaemonSets, and the operator."""
    agents, operators, pods = await asyncio.gather(
        read_fleet(kube, namespace, agent_selector),
        kube.list(kinds.DEPLOYMENT, namespace, labels=OPERATOR_SELECTOR, decode=workloads.Deployment),
        kube.list(kinds.POD, namespace, labels=OPERATOR_SELECTOR, decode=records.Pod),
    )
    return Picture(agents=agents, operators=tuple(operators.items), operator_pods=tuple(pods.items))


async def read_fleet(kube: Kube, namespace: str, selector: str) -> Fleet:
    """The pods that ``selector`` finds, and the DaemonSets that own them; where there is no pod yet, those that carry its labels."""
    pods, sets = await asyncio.gather(
        kube.list(kinds.POD, namespace, labels=selector, decode=records.Pod),
        kube.list(kinds.DAEMONSET, namespace, decode=workloads.DaemonSet),
    )
    owners = {pod.controller.uid for pod in pods.items if pod.controller is not None}
    wanted = dict(part.split("=", 1) for part in selector.split(",") if "=" in part and "!" not in part)
    own = [one for one in sets.items if one.uid in owners or (not owners and wanted.items() <= one.spec.selector.match_labels.items())]
    newest = await _newest(kube, namespace, [one for one in own if one.spec.update_strategy.type == "OnDelete"])
    return Fleet(selector=selector, pods=tuple(pods.items), daemonsets=tuple(own), newest=newest)


async def _newest(kube: Kube, namespace: str, sets: Iterable[workloads.DaemonSet]) -> dict[str, str]:
    uids = {one.uid for one in sets}
    if not uids:
        return {}
    found: dict[str, workloads.ControllerRevision] = {}
    listing = await kube.list(kinds.CONTROLLER_REVISION, namespace, decode=workloads.ControllerRevision)
    for revision in listing.items:
        owner = revision.controller
        if owner is not None and owner.uid in uids and revision.revision >= getattr(found.get(owner.uid), "revision", 0):
            found[owner.uid] = revision
    return {uid: revision.labels.get(records.REVISION_LABEL, "") for uid, revision in found.items()}


async def successors(kube: Kube, namespace: str, selector: str, node: str) -> tuple[records.Pod, ...]:
    """The live pods of one node: one question about that node, however large the cluster is."""
    listing = await kube.list(kinds.POD, namespace, labels=selector, fields=f"spec.nodeName={node}", decode=records.Pod)
    return tuple(pod for pod in listing.items if not pod.terminating)
