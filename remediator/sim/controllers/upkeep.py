"""Garbage collection, the end of namespaces, and the statuses of PodDisruptionBudgets.

In come deletions and changes; out come further deletions and statuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.defaults import tidy
from remediator.sim.deletion import Deletion, remove_finalizer, start_deletion
from remediator.sim.disruption import refresh
from remediator.sim.objects import dig, key_of, name_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["BudgetController", "GarbageCollector", "NamespaceController"]

_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


class GarbageCollector:
    """Deletes what belonged to an object that went; holds a foreground deletion until they are gone."""

    tables: tuple[tuple[str, str], ...] = ()

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._foreground: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {}
        cluster.store.subscribe(self._changed)

    def _changed(self, change: Change) -> None:
        for key in self.keys(change):
            self.cluster.loop.enqueue(self, key)

    def keys(self, change: Change) -> Iterable[str]:
        """The uid of an object that goes, or whose dependents go."""
        meta = change.obj["metadata"]
        if change.kind == "DELETED":
            self._foreground.pop(meta["uid"], None)
            yield meta["uid"]
            yield from (r["uid"] for r in meta.get("ownerReferences") or () if r["uid"] in self._foreground)
        elif "deletionTimestamp" in meta and {_FOREGROUND, _ORPHAN} & {*(meta.get("finalizers") or ())}:
            self._foreground[meta["uid"]] = change.table, key_of(change.obj)
            yield meta["uid"]

    def reconcile(self, uid: str) -> None:
        """Delete dependents (or let them go, if they are to be orphans); let the deletion finish when none is left."""
        if uid in self._foreground and self._orphaned(uid):
            return
        dependents = self.cluster.indexes.tables_owned_by(uid)
        for table, obj in dependents:
            owners = [r["uid"] for r in obj["metadata"].get("ownerReferences") or ()]
            resource = self.cluster.resource_of(table)
            others = any(o != uid and self.cluster.exists(o) for o in owners)
            if "deletionTimestamp" not in obj["metadata"] and not others and resource is not None:
                start_deletion(self.cluster.store, resource, obj, Deletion())
        if uid in self._foreground and not self.cluster.indexes.tables_owned_by(uid):
            table, (namespace, name) = self._foreground.pop(uid)
            owner, resource = self.cluster.store.get(table, name, namespace), self.cluster.resource_of(table)
            if owner is not None and resource is not None:
                remove_finalizer(self.cluster.store, resource, owner, _FOREGROUND)

    def _orphaned(self, uid: str) -> bool:
        """Whether the owner wanted its dependents to outlive it; then they no longer refer to it."""
        table, (namespace, name) = self._foreground[uid]
        owner, resource = self.cluster.store.get(table, name, namespace), self.cluster.resource_of(table)
        if owner is None or resource is None or _ORPHAN not in (owner["metadata"].get("finalizers") or ()):
            return False
        for other, obj in self.cluster.indexes.tables_owned_by(uid):
            kind = self.cluster.resource_of(other)
            if kind is not None:
                copy = self.cluster.store.edit(kind, obj)
                copy["metadata"]["ownerReferences"] = [r for r in copy["metadata"]["ownerReferences"] if r["uid"] != uid]
                tidy(kind, copy)
                self.cluster.store.replace(kind, copy)
        del self._foreground[uid]
        remove_finalizer(self.cluster.store, resource, owner, _ORPHAN)
        return True


class NamespaceController:
    """Gives every namespace what belongs into it; empties and removes terminating ones."""

    tables: tuple[tuple[str, str], ...] = (("", "namespaces"),)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._ending: set[str] = set()
        cluster.store.subscribe(self._changed)

    def _changed(self, change: Change) -> None:
        if change.kind == "DELETED" and namespace_of(change.obj) in self._ending:
            self.cluster.loop.enqueue(self, namespace_of(change.obj))

    def keys(self, change: Change) -> Iterable[str]:
        """New and terminating ones."""
        return () if change.kind == "DELETED" else (name_of(change.obj),)

    def reconcile(self, name: str) -> None:
        """Delete everything within; remove the namespace when nothing is left."""
        namespace = self.cluster.store.get(("", "namespaces"), name)
        if namespace is None:
            self._ending.discard(name)
            return
        if dig(namespace, "status.phase") != "Terminating":
            self._furnish(name)
            return
        self._ending.add(name)
        left = [(t.name, obj) for t in self.cluster.store.tables() for key, obj in list(t.objects.items()) if key[0] == name]
        for table, obj in left:
            resource = self.cluster.resource_of(table)
            if resource is not None and "deletionTimestamp" not in obj["metadata"]:
                start_deletion(self.cluster.store, resource, obj, Deletion())
        if not any(key[0] == name for t in self.cluster.store.tables() for key in t.objects) and not namespace["metadata"].get(
            "finalizers"
        ):
            self.cluster.store.remove(self.cluster.kind("Namespace"), namespace)

    def _furnish(self, name: str) -> None:
        furniture: tuple[tuple[str, str, Obj], ...] = (
            ("ServiceAccount", "default", {}),
            ("ConfigMap", "kube-root-ca.crt", {"data": {"ca.crt": "simulated\n"}}),
        )
        for kind, thing, content in furniture:
            if self.cluster.store.get(self.cluster.kind(kind), thing, name) is None:
                self.cluster.store.add(self.cluster.kind(kind), {"metadata": {"name": thing, "namespace": name}, **content})


class BudgetController:
    """Keeps the status of PodDisruptionBudgets."""

    tables = (("", "pods"), ("policy", "poddisruptionbudgets"))

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """The budget itself, or every budget in a pod's namespace."""
        if change.table == self.tables[1]:
            return () if change.kind == "DELETED" else (key_of(change.obj),)
        return [key_of(b) for b in self.cluster.store.list(self.tables[1], namespace_of(change.obj))]

    def reconcile(self, key: tuple[str, str]) -> None:
        """Write one status."""
        budget = self.cluster.store.get(self.tables[1], key[1], key[0])
        if budget is not None:
            refresh(self.cluster.store, budget)
