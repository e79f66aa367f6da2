"""Which pods are on a node and which objects belong to an owner, kept up to date with the store.

In come changes; out come objects. Nothing is refused.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from remediator.sim.objects import dig, key_of

if TYPE_CHECKING:
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change, Store

__all__ = ["Indexes"]

_PODS = ("", "pods")


class Indexes:
    """Look-ups that would otherwise scan every table."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._on_node: defaultdict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        self._owned: defaultdict[str, dict[tuple[tuple[str, str], tuple[str, str]], None]] = defaultdict(dict)
        store.subscribe(self._changed)

    def pods_on(self, node: str) -> list[Obj]:
        """Every pod bound to the node, terminating ones included."""
        objects = self._store.table(_PODS).objects
        return [objects[key] for key in self._on_node.get(node, ())]

    def count_on(self, node: str) -> int:
        """How many pods are bound to the node."""
        return len(self._on_node.get(node, ()))

    def owned_by(self, uid: str, table: tuple[str, str] | None = None) -> list[Obj]:
        """Every object (of one table) with an owner reference to that uid."""
        entries = [(t, k) for t, k in self._owned.get(uid, ()) if table in (None, t)]
        return [self._store.table(t).objects[k] for t, k in entries]

    def count_owned(self, uid: str) -> int:
        """How many objects refer to that owner."""
        return len(self._owned.get(uid, ()))

    def tables_owned_by(self, uid: str) -> list[tuple[tuple[str, str], Obj]]:
        """As ``owned_by``, with the table of each."""
        return [(t, self._store.table(t).objects[k]) for t, k in self._owned.get(uid, ())]

    def _changed(self, change: Change) -> None:
        if change.before is not None:
            self._forget(change.table, change.before)
        if change.kind != "DELETED":
            self._learn(change.table, change.obj)

    def _learn(self, table: tuple[str, str], obj: Obj) -> None:
        key = key_of(obj)
        for owner in obj["metadata"].get("ownerReferences") or ():
            self._owned[owner["uid"]][table, key] = None
        if table == _PODS and (node := dig(obj, "spec.nodeName")):
            self._on_node[node][key] = None

    def _forget(self, table: tuple[str, str], obj: Obj) -> None:
        key = key_of(obj)
        for owner in obj["metadata"].get("ownerReferences") or ():
            self._owned[owner["uid"]].pop((table, key), None)
            if not self._owned[owner["uid"]]:
                del self._owned[owner["uid"]]
        if table == _PODS and (node := dig(obj, "spec.nodeName")):
            self._on_node[node].pop(key, None)
