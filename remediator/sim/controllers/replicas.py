"""Deployments, ReplicaSets and StatefulSets: as many pods as asked for, replaced when they go, rolled when the template changes.

In come the objects and their pods; out come ReplicaSets, pods and statuses. Rolling goes one new set up, the old ones down as the new
one becomes ready; surge and unavailability limits are kept only roughly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.controllers.templates import new_pod, template_hash
from remediator.sim.deletion import Deletion, start_deletion
from remediator.sim.objects import (
    clone,
    condition,
    controller_of,
    dig,
    is_ready,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    set_condition,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["DeploymentController", "ReplicaSetController", "StatefulSetController"]

_PODS = ("", "pods")
_DEPLOYMENTS, _REPLICASETS, _STATEFULSETS = ("apps", "deployments"), ("apps", "replicasets"), ("apps", "statefulsets")
_HASH, _REVISION = "pod-template-hash", "deployment.kubernetes.io/revision"
_REVISION_HASH = "controller-revision-hash"


def _owner_key(change: Change, own: tuple[str, str], kind: str) -> Iterable[tuple[str, str]]:
    if change.table == own:
        return (key_of(change.obj),)
    owner = controller_of(change.obj)
    return ((namespace_of(change.obj), owner["name"]),) if owner and owner["kind"] == kind else ()


def _ordinal(pod: Obj) -> int:
    return int(name_of(pod).rpartition("-")[2])


def _living(pods: list[Obj]) -> list[Obj]:
    return [p for p in pods if "deletionTimestamp" not in p["metadata"] and dig(p, "status.phase") not in ("Succeeded", "Failed")]


class ReplicaSetController:
    """Keeps the pods of ReplicaSets."""

    tables = (_REPLICASETS, _PODS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """The set itself or the set of a pod."""
        return _owner_key(change, _REPLICASETS, "ReplicaSet")

    def reconcile(self, key: tuple[str, str]) -> None:
        """Make or delete pods, write the status."""
        owner = self.cluster.store.get(_REPLICASETS, key[1], key[0])
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            return
        pods = _living(self.cluster.indexes.owned_by(owner["metadata"]["uid"], _PODS))
        wanted = dig(owner, "spec.replicas", 1)
        for _ in range(wanted - len(pods)):
            self.cluster.create_pod(new_pod(owner, {}))
        for pod in sorted(pods, key=is_ready)[: max(0, len(pods) - wanted)]:
            start_deletion(self.cluster.store, self.cluster.kind("Pod"), pod, Deletion())
        self._status(owner)

    def _status(self, owner: Obj) -> None:
        pods = _living(self.cluster.indexes.owned_by(owner["metadata"]["uid"], _PODS))
        ready = sum(map(is_ready, pods))
        copy = self.cluster.store.edit(self.cluster.kind("ReplicaSet"), owner)
        copy["status"] = {"replicas": len(pods), "fullyLabeledReplicas": len(pods), "observedGeneration": owner["metadata"]["generation"]}
        if ready:
            copy["status"] |= {"readyReplicas": ready, "availableReplicas": ready}
        self.cluster.store.replace(self.cluster.kind("ReplicaSet"), copy)


class DeploymentController:
    """Keeps the ReplicaSets of Deployments."""

    tables = (_DEPLOYMENTS, _REPLICASETS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """The Deployment itself or that of a ReplicaSet."""
        return _owner_key(change, _DEPLOYMENTS, "Deployment")

    def reconcile(self, key: tuple[str, str]) -> None:
        """Bring the set of the current template up and the others down."""
        owner = self.cluster.store.get(_DEPLOYMENTS, key[1], key[0])
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            return
        value = template_hash(owner)
        sets = self.cluster.indexes.owned_by(owner["metadata"]["uid"], _REPLICASETS)
        current = next((s for s in sets if dig(s, "metadata.labels", {}).get(_HASH) == value), None)
        if dig(owner, "spec.paused"):
            self._status(owner, value)  # it rolls nothing, and says what it sees
            return
        if current is None:
            self._create(owner, value, sets)
            return
        wanted = dig(owner, "spec.replicas", 1)
        self._scale(current, wanted)
        ready = dig(current, "status.readyReplicas", 0)
        for old in sets:
            if old is not current:
                self._scale(old, max(0, min(dig(old, "spec.replicas", 0), wanted - ready)))
        self._status(owner, value)

    def _create(self, owner: Obj, value: str, sets: list[Obj]) -> None:
        template = clone(owner["spec"]["template"])
        labels = {**(dig(template, "metadata.labels") or {}), _HASH: value}
        template["metadata"]["labels"] = labels
        number = max((int(dig(s, "metadata.annotations", {}).get(_REVISION, "0")) for s in sets), default=0) + 1
        meta = {
            "name": f"{name_of(owner)}-{value}",
            "namespace": namespace_of(owner),
            "labels": labels,
            "annotations": {_REVISION: str(number)},
            "ownerReferences": [owner_reference(owner)],
        }
        selector = {**owner["spec"]["selector"], "matchLabels": {**(dig(owner, "spec.selector.matchLabels") or {}), _HASH: value}}
        spec = {"replicas": dig(owner, "spec.replicas", 1), "selector": selector, "template": template}
        self.cluster.store.add(self.cluster.kind("ReplicaSet"), {"metadata": meta, "spec": spec, "status": {"replicas": 0}})
        copy = self.cluster.store.edit(self.cluster.kind("Deployment"), owner)
        copy["metadata"]["annotations"] = {**(copy["metadata"].get("annotations") or {}), _REVISION: str(number)}
        self.cluster.store.replace(self.cluster.kind("Deployment"), copy)

    def _scale(self, replicaset: Obj, wanted: int) -> None:
        if dig(replicaset, "spec.replicas") != wanted:
            copy = self.cluster.store.edit(self.cluster.kind("ReplicaSet"), replicaset)
            copy["spec"]["replicas"] = wanted
            self.cluster.store.replace(self.cluster.kind("ReplicaSet"), copy)

    def _status(self, owner: Obj, value: str) -> None:
        sets = self.cluster.indexes.owned_by(owner["metadata"]["uid"], _REPLICASETS)
        total, ready = (sum(dig(s, f"status.{field}", 0) for s in sets) for field in ("replicas", "readyReplicas"))
        updated = sum(dig(s, "status.replicas", 0) for s in sets if dig(s, "metadata.labels", {}).get(_HASH) == value)
        copy = self.cluster.store.edit(self.cluster.kind("Deployment"), owner)
        wanted = dig(owner, "spec.replicas", 1)
        counts = {"replicas": total, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready}
        counts["unavailableReplicas"] = max(0, wanted - ready)
        kept = {"conditions": copy["status"]["conditions"]} if "conditions" in copy["status"] else {}
        copy["status"] = {"observedGeneration": owner["metadata"]["generation"], **{k: v for k, v in counts.items() if v}, **kept}
        enough = ready >= wanted - wanted // 4
        why = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
        before = condition(owner, "Available")
        if before is None or before["status"] != str(enough):
            set_condition(copy, "Available", str(enough), self.cluster.clock.now(), reason=why, message="")
        self.cluster.store.replace(self.cluster.kind("Deployment"), copy)


class StatefulSetController:
    """Keeps the pods of StatefulSets, by ordinal; each waits for the one before it. An update goes from the last to the first."""

    tables = (_STATEFULSETS, _PODS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """The set itself or the set of a pod."""
        return _owner_key(change, _STATEFULSETS, "StatefulSet")

    def reconcile(self, key: tuple[str, str]) -> None:
        """Make the next missing pod, delete the last superfluous one, write the status."""
        owner = self.cluster.store.get(_STATEFULSETS, key[1], key[0])
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            return
        value, wanted = template_hash(owner), dig(owner, "spec.replicas", 1)
        pods = {name_of(p): p for p in self.cluster.indexes.owned_by(owner["metadata"]["uid"], _PODS)}
        for ordinal in range(wanted):
            name = f"{name_of(owner)}-{ordinal}"
            if name not in pods:
                self._create(owner, name, ordinal, value)
            if not is_ready(pods.get(name, {})):
                break
        surplus = [p for n, p in pods.items() if int(n.rpartition("-")[2]) >= wanted and "deletionTimestamp" not in p["metadata"]]
        for pod in sorted(surplus, key=name_of)[-1:]:
            start_deletion(self.cluster.store, self.cluster.kind("Pod"), pod, Deletion())
        if not surplus and len(pods) == wanted and all(map(is_ready, pods.values())):
            self._roll(owner, f"{name_of(owner)}-{value}", pods)
        self._status(owner, value)

    def _roll(self, owner: Obj, revision: str, pods: dict[str, Obj]) -> None:
        """Delete the last pod that is outdated; the next one only when its successor is ready."""
        if dig(owner, "spec.updateStrategy.type") != "RollingUpdate":
            return
        keep = dig(owner, "spec.updateStrategy.rollingUpdate.partition", 0)
        late = [p for p in pods.values() if _ordinal(p) >= keep and labels_of(p).get(_REVISION_HASH) != revision]
        if any("deletionTimestamp" in p["metadata"] for p in pods.values()):
            return
        for pod in sorted(late, key=_ordinal)[-1:]:
            start_deletion(self.cluster.store, self.cluster.kind("Pod"), pod, Deletion())

    def _create(self, owner: Obj, name: str, ordinal: int, value: str) -> None:
        if ordinal < dig(owner, "spec.updateStrategy.rollingUpdate.partition", 0):
            value = dig(owner, "status.currentRevision", f"{name_of(owner)}-{value}").removeprefix(f"{name_of(owner)}-")
        labels = {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(ordinal)}
        pod = new_pod(owner, {**labels, "controller-revision-hash": f"{name_of(owner)}-{value}"})
        pod["metadata"]["name"] = name
        self.cluster.create_pod(pod)

    def _status(self, owner: Obj, value: str) -> None:
        pods = _living(self.cluster.indexes.owned_by(owner["metadata"]["uid"], _PODS))
        ready = sum(map(is_ready, pods))
        revision = f"{name_of(owner)}-{value}"
        before = dig(owner, "status.currentRevision", revision)
        updated = sum(labels_of(p).get(_REVISION_HASH) == revision for p in pods)
        through = updated == dig(owner, "spec.replicas", 1) == ready
        current = revision if through else before
        copy = self.cluster.store.edit(self.cluster.kind("StatefulSet"), owner)
        copy["status"] = {
            "observedGeneration": owner["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": sum(labels_of(p).get(_REVISION_HASH) == current for p in pods),
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": revision,
        }
        self.cluster.store.replace(self.cluster.kind("StatefulSet"), copy)
