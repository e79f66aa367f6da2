"""The scheduler: binds pods that have no node.

In come pods without ``spec.nodeName``; out come bound ones, or the condition PodScheduled=False while no node will have them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from remediator.sim.objects import condition, controller_of, dig, key_of, labels_of, name_of, set_condition, tolerates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["Scheduler", "fits"]

_MANY = 100
_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def fits(pod: Obj, node: Obj) -> bool:
    """Whether selectors, affinity (by node name), cordon and taints let the pod onto the node."""
    selector = dig(pod, "spec.nodeSelector") or {}
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    wanted = pinned_to(pod)
    if wanted and name_of(node) not in wanted:
        return False
    taints = list(dig(node, "spec.taints") or ())
    if dig(node, "spec.unschedulable"):
        taints.append(_UNSCHEDULABLE)
    return all(tolerates(pod, t) for t in taints if t.get("effect") in ("NoSchedule", "NoExecute"))


def pinned_to(pod: Obj) -> list[str]:
    """The node names that a DaemonSet's affinity allows; empty if it is not pinned."""
    path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    terms = dig(pod, f"{path}.nodeSelectorTerms") or ()
    fields = (f for term in terms for f in term.get("matchFields") or ())
    return [str(value) for f in fields if f.get("key") == "metadata.name" for value in f.get("values") or ()]


class Scheduler:
    """Binds each pod to the fitting node with the fewest pods."""

    tables = (("", "pods"), ("", "nodes"))

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._waiting: dict[tuple[str, str], None] = {}

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """Pods without a node; after a node's change or a pod's end, those that found none before."""
        if change.table == ("", "nodes") or change.kind == "DELETED":
            return tuple(self._waiting)
        others = dig(change.obj, "spec.schedulerName") not in (None, "default-scheduler")
        return () if others or dig(change.obj, "spec.nodeName") else (key_of(change.obj),)

    def reconcile(self, key: tuple[str, str]) -> None:
        """Bind one pod, or note that it cannot be."""
        pod = self.cluster.store.get(("", "pods"), key[1], key[0])
        if pod is None or dig(pod, "spec.nodeName") or "deletionTimestamp" in pod["metadata"]:
            self._waiting.pop(key, None)
            return
        nodes = [n for n in self._candidates(pod) if fits(pod, n)]
        if not nodes:
            self._waiting[key] = None
            self._explain(pod)
            return
        self._waiting.pop(key, None)
        siblings = self._siblings(pod)
        best = min(nodes, key=lambda n: (siblings[name_of(n)], self.cluster.indexes.count_on(name_of(n)), name_of(n)))
        self.cluster.bind(pod, name_of(best))

    def _candidates(self, pod: Obj) -> list[Obj]:
        pinned = pinned_to(pod)
        if not pinned:
            return self.cluster.store.list(("", "nodes"))
        return [node for name in pinned if (node := self.cluster.store.get(("", "nodes"), name)) is not None]

    def _siblings(self, pod: Obj) -> Counter[str]:
        """How many pods of the same owner are on each node, so that replicas spread; not counted for very many."""
        owner = controller_of(pod)
        if owner is None or self.cluster.indexes.count_owned(owner["uid"]) > _MANY:
            return Counter()
        return Counter(str(dig(p, "spec.nodeName")) for p in self.cluster.indexes.owned_by(owner["uid"], ("", "pods")))

    def _explain(self, pod: Obj) -> None:
        if (condition(pod, "PodScheduled") or {}).get("status") == "False":
            return
        copy = self.cluster.store.edit(self.cluster.kind("Pod"), pod)
        count = len(self.cluster.store.list(("", "nodes")))
        message = f"0/{count} nodes are available."
        set_condition(copy, "PodScheduled", "False", self.cluster.clock.now(), lastProbeTime=None, reason="Unschedulable", message=message)
        self.cluster.store.replace(self.cluster.kind("Pod"), copy)
