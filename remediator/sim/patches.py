"""The patch types of the API, as pure functions: object and patch in, changed copy out.

JSON patch follows the library of the real server (``replace`` sets an absent key; a failed ``test`` is 422), merge patch RFC 7386,
strategic merge patch the merge keys of the built-in lists. What does not apply is refused with an ``ApiError``.
"""

from __future__ import annotations

from typing import Any

from remediator.sim.objects import Obj, clone
from remediator.sim.status import ApiError, bad_request, patch_rejected

__all__ = ["MERGE_KEYS", "json_patch", "merge_key", "merge_patch", "strategic_patch"]

MERGE_KEYS = {
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "podIPs": "ip",
    "secrets": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_SETS = ("finalizers",)
_ORDER, _DELETE, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def merge_key(field: str, items: list[Any]) -> str | None:
    """The key by which a built-in list merges; None where it is replaced as a whole (``spec.taints``, tolerations, ...)."""
    if field == "ports":
        return "containerPort" if any(isinstance(i, dict) and "containerPort" in i for i in items) else "port"
    return MERGE_KEYS.get(field)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


# --- strategic merge -------------------------------------------------------------------------------------------------


def strategic_patch(target: Any, patch: Any) -> Any:
    """A strategic merge patch with its directives, for built-in kinds."""
    if not isinstance(patch, dict):
        return clone(patch)
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: clone(value) for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith(_ORDER) and key.removeprefix(_ORDER) not in patch:
            name = key.removeprefix(_ORDER)
            result[name] = _ordered(list(result.get(name) or ()), value, merge_key(name, value))
        elif not key.startswith("$"):
            _strategic_key(result, key, value, patch.get(_ORDER + key))
    if _RETAIN in patch:
        result = {key: value for key, value in result.items() if key in patch[_RETAIN]}
    return result


def _strategic_key(result: Obj, key: str, value: Any, order: list[Any] | None) -> None:
    if value is None:
        result.pop(key, None)
    elif isinstance(value, list) and key in _SETS:
        present = result.get(key) or []
        result[key] = _ordered([*(item for item in value if item not in present), *present], order, None)
    elif isinstance(value, list) and isinstance(present := result.get(key) or [], list) and (by := merge_key(key, [*present, *value])):
        result[key] = _ordered(_merge_items(present, value, by), order, by)
    else:
        result[key] = strategic_patch(result.get(key), value)


def _merge_items(target: list[Any], patch: list[Any], by: str) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [clone(item) for item in patch if not (isinstance(item, dict) and item.get("$patch") == "replace")]
    merged = list(target)
    added: list[Any] = []
    for item in patch:
        if not isinstance(item, dict) or by not in item:
            raise ApiError(500, "", f"map: {_go(item)} does not contain declared merge key: {by}")
        position = next((i for i, old in enumerate(merged) if isinstance(old, dict) and old.get(by) == item[by]), None)
        if item.get("$patch") == "delete":
            merged = [old for old in merged if old.get(by) != item[by]]
        elif position is None:
            added.append(strategic_patch({}, item))
        else:
            merged[position] = strategic_patch(merged[position], item)
    return [*added, *merged]


def _go(value: Any) -> str:
    """As Go prints it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go(item)}' for key, item in sorted(value.items()))}]"
    return str(value)


def _ordered(items: list[Any], order: list[Any] | None, by: str | None) -> list[Any]:
    if not order:
        return items
    wanted = [item.get(by) if by and isinstance(item, dict) else item for item in order]

    def place(item: Any) -> int:
        value = item.get(by) if by else item
        return wanted.index(value) if value in wanted else len(wanted)

    return sorted(items, key=place)


# --- JSON patch ------------------------------------------------------------------------------------------------------


def json_patch(target: Obj, operations: list[Any]) -> Obj:
    """RFC 6902 on a copy. Raises ApiError 422 if any operation does not apply; then nothing has."""
    document: Any = clone(target)
    for operation in operations:
        if not isinstance(operation, dict):
            raise bad_request("error decoding patch: json: cannot unmarshal value into Go value of type handlers.jsonPatchOp")
        document = _apply(document, operation)
    if not isinstance(document, dict):
        raise patch_rejected()
    return document


def _apply(document: Any, operation: Obj) -> Any:
    op, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise patch_rejected()
    if op in ("add", "replace", "test"):
        return {"add": _add, "replace": _replace, "test": _test}[op](document, path, operation.get("value"))
    if op == "remove":
        return _remove(document, path)
    if op in ("move", "copy") and isinstance(operation.get("from"), str):
        value = clone(_read(document, operation["from"]))
        if op == "move":
            document = _remove(document, operation["from"])
        return _add(document, path, value)
    raise patch_rejected()


def _pointer(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise patch_rejected()
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _read(document: Any, path: str) -> Any:
    for part in _pointer(path):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(document, part)]
        else:
            raise patch_rejected()
    return document


def _parent(document: Any, path: str) -> tuple[Any, str]:
    parts = _pointer(path)
    if not parts:
        raise patch_rejected()
    head = path.rsplit("/", 1)[0]
    parent = _read(document, head)
    if not isinstance(parent, dict | list):
        raise patch_rejected()
    return parent, parts[-1]


def _index(items: list[Any], part: str, *, end: bool = False) -> int:
    try:
        index = int(part)
    except ValueError:
        raise patch_rejected() from None
    length = len(items) + (1 if end else 0)
    if index < -length or index >= length:
        raise patch_rejected()
    return index if index >= 0 else index + length


def _add(document: Any, path: str, value: Any) -> Any:
    if path == "":
        return clone(value)
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        parent[last] = clone(value)
    elif last == "-":
        parent.append(clone(value))
    else:
        parent.insert(_index(parent, last, end=True), clone(value))
    return document


def _replace(document: Any, path: str, value: Any) -> Any:
    if path == "":
        return clone(value)
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        parent[last] = clone(value)
    else:
        parent[_index(parent, last)] = clone(value)
    return document


def _remove(document: Any, path: str) -> Any:
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        if last not in parent:
            raise patch_rejected()
        del parent[last]
    else:
        del parent[_index(parent, last)]
    return document


def _test(document: Any, path: str, value: Any) -> Any:
    if path == "":
        found = document
    else:
        parent, last = _parent(document, path)
        found = parent.get(last) if isinstance(parent, dict) else parent[_index(parent, last)]
    if not _same(found, value):
        raise patch_rejected()
    return document


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
