"""Who owns which field: ``metadata.managedFields`` and server-side apply.

In come the object before, the object or configuration after, and the manager's name; out comes the object with its ownership entries.
An apply that would change a field of another manager is refused with the real server's 409 unless it is forced.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from remediator.sim.objects import Obj, clone
from remediator.sim.patches import merge_key
from remediator.sim.status import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Manager", "apply", "own_changes"]

Path: TypeAlias = tuple[str, ...]
_MAPS = ("labels", "annotations", "data", "matchLabels", "nodeSelector")
"""Maps, as opposed to structs: an update owns the map too, an apply only what is in it."""
_SERVER = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    }
)


class Manager(NamedTuple):
    """One writer in one role; each has one entry."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


def _leaves(value: Any, path: Path, field: str) -> Iterator[tuple[Path, Any]]:
    """Every leaf below a value; a map and a list item are leaves too, beside what is in them."""
    if isinstance(value, dict) and value:
        if field in _MAPS:
            yield path, None
        for key, item in value.items():
            yield from _leaves(item, (*path, f"f:{key}"), key)
    elif isinstance(value, list) and value and (by := _keyed(field, value)):
        for item in value:
            here = (*path, f"k:{json.dumps({by: item[by]}, separators=(',', ':'))}")
            yield here, None
            yield from _leaves(item, here, "")
    elif isinstance(value, list) and field == "finalizers":
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), None
    else:
        yield path, value


def _keyed(field: str, items: list[Any]) -> str | None:
    by = merge_key(field, items)
    return by if by and all(isinstance(item, dict) and by in item for item in items) else None


def _fields(obj: Obj, *, status: bool) -> dict[Path, Any]:
    """Every leaf that a manager may own, with its value."""
    content = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    if not status:
        content.pop("status", None)
    meta = {key: value for key, value in obj.get("metadata", {}).items() if key not in _SERVER}
    if meta:
        content["metadata"] = meta
    return dict(_leaves(content, (), "")) if content else {}


def _tree(paths: set[Path]) -> Obj:
    """FieldsV1: a member that has members below it says so with a dot."""
    tree: Obj = {}
    for path in sorted(paths):
        node = tree
        for depth, part in enumerate(path):
            if part not in node and path[:depth] in paths:
                node.setdefault(".", {})
            node = node.setdefault(part, {})
    return tree


def _paths(tree: Obj, path: Path = ()) -> Iterator[Path]:
    for part, below in tree.items():
        if part == ".":
            yield path
        elif below:
            yield from _paths(below, (*path, part))
        else:
            yield (*path, part)


class _Owners:
    """The entries of one object, readable and writable."""

    def __init__(self, obj: Obj) -> None:
        self.sets: dict[Manager, set[Path]] = {}
        self.times: dict[Manager, str] = {}
        for entry in obj["metadata"].get("managedFields") or ():
            manager = Manager(entry["manager"], entry["operation"], entry.get("apiVersion", ""), entry.get("subresource", ""))
            self.sets[manager] = set(_paths(entry.get("fieldsV1") or {}))
            self.times[manager] = entry.get("time", "")

    def write(self, obj: Obj) -> None:
        entries = [self._entry(manager, paths) for manager, paths in self.sets.items() if paths]
        if entries:
            obj["metadata"]["managedFields"] = entries
        else:
            obj["metadata"].pop("managedFields", None)

    def _entry(self, manager: Manager, paths: set[Path]) -> Obj:
        entry: Obj = {"manager": manager.name, "operation": manager.operation, "apiVersion": manager.api_version}
        entry["time"] = self.times.get(manager, "")
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": _tree(paths)}
        if manager.subresource:
            entry["subresource"] = manager.subresource
        return entry


def own_changes(before: Obj | None, after: Obj, manager: Manager, now: str) -> None:
    """Give the fields that differ to ``manager`` and take them from everybody else; for every write but apply."""
    status = manager.subresource == "status" or before is None
    old = _fields(before, status=status) if before else {}
    new = _fields(after, status=status)
    owners = _Owners(before or {"metadata": {}})
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    removed = old.keys() - new.keys()
    if changed or removed:
        for paths in owners.sets.values():
            paths.difference_update(changed, removed)
        if changed:
            owners.sets.setdefault(manager, set()).update(changed)
            owners.times[manager] = now
    owners.write(after)


