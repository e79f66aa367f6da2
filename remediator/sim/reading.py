"""Lists: selectors, pages that show one version, and the versions that can no longer be shown.

In come a resource and the query's options; out comes a ``Page`` of stored objects. Bad options are refused with 400 or 422, a version or
continue token that the log no longer covers with 410, a version from the future with 504.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from remediator.sim import status
from remediator.sim.objects import dig
from remediator.sim.selectors import selector_test
from remediator.sim.status import ApiError, Cause
from remediator.sim.store import TooOldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj
    from remediator.sim.store import Store, Table

__all__ = ["ListOptions", "Page", "list_page", "parse_version"]

_EQUAL = re.compile(r"([\w./-]+)={1,2}([\w.-]+)(?:,|$)")
"""A selector that begins by asking for one value of a label."""
_TOO_OLD_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token "
    "results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)


@dataclass(frozen=True)
class ListOptions:
    """The query of a list or watch."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    token: str = ""
    version: str = ""
    match: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> ListOptions:
        """Read a query string. Raises ApiError."""
        limit = query.get("limit", "") or "0"
        if not limit.removeprefix("-").isdigit():
            raise status.bad_request(f'strconv.ParseInt: parsing "{limit}": invalid syntax')
        options = cls(
            query.get("labelSelector", ""),
            query.get("fieldSelector", ""),
            max(0, int(limit)),
            query.get("continue", ""),
            query.get("resourceVersion", ""),
            query.get("resourceVersionMatch", ""),
        )
        if options.token and options.version not in ("", "0"):
            raise status.bad_request("specifying resource version is not allowed when using continue")
        if options.match not in ("", "Exact", "NotOlderThan"):
            message = f'Unsupported value: "{options.match}": supported values: "Exact", "NotOlderThan", ""'
            raise status.invalid_options("ListOptions", Cause("resourceVersionMatch", message, "FieldValueNotSupported"))
        if options.match and not options.version and query.get("sendInitialEvents") is None:
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            raise status.invalid_options("ListOptions", Cause.forbidden("resourceVersionMatch", why))
        return options


@dataclass(frozen=True)
class Page:
    """One answer to a list."""

    items: list[Obj]
    version: str
    token: str = ""
    remaining: int | None = None


def parse_version(text: str) -> int | None:
    """A resourceVersion of a query; None for an empty one. Raises ApiError 500 as the real server does for nonsense."""
    if not text:
        return None
    if not text.isdigit():
        message = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise ApiError(500, "", message)
    return int(text)


def list_page(store: Store, resource: Resource, namespace: str, options: ListOptions) -> Page:
    """The page that ``options`` ask for."""
    test = selector_test(options.labels, options.fields, resource)
    table = store.table(resource)
    version, start = _position(store, options)
    exact = bool(options.token) or options.match == "Exact"
    objects = _snapshot(table, version, start) if exact and version != store.version else table.objects
    equal = _EQUAL.match(options.labels) if objects is table.objects else None
    every = table.labelled(*equal.groups()) if equal else table.ordered() if objects is table.objects else sorted(objects)
    keys = _between(every, namespace, start)
    fitting = (objects[key] for key in keys if test is None or test(objects[key]))
    items = list(islice(fitting, options.limit + 1) if options.limit else fitting)
    shown = str(version if exact else store.version)
    if not options.limit or len(items) <= options.limit:
        return Page(items, shown)
    last = items[options.limit - 1]["metadata"]
    rest = None if options.labels or options.fields else len(keys) - options.limit  # as the real server, which counts no selector's rest
    return Page(items[: options.limit], shown, _token(int(shown), last), rest)


def _between(keys: list[tuple[str, str]], namespace: str, start: tuple[str, str] | None) -> list[tuple[str, str]]:
    """The part of the ordered ``keys`` that is in the namespace (empty: in any) and after ``start``."""
    first = bisect_right(keys, start) if start is not None else bisect_left(keys, (namespace, ""))
    return keys[first : bisect_left(keys, (f"{namespace}\0", "")) if namespace else len(keys)]


def _position(store: Store, options: ListOptions) -> tuple[int, tuple[str, str] | None]:
    if options.token:
        return _read_token(options.token)
    if options.version and not options.version.isdigit():
        raise status.bad_request(f'resourceVersion: Invalid value: "{options.version}": invalid syntax')
    version = parse_version(options.version)
    if version is not None and version > store.version:
        message = f"Timeout: Too large resource version: {version}, current: {store.version}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise ApiError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1}, retry_after=1)
    if options.match == "Exact" and version:
        return version, None
    return store.version, None


def _snapshot(table: Table, version: int, start: tuple[str, str] | None) -> dict[tuple[str, str], Obj]:
    try:
        return table.at(version)
    except TooOldError as error:
        if start is None:
            raise status.expired(str(error)) from None
        raise status.expired(_TOO_OLD_PAGE) from None


def _token(version: int, last: Obj) -> str:
    key = "/".join(part for part in (last.get("namespace", ""), last["name"]) if part)
    data = {"v": "meta.k8s.io/v1", "rv": version, "start": f"{key}\0", "ns": bool(last.get("namespace"))}
    return base64.urlsafe_b64encode(json.dumps(data, separators=(",", ":")).encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        data: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise status.bad_request(f"invalid continue token: continue key is not valid: {error}") from None
    if not isinstance(data, dict) or data.get("v") != "meta.k8s.io/v1" or not isinstance(dig(data, "rv"), int):
        raise status.bad_request("invalid continue token: continue key is not valid: server does not recognize this encoded version")
    key = str(data.get("start", "")).rstrip("\0")
    namespace, _, name = key.rpartition("/")
    return data["rv"], (namespace, name)
