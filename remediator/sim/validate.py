"""What the simulated API refuses in an object, with the causes that the real server gives.

In comes an object as a client sent it; out comes nothing, or an ``ApiError``: 400 for wrong types, 422 for wrong values. It covers
metadata and the fields that this program and its tests write, not the whole of the Kubernetes schema.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remediator.sim.objects import dig
from remediator.sim.status import Cause, bad_request, invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj

__all__ = ["check_meta", "check_object", "check_types", "type_fault"]

_LABEL1123 = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL1123}(\.{_LABEL1123})*"
_KEY_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = rf"({_KEY_NAME})?"
_NAME_RULES = {
    "subdomain": (
        _SUBDOMAIN,
        253,
        (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with "
            f"an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
        ),
    ),
    "label": (
        _LABEL1123,
        63,
        (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
            f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL1123}')"
        ),
    ),
}
_KEY_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_KEY_NAME}')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    f"alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '{_VALUE}')"
)
_MICRO_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)"
_STRINGS = ("metadata.labels", "metadata.annotations")
_TYPES: dict[str, dict[str, type]] = {
    "Node": {"spec.unschedulable": bool, "spec.taints": list, "status.conditions": list},
    "Pod": {"spec.nodeName": str, "spec.containers": list, "spec.terminationGracePeriodSeconds": int, "status.phase": str},
    "ConfigMap": {"data": dict},
    "Lease": {"spec.holderIdentity": str, "spec.leaseDurationSeconds": int, "spec.leaseTransitions": int},
    "DaemonSet": {"spec.template": dict, "spec.selector": dict},
    "Deployment": {"spec.template": dict, "spec.selector": dict, "spec.replicas": int, "spec.paused": bool},
    "ReplicaSet": {"spec.template": dict, "spec.selector": dict, "spec.replicas": int},
    "StatefulSet": {"spec.template": dict, "spec.selector": dict, "spec.replicas": int},
    "Job": {"spec.template": dict, "spec.backoffLimit": int, "spec.activeDeadlineSeconds": int, "spec.ttlSecondsAfterFinished": int},
    "CiliumNode": {"spec": dict, "spec.addresses": list, "spec.bootid": str},
    "CiliumEndpoint": {"status": dict, "status.networking": dict, "status.state": str},
}
_GO = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object", type(None): "null"}
_OPENAPI = {bool: "boolean", str: "string", int: "integer", float: "number", list: "array", dict: "object"}


def type_fault(resource: Resource, obj: Obj) -> str | None:
    """Where a value has the wrong JSON type, in Go's words; None if none has. Null stands for absent everywhere."""
    meta = obj.get("metadata")
    if meta is not None and not isinstance(meta, dict):
        return f"json: cannot unmarshal {_GO[type(meta)]} into Go struct field {resource.kind}.metadata of type v1.ObjectMeta"
    for path in (*_STRINGS, *(("data",) if resource.kind == "ConfigMap" else ())):
        wrong = _not_strings(dig(obj, path))
        if wrong:
            owner = "ObjectMeta" if path.startswith("metadata") else resource.kind
            return f"json: cannot unmarshal {wrong} into Go struct field {owner}.{path} of type string"
    if not resource.custom:
        for path, wanted in _TYPES.get(resource.kind, {}).items():
            value = dig(obj, path)
            if not _is_a(value, wanted):
                return f"json: cannot unmarshal {_GO[type(value)]} into Go struct field {resource.kind}.{path} of type {_GO[wanted]}"
    return _time_fault(resource, obj)


def _is_a(value: Any, wanted: type) -> bool:
    return value is None or (isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)))


