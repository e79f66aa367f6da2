"""One request to the simulated Kubernetes API, read from its HTTP form, and the log of all of them.

In come method, path, query, headers and body; out comes a ``Call`` that says which verb on which object is meant. A path that names no
resource is refused with 404, a method that the path does not take with 405, a body that is not what it says with 400 or 415.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from remediator.sim import status
from remediator.sim.protobuf import is_protobuf, read_delete_options
from remediator.sim.registry import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Options
from remediator.sim.status import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from remediator.sim.kinds import Kinds, Resource

__all__ = ["Call", "Logged", "RequestLog", "parse_body", "parse_call", "parse_options"]

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_JSON = ("", "application/json", "application/octet-stream", "*/*")
_OPTION_KINDS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions", "delete": "DeleteOptions"}


@dataclass(frozen=True)
class Call:
    """Verb and object of a request."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass
class Logged:
    """What came in and how it was answered; ``status`` is 0 while it is not, or if the connection was dropped."""

    seq: int
    at: datetime
    service: str
    """``kubernetes``, ``prometheus`` or ``alertmanager``."""
    verb: str
    method: str
    path: str
    query: dict[str, str]
    user_agent: str
    audit_id: str
    content_type: str
    body: Any = None
    dry_run: bool = False
    status: int = 0
    resource: str = ""
    """The plural, with its group where it has one."""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    peer: int = 0
    """The port of the connection at its other end: by it a test knows who of several sent it."""

    @property
    def mutating(self) -> bool:
        """Whether it was meant to change the cluster. A review of rights is a POST, and a question."""
        changing = self.verb in ("create", "update", "patch", "delete", "deletecollection")
        return changing and not self.dry_run and not self.path.endswith("reviews")

    @property
    def writes(self) -> bool:
        """Whether it was meant to change the cluster and was answered with 2xx."""
        return self.mutating and 200 <= self.status < 300


@dataclass
class RequestLog:
    """The last requests, oldest first."""

    limit: int = 50_000
    entries: deque[Logged] = field(default_factory=deque)
    count: int = 0

    def add(self, entry: Logged) -> None:
        """Remember one more, and forget the oldest beyond the limit."""
        self.entries.append(entry)
        if len(self.entries) > self.limit:
            self.entries.popleft()

    def next_seq(self) -> int:
        """A number for the next entry, from 1."""
        self.count += 1
        return self.count

    def clear(self) -> None:
        """Forget all."""
        self.entries.clear()

    def writes(self) -> list[Logged]:
        """Those that changed the cluster."""
        return [entry for entry in self.entries if entry.writes]

    def __iter__(self) -> Iterator[Logged]:
        return iter(tuple(self.entries))

    def __len__(self) -> int:
        return len(self.entries)


def is_true(text: str | None) -> bool:
    """A boolean of a query string, as Go reads it."""
    return (text or "").lower() in ("1", "t", "true")


def parse_call(method: str, path: str, query: Mapping[str, str], kinds: Kinds) -> Call:
    """Which verb on what. Raises ApiError 404 or 405."""
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], "".join(parts[2:3]), parts[3:])
    if not rest or not kinds.serves(group, version):
        raise status.no_such_resource(in_group=kinds.is_built_in(group))
    watch = rest[0] == "watch"
    rest = rest[1:] if watch else rest
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource, *more = [*rest, "", "", ""][: max(3, len(rest))]
    resource = kinds.find(group, version, plural)
    if resource is None or more or (subresource and subresource not in resource.subresources):
        raise status.no_such_resource()
    if namespace and not resource.namespaced:
        raise status.no_such_resource()
    verb = _verb(method, name, watch=watch or is_true(query.get("watch")))
    call = Call(verb, resource, namespace, name, subresource)
    _check_method(call, method)
    return call


def _verb(method: str, name: str, *, watch: bool) -> str:
    if method in ("GET", "HEAD"):
        if name:
            return "get"
        return "watch" if watch else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return _VERBS.get(method, method.lower())


def _check_method(call: Call, method: str) -> None:
    if call.subresource == "exec":
        if method not in ("GET", "POST"):
            raise status.method_not_allowed()
        return
    if call.subresource == "log" and method != "GET":
        raise status.method_not_allowed()
    named = bool(call.name)
    creates = call.subresource in ("eviction", "binding")
    allowed = {
        "GET": not creates,
        "HEAD": not creates,
        "POST": creates or not named,
        "PUT": named and not creates,
        "PATCH": named and not creates,
        "DELETE": not call.subresource,
    }
    missing_namespace = call.resource.namespaced and not call.namespace and (named or method != "GET")
    if not allowed.get(method, False) or missing_namespace:
        raise status.method_not_allowed()


def parse_options(verb: str, query: Mapping[str, str], user_agent: str, body: Any = None, content_type: str = "") -> Options:
    """The options of a write. Raises ApiError 422 for values that the real server does not take."""
    kind = _OPTION_KINDS.get(verb, "CreateOptions")
    asked = [query["dryRun"]] if query.get("dryRun") else []
    if verb == "delete" and isinstance(body, dict):
        asked += body.get("dryRun") or []
    if any(value != "All" for value in asked):
        message = f'Unsupported value: ["{asked[0]}"]: supported values: "All"'
        raise status.invalid_options(kind, Cause("dryRun", message, "FieldValueNotSupported"))
    applies = content_type == APPLY_PATCH
    if query.get("force") is not None and not applies and verb == "patch":
        raise status.invalid_options(kind, Cause.forbidden("force", "may not be specified for non-apply patch"))
    manager = query.get("fieldManager") or ""
    if applies and not manager:
        raise status.invalid_options(kind, Cause.required("fieldManager", "is required for apply patch"))
    return Options(bool(asked), manager or user_agent.split("/", maxsplit=1)[0] or "unknown", is_true(query.get("force")))


def parse_body(method: str, content_type: str, raw: bytes) -> Any:
    """The body as data; None if there is none. Raises ApiError 400 or 415."""
    if method == "PATCH" and content_type not in _PATCHES:
        raise status.unsupported_media_type()
    if not raw:
        return None
    if method == "DELETE" and is_protobuf(raw):
        return read_delete_options(raw)
    if method != "PATCH" and content_type not in _JSON:
        raise status.unsupported_media_type(("application/json",))
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        what = "error decoding patch" if method == "PATCH" else "couldn't get version/kind; json parse error"
        raise status.bad_request(f"{what}: {error}") from None