def apply(current: Obj | None, config: Obj, manager: Manager, now: str, *, force: bool) -> Obj:
    """The object after a server-side apply of ``config``. Raises ApiError 409 FieldManagerConflict."""
    status = manager.subresource == "status" or current is None
    wanted = {path: value for path, value in _fields(config, status=status).items() if not _is_filled_map(config, path)}
    result: Obj = clone(current) if current else {"metadata": {}}
    owners = _Owners(result)
    present = _fields(result, status=True)
    clashes = _clashes(owners, manager, wanted, present)
    if clashes and not force:
        raise _apply_conflict(clashes)
    for other, paths in clashes.items():
        owners.sets[other] -= paths
    given_up = owners.sets.get(manager, set()) - wanted.keys()
    kept = {path for other, paths in owners.sets.items() if other != manager for path in paths}
    content = {key: value for key, value in config.items() if key != "metadata" and (status or key != "status")}
    meta = {key: value for key, value in config.get("metadata", {}).items() if key not in _SERVER}
    result = _merge(result, {**content, **({"metadata": meta} if meta else {})}, "")
    for path in sorted(given_up - kept, key=len):
        if not any(other[: len(path)] == path for other in kept | wanted.keys()):
            _drop(result, path)
    if owners.sets.get(manager) != wanted.keys():
        owners.times[manager] = now
    owners.sets[manager] = set(wanted)
    owners.write(result)
    return result


def _is_filled_map(config: Obj, path: Path) -> bool:
    """An apply owns what is in a map, not the map."""
    return path[-1].startswith("f:") and path[-1][2:] in _MAPS and bool(_at(config, path))


def _at(value: Any, path: Path) -> Any:
    for part in path:
        if part.startswith("f:"):
            value = value.get(part[2:]) if isinstance(value, dict) else None
        else:
            wanted = json.loads(part[2:])
            value = next((item for item in value or () if isinstance(item, dict) and wanted.items() <= item.items()), None)
    return value


def _clashes(owners: _Owners, manager: Manager, wanted: dict[Path, Any], present: dict[Path, Any]) -> dict[Manager, set[Path]]:
    differing = {path for path, value in wanted.items() if path in present and present[path] != value}
    found = {other: paths & differing for other, paths in owners.sets.items() if other != manager}
    return {other: paths for other, paths in found.items() if paths}


def _merge(target: Any, config: Any, field: str) -> Any:
    if isinstance(config, dict):
        base = target if isinstance(target, dict) else {}
        return {**base, **{key: _merge(base.get(key), value, key) for key, value in config.items()}}
    if isinstance(config, list) and isinstance(target, list):
        if field == "finalizers":
            return [*target, *(item for item in config if item not in target)]
        if [*target, *config] and (by := _keyed(field, [*target, *config])):
            return _merge_lists(target, config, by)
    return clone(config)


def _merge_lists(target: list[Any], config: list[Any], by: str) -> list[Any]:
    wanted = {item[by]: item for item in config}
    merged = [_merge(item, wanted.pop(item[by]), "") if item[by] in wanted else item for item in target]
    return [*merged, *(clone(item) for item in config if item[by] in wanted)]


def _drop(obj: Any, path: Path) -> None:
    """Remove one leaf, and the list item itself where its membership (``.``) is given up."""
    head, rest = path[0], path[1:]
    if head.startswith("f:") and isinstance(obj, dict):
        key = head[2:]
        if not rest:
            obj.pop(key, None)
        elif key in obj:
            _drop_below(obj, key, rest)


def _drop_below(obj: Obj, key: str, rest: Path) -> None:
    items = obj[key]
    if not isinstance(items, list):
        _drop(items, rest)
        if items == {}:
            del obj[key]
        return
    value = json.loads(rest[0][2:])
    if rest[0].startswith("v:"):
        obj[key] = [item for item in items if item != value]
    elif not rest[1:]:
        obj[key] = [item for item in items if not value.items() <= item.items()]
    else:
        for item in items:
            if value.items() <= item.items():
                _drop(item, rest[1:])


def _apply_conflict(clashes: dict[Manager, set[Path]]) -> ApiError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{m.name}" using {m.api_version}', "field": _dotted(path)}
        for m, paths in clashes.items()
        for path in sorted(paths)
    ]
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = "\n".join(
            f'conflicts with "{m.name}" using {m.api_version}:\n' + "\n".join(f"- {_dotted(p)}" for p in sorted(paths))
            for m, paths in clashes.items()
        )
        text = f"Apply failed with {len(causes)} conflicts: {lines}"
    return ApiError(409, "Conflict", text, {"causes": causes})


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        if part.startswith("f:"):
            text += f".{part[2:]}"
        elif part.startswith("k:"):
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(part[2:]).items()) + "]"
        elif part.startswith("v:"):
            text += f"[={part[2:]}]"
    return text