def _not_strings(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        return _GO[type(value)]
    return next((_GO[type(item)] for item in value.values() if not isinstance(item, str | None)), None)


def _time_fault(resource: Resource, obj: Obj) -> str | None:
    fields = {"Lease": ("spec.renewTime", "spec.acquireTime"), "Event": ("eventTime",)}.get(resource.kind, ())
    for path in fields:
        value = dig(obj, path)
        if value is not None and not (isinstance(value, str) and re.fullmatch(_MICRO_TIME, value)):
            return f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse {_unparsed(str(value))}'
    return None


def _unparsed(value: str) -> str:
    """What Go could not read any more, and what it expected there."""
    if seconds := re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value):
        return f'"{value[seconds.end() :]}" as ".000000"'
    if day := re.match(r"\d{4}-\d\d-\d\d", value):
        return f'"{value[day.end() :]}" as "T"'
    return f'"{value}" as "2006"'


def check_types(resource: Resource, obj: Obj) -> None:
    """400 for the first value of a wrong type, as a create or update answers."""
    fault = type_fault(resource, obj)
    if fault:
        message = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {fault}'
        raise bad_request(message)


def check_meta(resource: Resource, obj: Obj) -> None:
    """422 for a bad name, label or annotation."""
    causes = [*_name_causes(resource, obj["metadata"]), *_label_causes(obj["metadata"]), *_finalizer_causes(obj["metadata"])]
    if causes:
        raise invalid(resource, str(obj["metadata"].get("name", "")), causes)


def _name_causes(resource: Resource, meta: Obj) -> Iterator[Cause]:
    name, prefix = meta.get("name", ""), meta.get("generateName", "")
    pattern, longest, why = _NAME_RULES[resource.name_rule]
    masked = prefix[:-2] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix
    if prefix and not re.fullmatch(pattern, masked):
        yield Cause.bad_value("metadata.generateName", prefix, why)
    if not name:
        yield Cause.required("metadata.name", "name or generateName is required")
        return
    if len(name) > longest:
        yield Cause.bad_value("metadata.name", name, f"must be no more than {longest} characters")
    if not re.fullmatch(pattern, name):
        yield Cause.bad_value("metadata.name", name, why)


def _label_causes(meta: Obj) -> Iterator[Cause]:
    for key, value in (meta.get("labels") or {}).items():
        yield from _key_causes("metadata.labels", key)
        if len(value or "") > 63:
            yield Cause.bad_value("metadata.labels", value, "must be no more than 63 bytes")
        elif not re.fullmatch(_VALUE, value or ""):
            yield Cause.bad_value("metadata.labels", value, _VALUE_TEXT)
    for key in meta.get("annotations") or {}:
        yield from _key_causes("metadata.annotations", key.lower())


def _finalizer_causes(meta: Obj) -> Iterator[Cause]:
    for number, name in enumerate(meta.get("finalizers") or ()):
        if "/" not in name and name not in ("orphan", "foregroundDeletion", "kubernetes"):
            why = "name is neither a standard finalizer name nor is it fully qualified"
            yield Cause.bad_value(f"metadata.finalizers[{number}]", name, why)


def _key_causes(field: str, key: str) -> Iterator[Cause]:
    prefix, _, name = key.rpartition("/")
    if "/" in key and not prefix:
        yield Cause.bad_value(field, key, "prefix part must be non-empty")
    elif "/" in key and not re.fullmatch(_SUBDOMAIN, prefix):
        yield Cause.bad_value(field, key, f"prefix part {_NAME_RULES['subdomain'][2]}")
    if not re.fullmatch(_KEY_NAME, name):
        yield Cause.bad_value(field, key, _KEY_TEXT)


def check_object(resource: Resource, obj: Obj) -> None:
    """422 for what the kind itself requires."""
    causes = list(_kind_causes(resource, obj))
    if causes:
        raise invalid(resource, str(obj["metadata"].get("name", "")), causes)


def _kind_causes(resource: Resource, obj: Obj) -> Iterator[Cause]:
    if resource.custom:
        return _schema_causes(resource, obj)
    if resource.kind == "Event":
        return _event_causes(obj, new=bool(resource.group))
    checks = {
        "Pod": _pod_causes,
        "DaemonSet": _workload_causes,
        "Deployment": _workload_causes,
        "ReplicaSet": _workload_causes,
        "StatefulSet": _workload_causes,
        "Job": _job_causes,
        "PodDisruptionBudget": _budget_causes,
        "Lease": _lease_causes,
        "Node": _taint_causes,
    }
    return checks.get(resource.kind, _nothing)(obj)


