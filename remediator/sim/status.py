"""Every refusal of the simulated API, with the Status body that a real API server sends (checked against 1.36.3).

In come the facts (resource, name, field); out comes an ``ApiError`` that knows its HTTP code and body. Nothing is refused here;
this is what refusals are made of.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj

__all__ = [
    "ApiError",
    "Cause",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "invalid",
    "invalid_options",
    "method_not_allowed",
    "modified",
    "name_conflict",
    "no_such_resource",
    "not_found",
    "patch_rejected",
    "success",
    "unsupported_media_type",
]

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


class ApiError(Exception):
    """An answer other than 2xx. ``text`` replaces the Status body where the real server sends plain text."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Obj | None = None,
        *,
        retry_after: int | None = None,
        text: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after
        self.text = text

    def body(self) -> Obj:
        """The Status object, keys in the order of the real one."""
        body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return {**body, "code": self.code}


class Cause:
    """One faulty field of an object."""

    def __init__(self, field: str, message: str, reason: str = "FieldValueInvalid") -> None:
        self.field = field
        self.message = message
        self.reason = reason

    @classmethod
    def bad_value(cls, field: str, value: Any, why: str) -> Cause:
        """``Invalid value: "x": why``."""
        return cls(field, f"Invalid value: {json.dumps(value, separators=(',', ':'))}: {why}")

    @classmethod
    def required(cls, field: str, why: str = "") -> Cause:
        """``Required value`` with or without a reason."""
        return cls(field, f"Required value: {why}" if why else "Required value", "FieldValueRequired")

    @classmethod
    def forbidden(cls, field: str, why: str) -> Cause:
        """``Forbidden: why``."""
        return cls(field, f"Forbidden: {why}", "FieldValueForbidden")

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def _details(resource: Resource, name: str, **more: Any) -> Obj:
    details: Obj = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return {**details, "kind": resource.plural, **more}


def not_found(resource: Resource, name: str) -> ApiError:
    """404: ``daemonsets.apps "x" not found``."""
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def no_such_resource(*, in_group: bool = True) -> ApiError:
    """404 for a path that names no resource; outside of a known group version it is plain text."""
    message = "the server could not find the requested resource"
    return ApiError(404, "NotFound", message, {}, text=None if in_group else "404 page not found\n")


def already_exists(resource: Resource, name: str) -> ApiError:
    """409 AlreadyExists."""
    return ApiError(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', _details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    """409 Conflict of a write that is not based on the object's current version."""
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def modified(resource: Resource, name: str) -> ApiError:
    """409 for a stale resourceVersion."""
    return conflict(resource, name, MODIFIED)


def name_conflict(resource: Resource, name: str, why: str) -> ApiError:
    """409 for a failed precondition of a delete; the real server names the kind, not the resource, here."""
    message = f'Operation cannot be fulfilled on {resource.qualified_kind} "{name}": {why}'
    details: Obj = {"name": name}
    if resource.group:
        details["group"] = resource.group
    return ApiError(409, "Conflict", message, {**details, "kind": resource.kind})


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with one cause a field."""
    details: Obj = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return _invalid(f'{resource.qualified_kind} "{name}"', {**details, "kind": resource.kind}, causes)


def invalid_options(kind: str, cause: Cause) -> ApiError:
    """422 for a query parameter: ``CreateOptions.meta.k8s.io "" is invalid: dryRun: ...``."""
    return _invalid(f'{kind}.meta.k8s.io ""', {"group": "meta.k8s.io", "kind": kind}, [cause])


def _invalid(subject: str, details: Obj, causes: Sequence[Cause]) -> ApiError:
    listed = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    text = str(causes[0]) if len(causes) == 1 else f"[{', '.join(map(str, causes))}]"
    return ApiError(422, "Invalid", f"{subject} is invalid: {text}", {**details, "causes": listed})


def patch_rejected() -> ApiError:
    """422 of a JSON patch that does not apply, a failed ``test`` included; the real server gives no details."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def bad_request(message: str) -> ApiError:
    """400 BadRequest."""
    return ApiError(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, why: str, causes: list[Obj]) -> ApiError:
    """403 with causes."""
    message = f'{resource.qualified} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(resource, name, causes=causes))


def method_not_allowed() -> ApiError:
    """405."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media_type(accepted: Sequence[str] = ()) -> ApiError:
    """415; custom resources say what they would have taken."""
    if not accepted:
        return ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    listed = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {listed}"
    return ApiError(415, "UnsupportedMediaType", message)


def expired(message: str) -> ApiError:
    """410: the version asked for is no longer kept."""
    return ApiError(410, "Expired", message)


def success(**details: Any) -> Obj:
    """The Status of a call that worked and has no object to show."""
    body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return {**body, "details": details} if details else body
