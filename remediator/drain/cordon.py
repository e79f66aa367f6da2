"""A cordon with an owner: an annotation names the run that set it, and only such a cordon is ever lifted.

Cordon and annotation are written in one JSON patch that tests the node's resourceVersion, so the one is never there without the other.
A node that somebody else cordoned stays theirs: nothing is changed and nothing is undone (kubereboot/kured#63, planetlabs/draino#17).

In: a Context, the Node as it was read. Out: what was done. Refused (StepFailed): a node that changes under every try.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remediator.clock import iso
from remediator.errors import StepFailed
from remediator.kube import kinds
from remediator.kube.errors import Conflict, Invalid, NotFound
from remediator.model import Resource

if TYPE_CHECKING:
    from remediator.actions import Context
    from remediator.model import Change

__all__ = ["ANNOTATION", "cordon", "cordoned", "lift", "lift_of", "owner", "owner_of", "took_effect"]

ANNOTATION = "remediator.dev/cordoned-by"
_POINTER = "/metadata/annotations/" + ANNOTATION.replace("~", "~0").replace("/", "~1")
_TRIES = 5

Object = dict[str, Any]


def owner(node: Object) -> Object | None:
    """What our cordon annotation says (run, at, reason), or None if the node carries none."""
    text = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {"run": "", "reason": text}
    return value if isinstance(value, dict) else {"run": "", "reason": text}


def owner_of(change: Change) -> str:
    """The run whose cordon ``change`` lifted, by the note that it took off; empty if there was none to read."""
    note = (change.before or {}).get(ANNOTATION)
    mark = owner({"metadata": {"annotations": {ANNOTATION: note}}}) if note else None
    return str(mark.get("run", "")) if mark else ""


def cordoned(node: Object) -> bool:
    """Whether nothing new is scheduled there (``spec.unschedulable``)."""
    return bool((node.get("spec") or {}).get("unschedulable"))


async def cordon(ctx: Context, name: str) -> str:
    """Cordon the node; what was achieved, in words. Raises StepFailed if it could not be, KubeError if the node cannot be read."""
    for _ in range(_TRIES):
        node = await ctx.kube.get(kinds.NODE, name)
        if cordoned(node):
            return _already(node)
        try:
            await _patch(ctx, node, _cordon_patch(ctx, node))
        except _RacedError:
            continue
        return "cordoned"
    raise StepFailed(f"Node/{name} changed under every one of {_TRIES} tries")


async def lift(ctx: Context, name: str) -> str:
    """Lift a cordon of ours, whichever run set it; what was achieved, in words. Raises StepFailed for somebody else's."""
    for _ in range(_TRIES):
        node = await ctx.kube.get(kinds.NODE, name)
        if not cordoned(node):
            return "was not cordoned"
        if owner(node) is None:
            raise StepFailed(f"Node/{name} was cordoned by somebody else meanwhile")
        try:
            change = await _patch(ctx, node, _uncordon_patch(node), undoable=False)
        except _RacedError:
            continue
        await ctx.put_back(owner_of(change), change.resource)
        return "uncordoned"
    raise StepFailed(f"Node/{name} changed under every one of {_TRIES} tries")


async def lift_of(ctx: Context, change: Change) -> str | None:
    """Put back the cordon that ``change`` set, if it is still its run's; the sentence that says so, or None if it is not."""
    for _ in range(_TRIES):
        try:
            node = await ctx.kube.get(kinds.NODE, change.resource.name)
        except NotFound:
            return None
        mark = owner(node)
        if not cordoned(node) or mark is None or mark.get("run") != change.run:
            return None
        try:
            await _patch(ctx, node, _uncordon_patch(node), undoable=False)
        except _RacedError:
            continue
        return f"uncordoned {change.resource.key}"
    raise StepFailed(f"{change.resource.key} changed under every one of {_TRIES} tries")


async def took_effect(ctx: Context, change: Change) -> bool:
    """Whether a cordon, or the lifting of one, that is not on disk as done was done: annotation and cordon come together, so it tells."""
    try:
        node = await ctx.kube.get(kinds.NODE, change.resource.name)
    except NotFound:
        return False
    if not (change.after or {}).get("unschedulable"):
        return not cordoned(node)
    mark = owner(node)
    return bool(mark and mark.get("run") == change.run)


class _RacedError(Exception):
    """The node changed between read and patch, so the patch's test failed and nothing was altered."""


async def _patch(ctx: Context, node: Object, patch: list[Object], *, undoable: bool = True) -> Change:
    """Send ``patch`` as a change; that change. Raises _RacedError if its test failed (409, or 422 for a JSON patch)."""
    resource = Resource(kind="Node", name=node["metadata"]["name"], uid=node["metadata"]["uid"])
    annotation = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
    setting = any(op["op"] == "add" and op["path"] == "/spec/unschedulable" for op in patch)

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.patch(kinds.NODE, resource.name, patch, type="json", dry_run=dry_run, request_id=request_id)

    try:
        return await ctx.change(
            "patch",
            resource,
            call,
            before={"unschedulable": cordoned(node), ANNOTATION: annotation},
            after={"unschedulable": setting, ANNOTATION: _note(ctx) if setting else None},
            undoable=undoable,
        )
    except StepFailed as error:
        if isinstance(error.__cause__, Conflict | Invalid):
            raise _RacedError from error
        raise


def _cordon_patch(ctx: Context, node: Object) -> list[Object]:
    patch: list[Object] = [{"op": "test", "path": "/metadata/resourceVersion", "value": node["metadata"]["resourceVersion"]}]
    if not node["metadata"].get("annotations"):
        patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    patch.append({"op": "add", "path": _POINTER, "value": _note(ctx)})
    patch.append({"op": "add", "path": "/spec/unschedulable", "value": True})
    return patch


def _uncordon_patch(node: Object) -> list[Object]:
    return [
        {"op": "test", "path": "/metadata/uid", "value": node["metadata"]["uid"]},
        {"op": "test", "path": _POINTER, "value": node["metadata"]["annotations"][ANNOTATION]},
        {"op": "remove", "path": _POINTER},
        {"op": "remove", "path": "/spec/unschedulable"},
    ]


def _note(ctx: Context) -> str:
    """Stable for the run, so that a second look finds the very same text."""
    why = ctx.run.alert.name if ctx.run.alert else ctx.run.trigger.reason
    return json.dumps({"run": ctx.run.id, "at": iso(ctx.run.started_at), "reason": why}, separators=(",", ":"))


def _already(node: Object) -> str:
    mark = owner(node)
    whose = f"run {mark['run']}" if mark and mark.get("run") else "somebody else"
    return f"was cordoned already by {whose}; left as it is"
