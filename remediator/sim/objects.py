"""Small helpers over Kubernetes objects as plain dicts: in come dicts, out come values, copies and times as the API writes them.

Objects in the store are never altered in place: whoever wants to change one works on a ``clone``. Nothing here is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

__all__ = [
    "Obj",
    "clone",
    "condition",
    "controller_of",
    "dig",
    "encode",
    "is_ready",
    "key_of",
    "labels_of",
    "matches_selector",
    "micro_time",
    "name_of",
    "namespace_of",
    "owner_reference",
    "parse_rfc3339",
    "rfc3339",
    "set_condition",
    "tolerates",
]

Obj: TypeAlias = dict[str, Any]

_encoder = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """Compact JSON, UTF-8."""
    return _encoder.encode(value)


def clone(value: Any) -> Any:
    """A deep copy of JSON data, in which dicts and lists are just that; much faster than ``copy.deepcopy``."""
    if type(value) is not dict and type(value) is not list:
        return value
    copy = value.copy()
    for key, item in value.items() if type(value) is dict else enumerate(value):
        if type(item) is dict or type(item) is list:
            copy[key] = clone(item)
    return copy


def dig(obj: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path of dict keys, ``default`` where anything on the way is absent."""
    for part in path.split("."):
        if not isinstance(obj, dict) or part not in obj:
            return default
        obj = obj[part]
    return obj


def name_of(obj: Obj) -> str:
    """``metadata.name``."""
    return str(obj["metadata"].get("name", ""))


def namespace_of(obj: Obj) -> str:
    """``metadata.namespace``, empty for cluster-scoped objects."""
    return str(obj["metadata"].get("namespace", ""))


def key_of(obj: Obj) -> tuple[str, str]:
    """Namespace and name: the key of an object within its resource."""
    return namespace_of(obj), name_of(obj)


def labels_of(obj: Obj) -> dict[str, str]:
    """``metadata.labels``, empty if there are none."""
    return obj["metadata"].get("labels") or {}


def rfc3339(moment: datetime) -> str:
    """``metav1.Time``: UTC, whole seconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(moment: datetime) -> str:
    """``metav1.MicroTime``: UTC, always six digits of fraction, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> datetime:
    """A time that the API or a test wrote. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone(UTC)


def condition(obj: Obj, kind: str) -> Obj | None:
    """The status condition of that type."""
    found: Obj | None = next((c for c in dig(obj, "status.conditions") or () if c.get("type") == kind), None)
    return found


def is_ready(obj: Obj) -> bool:
    """Whether the condition Ready is True."""
    found = condition(obj, "Ready")
    return found is not None and found.get("status") == "True"


def set_condition(obj: Obj, kind: str, status: str, at: datetime, **fields: Any) -> None:
    """Write a condition into a clone; ``lastTransitionTime`` moves only when the status does."""
    conditions = obj.setdefault("status", {}).setdefault("conditions", [])
    found = next((c for c in conditions if c.get("type") == kind), None)
    if found is None:
        found = {"type": kind}
        conditions.append(found)
    if found.get("status") != status:
        found["status"] = status
        found["lastTransitionTime"] = rfc3339(at)
    found.update(fields)


def owner_reference(owner: Obj) -> Obj:
    """The controller reference that a dependent of ``owner`` carries."""
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Obj) -> Obj | None:
    """The owner reference with ``controller: true``."""
    found: Obj | None = next((r for r in obj["metadata"].get("ownerReferences") or () if r.get("controller")), None)
    return found


def matches_selector(selector: Obj | None, labels: dict[str, str]) -> bool:
    """A ``metav1.LabelSelector`` against labels. None matches nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression_holds(e, labels) for e in selector.get("matchExpressions") or ())


def _expression_holds(expression: Obj, labels: dict[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    present = key in labels
    return present if operator == "Exists" else not present


def tolerates(pod: Obj, taint: Obj) -> bool:
    """Whether a pod's tolerations let it onto (or stay on) a node with that taint."""
    return any(_tolerates(t, taint) for t in dig(pod, "spec.tolerations") or ())


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key") and (toleration.get("value") or "") == (taint.get("value") or ""))