def _nothing(_obj: Obj) -> Iterator[Cause]:
    return iter(())


def _pod_causes(obj: Obj) -> Iterator[Cause]:
    return _container_causes(obj.get("spec") or {}, "spec")


def _budget_causes(obj: Obj) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield Cause.bad_value("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        if isinstance(spec.get(field), int) and spec[field] < 0:
            yield Cause.bad_value(f"spec.{field}", spec[field], "must be greater than or equal to 0")


def _lease_causes(obj: Obj) -> Iterator[Cause]:
    duration = dig(obj, "spec.leaseDurationSeconds")
    if duration is not None and duration <= 0:
        yield Cause.bad_value("spec.leaseDurationSeconds", duration, "must be greater than 0")


def _schema_causes(resource: Resource, obj: Obj) -> Iterator[Cause]:
    for path, wanted in _TYPES.get(resource.kind, {}).items():
        value = dig(obj, path)
        if not _is_a(value, wanted):
            found, named = _OPENAPI[type(value)], _OPENAPI[wanted]
            message = f'Invalid value: "{found}": {path} in body must be of type {named}: "{found}"'
            yield Cause(path, message, "FieldValueTypeInvalid")


def _container_causes(spec: Obj, path: str) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield Cause.required(f"{path}.containers")
    for number, container in enumerate(spec.get("containers") or ()):
        for field in ("name", "image"):
            if not container.get(field):
                yield Cause.required(f"{path}.containers[{number}].{field}")


def _workload_causes(obj: Obj) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    wanted = dig(spec, "selector.matchLabels") or {}
    missing = not wanted and not dig(spec, "selector.matchExpressions")
    if missing:
        yield Cause.required("spec.selector")
    labels = dig(spec, "template.metadata.labels")
    if missing or any((labels or {}).get(key) != value for key, value in wanted.items()):
        yield Cause.bad_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from _container_causes(dig(spec, "template.spec") or {}, "spec.template.spec")


def _job_causes(obj: Obj) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    for field in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        if isinstance(spec.get(field), int) and spec[field] < 0:
            yield Cause.bad_value(f"spec.{field}", spec[field], "must be greater than or equal to 0")
    pod = dig(spec, "template.spec") or {}
    yield from _container_causes(pod, "spec.template.spec")
    if pod.get("restartPolicy") not in ("OnFailure", "Never"):
        yield Cause.required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')


def _event_causes(obj: Obj, *, new: bool) -> Iterator[Cause]:
    about = (obj.get("regarding") if new else obj.get("involvedObject")) or {}
    namespace = obj["metadata"].get("namespace", "")
    if about.get("namespace", "") != namespace and (about.get("namespace") or namespace != "default"):
        yield Cause.bad_value("involvedObject.namespace", about.get("namespace", ""), "does not match event.namespace")
    if new and not obj.get("eventTime"):
        yield Cause.required("eventTime")
    for field in ("reportingController", "reportingInstance", "action", "reason"):
        if new and obj.get("eventTime") and not obj.get(field):
            yield Cause.required(field)
    if new and obj.get("type") not in ("Normal", "Warning"):
        yield Cause.bad_value("type", obj.get("type") or "", f"has invalid value: {obj.get('type') or ''}")


def _taint_causes(obj: Obj) -> Iterator[Cause]:
    seen = set()
    for number, taint in enumerate(dig(obj, "spec.taints") or ()):
        at = f"metadata.taints[{number}]"
        if taint.get("effect") not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            supported = '"NoSchedule", "PreferNoSchedule", "NoExecute"'
            message = f'Unsupported value: "{taint.get("effect", "")}": supported values: {supported}'
            yield Cause(f"{at}.effect", message, "FieldValueNotSupported")
        identity = (taint.get("key"), taint.get("effect"))
        if identity in seen:
            yield Cause(at, "Duplicate value: taints must be unique by key and effect pair", "FieldValueDuplicate")
        seen.add(identity)
