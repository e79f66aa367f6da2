"""The objects of the simulated cluster, their versions and the log of what happened to them.

In come whole objects; out come stored ones with uid, resourceVersion and creationTimestamp, and one ``Change`` a write to everybody
who subscribed. A version that the bounded log no longer covers is refused with ``TooOldError``. Stored objects are never altered in place.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from remediator.sim.objects import clone, encode, key_of, labels_of, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from remediator.clock import Clock
    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj

__all__ = ["Change", "Store", "Table", "TooOldError"]

Key: TypeAlias = tuple[str, str]
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_FIRST_VERSION = 300


class TooOldError(Exception):
    """The log no longer reaches back to that version; ``oldest`` is the first that it covers."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")
        self.asked = asked
        self.oldest = oldest


class Change(NamedTuple):
    """One write."""

    version: int
    kind: Literal["ADDED", "MODIFIED", "DELETED"]
    table: tuple[str, str]
    obj: Obj
    """For DELETED: the last state, with the version of the deletion."""
    before: Obj | None


class Table:
    """All objects of one resource, and the recent changes to them."""

    def __init__(self, name: tuple[str, str], born: int, history: int) -> None:
        self.name = name
        self.objects: dict[Key, Obj] = {}
        self.history: deque[Change] = deque(maxlen=history)
        self.oldest = born
        """Every change with a greater version is still in the log."""
        self._encoded: dict[Key, tuple[str, bytes]] = {}
        self._sorted: list[Key] | None = None
        self._labelled: dict[str, defaultdict[str, set[Key]]] = {}
        """By label and value, for those labels that were asked for."""

    def ordered(self) -> list[Key]:
        """All keys in the order in which a list shows them."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted

    def labelled(self, label: str, value: str) -> list[Key]:
        """The keys of what has that label, in order, without a look at all others."""
        if label not in self._labelled:
            known = self._labelled[label] = defaultdict(set)
            for key, obj in self.objects.items():
                known[labels_of(obj).get(label, "")].add(key)
        return sorted(self._labelled[label].get(value, ()))

    def encoded(self, obj: Obj) -> bytes:
        """The JSON of a stored object as an item of a list, without apiVersion and kind; encoded once a version."""
        key, version = key_of(obj), obj["metadata"]["resourceVersion"]
        kept = self._encoded.get(key)
        if kept is None or kept[0] != version:
            item = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}
            kept = self._encoded[key] = (version, encode(item))
        return kept[1]

    def record(self, change: Change) -> None:
        """Apply a change and remember it."""
        key = key_of(change.obj)
        for label, known in self._labelled.items():
            if change.before is not None:
                known[labels_of(change.before).get(label, "")].discard(key)
            if change.kind != "DELETED":
                known[labels_of(change.obj).get(label, "")].add(key)
        if change.kind == "DELETED":
            self.objects.pop(key, None)
            self._encoded.pop(key, None)
        else:
            self.objects[key] = change.obj
        if change.kind != "MODIFIED":
            self._sorted = None
        if self.history.maxlen and len(self.history) == self.history.maxlen:
            self.oldest = self.history[0].version
        self.history.append(change)

    def since(self, version: int) -> list[Change]:
        """Every change after ``version``. Raises TooOldError."""
        if version < self.oldest:
            raise TooOldError(version, self.oldest)
        return [change for change in self.history if change.version > version]

    def at(self, version: int) -> dict[Key, Obj]:
        """The table as it was at ``version``, by taking back what came after; its own objects if nothing did. Raises TooOldError."""
        later = self.since(version)
        if not later:
            return self.objects
        objects = dict(self.objects)
        for change in reversed(later):
            if change.before is None:
                objects.pop(key_of(change.obj), None)
            else:
                objects[key_of(change.obj)] = change.before
        return objects


class Store:
    """Everything that is in the cluster."""

    def __init__(self, clock: Clock, *, seed: int = 0, history: int = 2000) -> None:
        self.clock = clock
        self._seed = seed
        self._drawn = 0
        self.version = _FIRST_VERSION
        self._history = history
        self._tables: dict[tuple[str, str], Table] = {}
        self._subscribers: dict[tuple[str, str] | None, list[Callable[[Change], None]]] = {}

    def table(self, resource: Resource | tuple[str, str]) -> Table:
        """The table of a resource, made when first asked for."""
        name = resource if isinstance(resource, tuple) else resource.table
        if name not in self._tables:
            self._tables[name] = Table(name, self.version, self._history)
        return self._tables[name]

    def tables(self) -> Iterable[Table]:
        """Every table that was ever used."""
        return tuple(self._tables.values())

    def get(self, resource: Resource | tuple[str, str], name: str, namespace: str = "") -> Obj | None:
        """The stored object, not to be altered."""
        return self.table(resource).objects.get((namespace, name))

    def list(self, resource: Resource | tuple[str, str], namespace: str = "") -> list[Obj]:
        """The stored objects of one namespace, or all, in order."""
        table = self.table(resource)
        return [table.objects[key] for key in table.ordered() if not namespace or key[0] == namespace]

    def subscribe(self, hook: Callable[[Change], None], table: tuple[str, str] | None = None) -> Callable[[], None]:
        """Call ``hook`` after every write (to one table, or any), within the write. Returns how to stop it."""
        hooks = self._subscribers.setdefault(table, [])
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def new_uid(self) -> str:
        """A version 4 UUID that follows from the seed and from what was drawn before."""
        return str(uuid.UUID(bytes=self._draw()[:16], version=4))

    def new_name(self, prefix: str, length: int = 5) -> str:
        """``prefix`` and letters drawn in the same way, as generateName makes it."""
        return prefix + "".join(_NAME_LETTERS[byte % len(_NAME_LETTERS)] for byte in self._draw()[:length])

    def _draw(self) -> bytes:
        self._drawn += 1
        return hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).digest()

    def stamp(self, obj: Obj) -> None:
        """Give a new object what only the server may give it."""
        meta = obj["metadata"]
        meta["uid"] = self.new_uid()
        meta["creationTimestamp"] = rfc3339(self.clock.now())

    def add(self, resource: Resource, obj: Obj) -> Obj:
        """Store a new object; uid and creation time are set if absent. The caller has checked that the name is free."""
        if "uid" not in obj["metadata"]:
            self.stamp(obj)
        if resource.counts_generation:
            obj["metadata"].setdefault("generation", 1)
        obj.setdefault("apiVersion", resource.api_version())
        obj.setdefault("kind", resource.kind)
        return self._write("ADDED", resource, obj, None)

    def replace(self, resource: Resource, obj: Obj) -> Obj:
        """Store a changed clone. Nothing is written if it equals what is there; a changed spec raises the generation."""
        before = self.table(resource).objects[key_of(obj)]
        if obj == before:
            return before
        if resource.counts_generation and _desired(resource, obj) != _desired(resource, before):
            obj["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        return self._write("MODIFIED", resource, obj, before)

    def edit(self, resource: Resource, obj: Obj) -> Obj:
        """A clone of the newest stored state of ``obj``, to be altered and handed to ``replace``."""
        copy: Obj = clone(self.table(resource).objects[key_of(obj)])
        return copy

    def remove(self, resource: Resource, obj: Obj) -> Obj:
        """Take an object away; answers its last state."""
        before = self.table(resource).objects[key_of(obj)]
        return self._write("DELETED", resource, clone(before), before)

    def _write(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], resource: Resource, obj: Obj, before: Obj | None) -> Obj:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        table = self.table(resource)
        change = Change(self.version, kind, table.name, obj, before)
        table.record(change)
        for hook in (*self._subscribers.get(table.name, ()), *self._subscribers.get(None, ())):
            hook(change)
        return obj


def _desired(resource: Resource, obj: Obj) -> Obj:
    """What raises the generation when it changes."""
    ignored = ("metadata", "status") if resource.has_status else ("metadata",)
    return {key: value for key, value in obj.items() if key not in ignored}
