"""The DaemonSet controller: one pod a node, replaced when it goes, rolled when the template changes.

In come DaemonSets, their pods and nodes; out come pods, ControllerRevisions and statuses. As the real one, it makes a new pod on a node
only when the old one is gone altogether.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from remediator.sim.controllers.scheduler import fits
from remediator.sim.controllers.templates import new_pod, template_hash
from remediator.sim.deletion import Deletion, start_deletion
from remediator.sim.objects import clone, controller_of, dig, is_ready, key_of, labels_of, name_of, namespace_of, owner_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["DaemonSetController"]

_SETS = ("apps", "daemonsets")
_HASH = "controller-revision-hash"
_EVERYWHERE = ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")


class DaemonSetController:
    """Keeps every DaemonSet's pods."""

    tables = (_SETS, ("", "pods"), ("", "nodes"))

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """The set itself, the set of a pod, or all after a node's change."""
        if change.table == _SETS:
            return (key_of(change.obj),)
        if change.table == ("", "nodes"):
            return [key_of(s) for s in self.cluster.store.list(_SETS)]
        owner = controller_of(change.obj)
        return ((namespace_of(change.obj), owner["name"]),) if owner and owner["kind"] == "DaemonSet" else ()

    def reconcile(self, key: tuple[str, str]) -> None:
        """Make missing pods, delete superfluous ones, roll outdated ones, write the status."""
        owner = self.cluster.store.get(_SETS, key[1], key[0])
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            return
        revision = self._revision(owner)
        pods = self.cluster.indexes.owned_by(owner["metadata"]["uid"], ("", "pods"))
        by_node: dict[str, list[Obj]] = {}
        for pod in pods:
            by_node.setdefault(self._node_of(pod), []).append(pod)
        wanted = [n for n in self.cluster.store.list(("", "nodes")) if fits(self._probe(owner), n)]
        names = {name_of(n) for n in wanted}
        for node in sorted(names - by_node.keys()):
            self._create(owner, node, revision)
        for node, found in by_node.items():
            self._trim(found, keep=node in names)
        self._roll(owner, revision, by_node)
        self._status(owner, names, revision)

    def _node_of(self, pod: Obj) -> str:
        path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        terms = dig(pod, path) or [{"matchFields": [{"values": [""]}]}]
        return str(dig(pod, "spec.nodeName") or terms[0]["matchFields"][0]["values"][0])

    def _probe(self, owner: Obj) -> Obj:
        """The pod that it would make, as far as fitting a node goes."""
        spec = {**dig(owner, "spec.template.spec", {})}
        spec["tolerations"] = self._tolerations(spec)
        return {"metadata": {}, "spec": spec}

    def _tolerations(self, spec: Obj) -> list[Obj]:
        added = [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"} for key in ("not-ready", "unreachable")]
        added += [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoSchedule"} for key in _EVERYWHERE]
        if spec.get("hostNetwork"):
            added.append({"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"})
        return [*(spec.get("tolerations") or ()), *added]

    def _create(self, owner: Obj, node: str, revision: str) -> None:
        generation = dig(owner, "metadata.annotations", {}).get("deprecated.daemonset.template.generation", "1")
        pod = new_pod(owner, {_HASH: revision, "pod-template-generation": generation})
        pod["spec"]["tolerations"] = self._tolerations(pod["spec"])
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        pod["spec"]["affinity"] = {**(pod["spec"].get("affinity") or {}), "nodeAffinity": required}
        self.cluster.create_pod(pod)

    def _trim(self, pods: list[Obj], *, keep: bool) -> None:
        living = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
        finished = [p for p in living if dig(p, "status.phase") in ("Succeeded", "Failed")]
        for pod in finished if keep else living:
            self._delete(pod)
        if keep:
            for pod in [p for p in living if p not in finished][1:]:
                self._delete(pod)

    def _delete(self, pod: Obj) -> None:
        start_deletion(self.cluster.store, self.cluster.kind("Pod"), pod, Deletion())

    def _roll(self, owner: Obj, revision: str, by_node: dict[str, list[Obj]]) -> None:
        if dig(owner, "spec.updateStrategy.type") != "RollingUpdate":
            return
        current = [p for pods in by_node.values() for p in pods]
        outdated = [p for p in current if labels_of(p).get(_HASH) != revision and "deletionTimestamp" not in p["metadata"]]
        if not outdated:
            return
        limit = dig(owner, "spec.updateStrategy.rollingUpdate.maxUnavailable", 1)
        allowed = math.ceil(len(by_node) * int(limit[:-1]) / 100) if isinstance(limit, str) else int(limit)
        down = (
            sum(not is_ready(p) or "deletionTimestamp" in p["metadata"] for p in current)
            + dig(owner, "status.desiredNumberScheduled", 0)
            - len(by_node)
        )
        unready_first = sorted(outdated, key=is_ready)
        for pod in unready_first[: max(0, allowed - max(0, down))]:
            self._delete(pod)

    def _revision(self, owner: Obj) -> str:
        """The hash of the current template; its ControllerRevision is made when it is new."""
        value = template_hash(owner)
        revisions = self.cluster.store.list(("apps", "controllerrevisions"), namespace_of(owner))
        mine = [r for r in revisions if (controller_of(r) or {}).get("uid") == owner["metadata"]["uid"]]
        name = f"{name_of(owner)}-{value}"
        if not any(name_of(r) == name for r in mine):
            labels = {**(dig(owner, "spec.template.metadata.labels") or {}), _HASH: value}
            template = {"$patch": "replace", **clone(owner["spec"]["template"])}
            revision: Obj = {
                "metadata": {"name": name, "namespace": namespace_of(owner), "labels": labels, "ownerReferences": [owner_reference(owner)]},
                "data": {"spec": {"template": template}},
                "revision": max((r["revision"] for r in mine), default=0) + 1,
            }
            self.cluster.store.add(self.cluster.kind("ControllerRevision"), revision)
        return value

    def _status(self, owner: Obj, wanted: set[str], revision: str) -> None:
        copy = self.cluster.store.edit(self.cluster.kind("DaemonSet"), owner)
        pods = self.cluster.indexes.owned_by(owner["metadata"]["uid"], ("", "pods"))
        placed = [p for p in pods if self._node_of(p) in wanted and "deletionTimestamp" not in p["metadata"]]
        ready = sum(map(is_ready, placed))
        state = copy["status"]
        state.update(
            currentNumberScheduled=len(placed),
            numberMisscheduled=len([p for p in pods if self._node_of(p) not in wanted]),
            desiredNumberScheduled=len(wanted),
            numberReady=ready,
            observedGeneration=owner["metadata"]["generation"],
            updatedNumberScheduled=sum(labels_of(p).get(_HASH) == revision for p in placed),
            numberAvailable=ready,
        )
        state.pop("numberUnavailable", None)
        if len(wanted) > ready:
            state["numberUnavailable"] = len(wanted) - ready
        if not ready:
            state.pop("numberAvailable")
        self.cluster.store.replace(self.cluster.kind("DaemonSet"), copy)
