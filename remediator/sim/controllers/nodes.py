"""Nodes: the taints that follow a cordon or a silent kubelet, leases, and what happens to the pods of a lost node.

In come nodes and the state of their kubelets; out come taints, conditions and, when their toleration ends, deletions of pods.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.deletion import Deletion, start_deletion
from remediator.sim.objects import condition, dig, micro_time, name_of, owner_reference, rfc3339, set_condition, tolerates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["NodeController", "set_taint"]

_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_PRESSURES = {
    "MemoryPressure": "KubeletHasSufficientMemory",
    "DiskPressure": "KubeletHasNoDiskPressure",
    "PIDPressure": "KubeletHasSufficientPID",
}


def set_taint(cluster: Cluster, node: Obj, key: str, effect: str, *, present: bool, stamped: bool = True) -> None:
    """Put a taint on a node or take it off; the others stay as they are."""
    taints = list(dig(node, "spec.taints") or ())
    found = [t for t in taints if (t.get("key"), t.get("effect")) == (key, effect)]
    if bool(found) == present:
        return
    copy = cluster.store.edit(cluster.kind("Node"), node)
    kept = [t for t in dig(copy, "spec.taints") or () if (t.get("key"), t.get("effect")) != (key, effect)]
    if present:
        taint = {"key": key, "effect": effect}
        kept.append({**taint, "timeAdded": rfc3339(cluster.clock.now())} if stamped else taint)
    copy["spec"].pop("taints", None)
    if kept:
        copy["spec"]["taints"] = kept
    cluster.store.replace(cluster.kind("Node"), copy)


class NodeController:
    """Watches over nodes."""

    tables = (("", "nodes"),)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._late: set[str] = set()

    def keys(self, change: Change) -> Iterable[str]:
        """The node that changed."""
        return () if change.kind == "DELETED" else (name_of(change.obj),)

    def reconcile(self, name: str) -> None:
        """Cordon taint, soon after the cordon; pods go that do not tolerate a taint of somebody else's."""
        node = self._node(name)
        if node is None:
            return
        self._drive_out(node)
        wanted = bool(dig(node, "spec.unschedulable"))
        present = any(t.get("key") == _UNSCHEDULABLE for t in dig(node, "spec.taints") or ())
        if wanted != present and name not in self._late:
            self._late.add(name)
            self.cluster.loop.after(self.cluster.timing.taint, self._cordon_taint, name)

    def _cordon_taint(self, name: str) -> None:
        self._late.discard(name)
        node = self._node(name)
        if node is not None:
            set_taint(self.cluster, node, _UNSCHEDULABLE, "NoSchedule", present=bool(dig(node, "spec.unschedulable")))

    def _drive_out(self, node: Obj) -> None:
        """Taints with NoExecute (taint eviction); out-of-service on a lost node takes its pods' records too (pod garbage collector)."""
        taints = [t for t in dig(node, "spec.taints") or () if t.get("effect") == "NoExecute" and t.get("key") != _UNREACHABLE]
        given_up = any(t.get("key") == _OUT_OF_SERVICE for t in taints) and (condition(node, "Ready") or {}).get("status") != "True"
        for pod in self.cluster.indexes.pods_on(name_of(node)) if taints else ():
            if "deletionTimestamp" not in pod["metadata"] and not all(tolerates(pod, t) for t in taints):
                start_deletion(self.cluster.store, self.cluster.kind("Pod"), pod, Deletion())
            current = self.cluster.store.get(("", "pods"), name_of(pod), pod["metadata"].get("namespace", ""))
            if given_up and current is not None and "deletionTimestamp" in current["metadata"]:
                self.cluster.store.remove(self.cluster.kind("Pod"), current)

    # --- kubelets that fall silent and come back -----------------------------------------------------------------------

    def silent(self, name: str) -> None:
        """A kubelet died: after the grace period the node is Unknown, later its pods are given up."""
        self.cluster.loop.after(self.cluster.timing.node_grace, self._lost, name)

    def _lost(self, name: str) -> None:
        node = self._node(name)
        if node is None or self.cluster.kubelet_alive(name):
            return
        copy = self.cluster.store.edit(self.cluster.kind("Node"), node)
        for kind in ("Ready", *_PRESSURES):
            message = "Kubelet stopped posting node status."
            set_condition(copy, kind, "Unknown", self.cluster.clock.now(), reason="NodeStatusUnknown", message=message)
        node = self.cluster.store.replace(self.cluster.kind("Node"), copy)
        for effect in ("NoSchedule", "NoExecute"):
            set_taint(self.cluster, self._node(name) or node, _UNREACHABLE, effect, present=True)
        for pod in self.cluster.indexes.pods_on(name):
            self._unready(pod)
            self._give_up(pod)

    def _unready(self, pod: Obj) -> None:
        if condition(pod, "Ready") is not None:
            copy = self.cluster.store.edit(self.cluster.kind("Pod"), pod)
            set_condition(copy, "Ready", "False", self.cluster.clock.now(), reason="NodeNotReady")
            self.cluster.store.replace(self.cluster.kind("Pod"), copy)

    def _give_up(self, pod: Obj) -> None:
        """Delete the pod when it no longer tolerates the lost node."""
        matching = [
            t
            for t in dig(pod, "spec.tolerations") or ()
            if t.get("key") in (None, "", _UNREACHABLE) and t.get("effect") in (None, "", "NoExecute")
        ]
        limits = [t["tolerationSeconds"] for t in matching if t.get("tolerationSeconds") is not None]
        if matching and not limits:
            return
        self.cluster.loop.after(timedelta(seconds=min(limits, default=0)), self._evict_lost, pod)

    def _evict_lost(self, pod: Obj) -> None:
        current = self.cluster.store.get(("", "pods"), name_of(pod), pod["metadata"].get("namespace", ""))
        if current is None or current["metadata"]["uid"] != pod["metadata"]["uid"] or "deletionTimestamp" in current["metadata"]:
            return
        if not self.cluster.kubelet_alive(current["spec"]["nodeName"]):
            start_deletion(self.cluster.store, self.cluster.kind("Pod"), current, Deletion())

    def back(self, name: str) -> None:
        """A kubelet works (again): Ready, no unreachable taint, pods ready where they work."""
        node = self._node(name)
        if node is None:
            return
        copy = self.cluster.store.edit(self.cluster.kind("Node"), node)
        report_healthy(self.cluster, copy)
        node = self.cluster.store.replace(self.cluster.kind("Node"), copy)
        for effect in ("NoSchedule", "NoExecute"):
            set_taint(self.cluster, self._node(name) or node, _UNREACHABLE, effect, present=False)

    # --- heartbeats ----------------------------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Every living kubelet renews its lease; again after a while."""
        for node in self.cluster.store.list(("", "nodes")):
            if self.cluster.kubelet_alive(name_of(node)):
                self._renew(node)
        self.cluster.loop.after(self.cluster.timing.heartbeat, self.heartbeat)

    def _renew(self, node: Obj) -> None:
        name, kind = name_of(node), self.cluster.kind("Lease")
        found = self.cluster.store.get(kind, name, "kube-node-lease")
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro_time(self.cluster.clock.now())}
        if found is None:
            reference = {k: v for k, v in owner_reference(node).items() if k not in ("controller", "blockOwnerDeletion")}
            meta = {"name": name, "namespace": "kube-node-lease", "ownerReferences": [reference]}
            self.cluster.store.add(kind, {"metadata": meta, "spec": spec})
            return
        copy = self.cluster.store.edit(kind, found)
        copy["spec"] = spec
        self.cluster.store.replace(kind, copy)

    def _node(self, name: str) -> Obj | None:
        return self.cluster.store.get(("", "nodes"), name)


def report_healthy(cluster: Cluster, node: Obj) -> None:
    """Write the conditions of a healthy kubelet into a clone of its node."""
    now = cluster.clock.now()
    stamp = rfc3339(now)
    for kind, reason in _PRESSURES.items():
        set_condition(node, kind, "False", now, reason=reason, message="", lastHeartbeatTime=stamp)
    message = "kubelet is posting ready status"
    set_condition(node, "Ready", "True", now, reason="KubeletReady", message=message, lastHeartbeatTime=stamp)
