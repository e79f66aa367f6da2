"""What forbids restarting something of Cilium, each point a small function. Pure: a picture in, words out, empty if nothing is wrong.

The points are those of Cilium's docs and issues on restarts; each function names its source. What only a person can weigh is in
``caveats``, what must be true afterwards in ``proof``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remediator.cilium.picture import Fleet
    from remediator.kube.records import Pod
    from remediator.kube.workloads import Deployment

__all__ = [
    "cannot_be_pulled",
    "crash_loop",
    "deployment_rolls",
    "no_operator",
    "node_not_ready",
    "others_down",
    "rolling_out",
    "under_pressure",
    "wanted",
    "would_upgrade",
]

CRASHES = 3
"""Restarts by itself that make another one pointless, ..."""
CRASH_WINDOW = timedelta(minutes=30)
"""... if the last of them is not longer ago than this."""
_PULLING = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ImageInspectError")


def node_not_ready(node: dict[str, Any]) -> str:
    """On a node that is not Ready the delete hangs in Terminating, since its kubelet can neither stop nor start anything.

    Ready also says that the node reaches the API server: the node controller takes it back 40 s after the kubelet's last lease renewal
    (kubernetes, node_lifecycle_controller.go). A new agent waits for the API server, and without it the node goes dark (cilium#30609).
    """
    status = _condition(node, "Ready")
    return "" if status == "True" else f"node {node['metadata']['name']} is not Ready: its kubelet could not stop or start the pod"


def under_pressure(node: dict[str, Any]) -> str:
    """A node that is short of disk may be unable to pull the agent's image (kubelet eviction docs: images are collected then)."""
    pressed = _condition(node, "DiskPressure") == "True"
    return f"node {node['metadata']['name']} has DiskPressure: the image of a new pod may not fit" if pressed else ""


def _condition(thing: dict[str, Any], kind: str) -> str:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return next((str(c.get("status")) for c in conditions if c.get("type") == kind), "")


def wanted(fleet: Fleet) -> int:
    """How many agents there should be."""
    return max(sum(d.status.desired_number_scheduled for d in fleet.daemonsets), len({pod.node_name for pod in fleet.pods}))


def others_down(fleet: Fleet, node: str, *, limit: int = 1) -> str:
    """As many as allowed are down already: the restart comes on top of them, and the chart's own maxUnavailable is 2.

    A cause that takes several agents down is not cured node by node (Datadog 2023-03-08; cilium#31702 for the API server as the cause).
    """
    down = sorted(pod.name for pod in fleet.pods if pod.node_name != node and not pod.ready)
    have = {pod.node_name for pod in fleet.pods}
    missing = max(0, sum(d.status.desired_number_scheduled for d in fleet.daemonsets) - len(have | {node}))
    parts = [f"agents of other nodes are not ready: {_some(down)}"] if down else []
    parts += [f"{missing} other nodes have no agent pod"] if missing else []
    return "; ".join(parts) if len(down) + missing >= limit else ""


def cannot_be_pulled(fleet: Fleet) -> str:
    """The image cannot be pulled somewhere else, so it may be missing here too, and the new pod would never start."""
    stuck = sorted(pod.name for pod in fleet.pods if any(reason in _PULLING for reason in pod.waiting))
    return f"an image cannot be pulled for {_some(stuck)}" if stuck else ""


def crash_loop(pods: Iterable[Pod], now: datetime) -> str:
    """A container that restarts by itself is not cured by a restart; its log is what helps (cilium#27922, #26411)."""
    for pod in pods:
        for status in pod.statuses:
            ended = status.last_state.terminated.finished_at if status.last_state.terminated else None
            recently = ended is not None and now - ended < CRASH_WINDOW
            if status.waiting == "CrashLoopBackOff" or (recently and status.restart_count >= CRASHES):
                words = f"{pod.name}: container {status.name} restarted {status.restart_count} times by itself"
                return f"{words}; read its logs: kubectl -n {pod.namespace} logs {pod.name} -c {status.name} -p"
    return ""


def rolling_out(fleet: Fleet) -> str:
    """A rollout restarts pods by itself, and two hands on one DaemonSet take down more than its maxUnavailable (kubectl rollout status)."""
    for one in fleet.daemonsets:
        status = one.status
        by_hand = one.spec.update_strategy.type == "OnDelete"
        if status.observed_generation < one.metadata.generation or (one.rolling_out and not by_hand):
            return f"DaemonSet {one.name} rolls out: {status.updated_number_scheduled} of {status.desired_number_scheduled} updated"
    return ""


def would_upgrade(fleet: Fleet, node: str) -> str:
    """With OnDelete the next pod takes the newest template: a restart would be a silent upgrade of one node (DaemonSet docs)."""
    for pod in fleet.on(node):
        owner = fleet.daemonset_of(pod)
        newest = fleet.newest.get(owner.uid) if owner is not None else None
        if owner is not None and newest is not None and newest != pod.revision:
            return f"DaemonSet {owner.name} updates OnDelete and has a newer revision: a restart would upgrade {pod.name}"
    return ""


def deployment_rolls(one: Deployment) -> str:
    """As ``rolling_out``, for the operator: its old and new replicas argue about the leader's lease meanwhile (kubectl rollout status)."""
    if not one.rolling_out:
        return ""
    return f"Deployment {one.name} rolls out: {one.status.updated_replicas} of {one.spec.replicas} updated, {one.status.replicas} there"


def no_operator(operators: Iterable[Deployment]) -> str:
    """Without an operator the taint of a restarted agent is never taken off nor BGP configured (operator/watchers/node_taint.go)."""
    down = sorted(one.name for one in operators if not one.available)
    return f"Deployment {', '.join(down)} has no available replica" if down else ""


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
