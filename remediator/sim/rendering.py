"""Answers as bytes: lists, single objects, and the Table form that kubectl asks for.

In come stored objects and the Accept header; out comes JSON. Nothing is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.sim.convert import outward
from remediator.sim.objects import Obj, condition, dig, encode, labels_of, name_of, parse_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remediator.sim.kinds import Resource
    from remediator.sim.reading import Page
    from remediator.sim.store import Table

__all__ = ["list_bytes", "object_bytes", "wants", "watch_object"]

_ROLE = "node-role.kubernetes.io/"


def wants(accept: str) -> str:
    """``Table``, ``PartialObjectMetadata`` or empty for the plain object; the first alternative that we can serve counts."""
    for part in accept.split(","):
        parameters = dict(p.strip().partition("=")[::2] for p in part.split(";")[1:])
        form = parameters.get("as", "")
        if form == "Table":
            return form
        if form.startswith("PartialObjectMetadata"):
            return "PartialObjectMetadata"
        if not form and part.strip().startswith(("application/json", "*/*")):
            return ""
    return ""


def _list_meta(page: Page) -> Obj:
    meta: Obj = {"resourceVersion": page.version}
    if page.token:
        meta["continue"] = page.token
        if page.remaining is not None:
            meta["remainingItemCount"] = page.remaining
    return meta


def list_bytes(resource: Resource, page: Page, table: Table, form: str, now: datetime) -> bytes:
    """A list in the asked-for form."""
    if form == "Table":
        return encode(_table(resource, page.items, _list_meta(page), now))
    if form:
        items = [_partial(outward(resource, obj)) for obj in page.items]
        return encode({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": _list_meta(page), "items": items})
    head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version(), "metadata": _list_meta(page)}
    if resource.custom or resource.shared_with:
        return encode({**head, "items": [outward(resource, obj) for obj in page.items]})
    return b"%s,%s%s]}" % (encode(head)[:-1], b'"items":[', b",".join(map(table.encoded, page.items)))


def object_bytes(resource: Resource, obj: Obj, form: str, now: datetime) -> bytes:
    """One object in the asked-for form; a Status stays as it is."""
    if obj.get("kind") == "Status" or not form:
        return encode(obj)
    if form == "Table":
        return encode(_table(resource, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")}, now))
    return encode(_partial(obj))


def watch_object(resource: Resource, obj: Obj, form: str, now: datetime, *, first: bool) -> Obj:
    """The object of a watch event in the asked-for form; only the first Table of a watch defines its columns."""
    shown = outward(resource, obj)
    if form == "Table":
        table = _table(resource, [shown], {"resourceVersion": obj["metadata"]["resourceVersion"]}, now)
        return table if first else {**table, "columnDefinitions": None}
    return _partial(shown) if form else shown


def _partial(obj: Obj) -> Obj:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _table(resource: Resource, items: list[Obj], meta: Obj, now: datetime) -> Obj:
    columns = _COLUMNS.get(resource.kind, _DEFAULT)
    definitions = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "", "priority": priority}
        for name, priority, _ in columns
    ]
    rows = [{"cells": [cell(obj, now) for _, _, cell in columns], "object": _partial(obj)} for obj in items]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": definitions, "rows": rows}


def _age(obj: Obj, now: datetime) -> str:
    created = obj["metadata"].get("creationTimestamp")
    return _human((now - parse_rfc3339(created)).total_seconds()) if created else "<unknown>"


def _human(seconds: float) -> str:
    """As kubectl shortens a duration."""
    left = max(0, int(seconds))
    minutes, hours, days = left // 60, left // 3600, left // 86400
    if left < 120:
        return f"{left}s"
    if minutes < 10:
        return f"{minutes}m{left % 60}s" if left % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"


def _at(path: str, default: Any = 0) -> Callable[[Obj, datetime], str]:
    return lambda obj, _now: str(dig(obj, path, default))


def _node_status(obj: Obj, _now: datetime) -> str:
    ready = condition(obj, "Ready")
    text = {"True": "Ready", None: "Unknown"}.get(ready["status"] if ready else None, "NotReady")
    return f"{text},SchedulingDisabled" if dig(obj, "spec.unschedulable") else text


def _roles(obj: Obj, _now: datetime) -> str:
    return ",".join(sorted(k.removeprefix(_ROLE) for k in labels_of(obj) if k.startswith(_ROLE))) or "<none>"


def _internal_ip(obj: Obj, _now: datetime) -> str:
    addresses = dig(obj, "status.addresses") or ()
    return next((a["address"] for a in addresses if a.get("type") == "InternalIP"), "<none>")


def _pod_ready(obj: Obj, _now: datetime) -> str:
    statuses = dig(obj, "status.containerStatuses") or []
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(dig(obj, 'spec.containers') or ())}"


def _pod_status(obj: Obj, _now: datetime) -> str:
    if "deletionTimestamp" in obj["metadata"]:
        return "Terminating"
    for container in dig(obj, "status.containerStatuses") or ():
        reason = dig(container, "state.waiting.reason") or dig(container, "state.terminated.reason")
        if reason:
            return str(reason)
    return str(dig(obj, "status.phase", "Unknown"))


def _restarts(obj: Obj, _now: datetime) -> str:
    return str(sum(s.get("restartCount", 0) for s in dig(obj, "status.containerStatuses") or ()))


def _ready_replicas(obj: Obj, _now: datetime) -> str:
    return f"{dig(obj, 'status.readyReplicas', 0)}/{dig(obj, 'spec.replicas', 0)}"


def _node_selector(obj: Obj, _now: datetime) -> str:
    wanted = dig(obj, "spec.template.spec.nodeSelector") or {}
    return ",".join(f"{k}={v}" for k, v in wanted.items()) or "<none>"


def _name(obj: Obj, _now: datetime) -> str:
    return name_of(obj)


_DEFAULT: list[tuple[str, int, Callable[[Obj, datetime], str]]] = [("Name", 0, _name), ("Age", 0, _age)]
_COLUMNS: dict[str, list[tuple[str, int, Callable[[Obj, datetime], str]]]] = {
    "Node": [
        ("Name", 0, _name),
        ("Status", 0, _node_status),
        ("Roles", 0, _roles),
        ("Age", 0, _age),
        ("Version", 0, _at("status.nodeInfo.kubeletVersion", "")),
        ("Internal-IP", 1, _internal_ip),
    ],
    "Pod": [
        ("Name", 0, _name),
        ("Ready", 0, _pod_ready),
        ("Status", 0, _pod_status),
        ("Restarts", 0, _restarts),
        ("Age", 0, _age),
        ("IP", 1, _at("status.podIP", "<none>")),
        ("Node", 1, _at("spec.nodeName", "<none>")),
    ],
    "DaemonSet": [
        ("Name", 0, _name),
        ("Desired", 0, _at("status.desiredNumberScheduled")),
        ("Current", 0, _at("status.currentNumberScheduled")),
        ("Ready", 0, _at("status.numberReady")),
        ("Up-to-date", 0, _at("status.updatedNumberScheduled")),
        ("Available", 0, _at("status.numberAvailable")),
        ("Node Selector", 0, _node_selector),
        ("Age", 0, _age),
    ],
    "Deployment": [
        ("Name", 0, _name),
        ("Ready", 0, _ready_replicas),
        ("Up-to-date", 0, _at("status.updatedReplicas")),
        ("Available", 0, _at("status.availableReplicas")),
        ("Age", 0, _age),
    ],
    "StatefulSet": [("Name", 0, _name), ("Ready", 0, _ready_replicas), ("Age", 0, _age)],
    "ReplicaSet": [
        ("Name", 0, _name),
        ("Desired", 0, _at("spec.replicas")),
        ("Current", 0, _at("status.replicas")),
        ("Ready", 0, _at("status.readyReplicas")),
        ("Age", 0, _age),
    ],
    "Namespace": [("Name", 0, _name), ("Status", 0, _at("status.phase", "")), ("Age", 0, _age)],
    "Lease": [("Name", 0, _name), ("Holder", 0, _at("spec.holderIdentity", "")), ("Age", 0, _age)],
    "Event": [
        ("Last Seen", 0, _age),
        ("Type", 0, _at("type", "")),
        ("Reason", 0, _at("reason", "")),
        ("Object", 0, lambda obj, _now: f"{dig(obj, 'involvedObject.kind', '').lower()}/{dig(obj, 'involvedObject.name', '')}"),
        ("Message", 0, _at("message", "")),
    ],
    "PodDisruptionBudget": [
        ("Name", 0, _name),
        ("Min Available", 0, _at("spec.minAvailable", "N/A")),
        ("Max Unavailable", 0, _at("spec.maxUnavailable", "N/A")),
        ("Allowed Disruptions", 0, _at("status.disruptionsAllowed")),
        ("Age", 0, _age),
    ],
}
