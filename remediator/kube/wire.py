"""The shapes of requests and answers of the Kubernetes API: paths, selectors, delete options, pages of lists. No call is made here.

In: kinds, names, bytes of answers. Out: paths and queries, dicts and records.
Refused: names that no object can have (as the error that the caller names), a grace period of zero, JSON that does not fit (Malformed).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from remediator.errors import UsageError
from remediator.kube import kinds
from remediator.kube.errors import CallFailed, Malformed, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.kube.kinds import Kind

X = TypeVar("X")
PatchType = Literal["json", "merge", "strategic", "apply"]
Propagation = Literal["Background", "Foreground", "Orphan"]
JsonPatch = list[dict[str, Any]]

CONTENT_TYPES: Final[dict[str, str]] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
_SLICE: Final = 50
"""Objects decoded before the event loop gets its turn."""


class PageMeta(msgspec.Struct, rename="camel"):
    """Where a page stands; ``token`` leads to the next one."""

    resource_version: str = ""
    token: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    """One page of a list, its objects not decoded yet; Go writes an empty list as null."""

    metadata: PageMeta
    items: list[msgspec.Raw] | None = None


PAGES: Final = msgspec.json.Decoder(Page)


def now() -> float:
    """The moment, for deadlines of calls on the network: they are in real time, whatever clock the product runs on."""
    return asyncio.get_running_loop().time()


def collection_path(kind: Kind, namespace: str) -> str:
    """The path of all objects of a kind, in one namespace or, without one, everywhere. Raises NotFound for an impossible namespace."""
    if namespace and not kinds.possible_name(namespace):
        raise NotFound(f'no namespace can be called "{namespace}"', status=404)
    return kind.path(namespace)


def object_path(kind: Kind, namespace: str, name: str, impossible: type[CallFailed], subresource: str = "") -> str:
    """The path of one object. A name that no object can have never becomes a path; ``impossible`` is raised instead."""
    if kind.namespaced and not namespace:
        raise UsageError(f'{kind} "{name}" needs a namespace')
    if not kinds.possible_name(name) or (kind.namespaced and not kinds.possible_name(namespace)):
        status = 404 if impossible is NotFound else 400
        raise impossible(f'no {kind} can be called "{namespace + "/" if namespace else ""}{name}"', status=status)
    return kind.path(namespace, name, subresource)


def selectors(labels: str, fields: str) -> tuple[tuple[str, str], ...]:
    """Label and field selector as a query."""
    return tuple((key, value) for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value)


def delete_options(uid: str, grace: int | None, *, dry_run: bool) -> dict[str, Any]:
    """What a delete or an eviction depends on. Raises UsageError for ``grace`` below 1 s."""
    if grace is not None and grace < 1:
        raise UsageError("a grace period of less than a second would drop the record of a pod that may still run")
    options: dict[str, Any] = {}
    if uid:
        options["preconditions"] = {"uid": uid}
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    if dry_run:
        options["dryRun"] = ["All"]
    return options


def as_dict(kind: Kind) -> Callable[[msgspec.Raw], dict[str, Any]]:
    """Items of a list lack kind and apiVersion; they get them, so that a dict says the same wherever it came from."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    head = {"apiVersion": kind.api_version, "kind": kind.kind}
    return lambda raw: {**head, **decode(raw)}


async def convert(page: list[msgspec.Raw], one: Callable[[msgspec.Raw], X], into: list[X], path: str) -> None:
    """Appends to ``into``, a slice at a time, so that a large page does not hold up the event loop."""
    for start in range(0, len(page), _SLICE):
        try:
            into.extend(one(raw) for raw in page[start : start + _SLICE])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Malformed(f"an object that does not fit: {error}", call=f"GET {path}") from error
        await asyncio.sleep(0)


def decode(body: bytes, kind: Any, call: str, *, write: bool = False) -> Any:
    """The JSON of one object as ``kind``. Raises Malformed; a write that was answered with nonsense may still have been done."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"not the JSON of an API object: {error}", call=call, maybe_applied=write) from error
