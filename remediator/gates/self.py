"""What the daemon itself stands on: its own node, and the last pod of what it and everybody else need."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.cluster.model import Cluster
    from remediator.model import Target, Verdict


class Self(Gate):
    """Refuses to disturb the node or the pod of this daemon, and a node with the last ready CoreDNS, Prometheus or Alertmanager."""

    name: ClassVar[str] = "self"
    summary: ClassVar[str] = "the target carries neither this daemon nor the last of what it depends on"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.CLUSTER})
    only_disruptive: ClassVar[bool] = True

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        cluster, target = snapshot.cluster, case.target
        own = cluster.own
        if own is not None and _carries(target, own.node, own.namespace, own.name):
            return self.refuse(snapshot, f"this daemon runs there, as pod {own.namespace}/{own.name}")
        left, alone = _left(cluster, target)
        if alone:
            return self.refuse(snapshot, f"the last ready {' and '.join(alone)} runs there")
        where = f"this daemon runs on {own.node or 'no node yet'}" if own is not None else "this daemon runs outside of the cluster"
        return self.allow(snapshot, "; ".join([where, *(f"{count} of {app} ready elsewhere" for app, count in left.items())]))


def _carries(target: Target, node: str, namespace: str, name: str) -> bool:
    if target.kind == "Node":
        return target.name == node
    return target.kind == "Pod" and (target.namespace, target.name) == (namespace, name)


def _left(cluster: Cluster, target: Target) -> tuple[dict[str, int], list[str]]:
    """How many of each kind would be left elsewhere, on nodes that are Ready; and those of which the target has the last."""
    works = {node.name for node in cluster.nodes if node.ready == "True"}
    ready = [pod for pod in cluster.needed if pod.ready and pod.node in works]
    here = {pod.app for pod in ready if _carries(target, pod.node, pod.namespace, pod.name)}
    left = {
        app: sum(pod.app == app and not _carries(target, pod.node, pod.namespace, pod.name) for pod in ready)
        for app in sorted({pod.app for pod in cluster.needed})
    }
    return left, [app for app, count in left.items() if not count and app in here]
