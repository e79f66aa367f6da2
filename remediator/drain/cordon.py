"""A cordon with an owner: an annotation names the run that set it, and only such a cordon is ever lifted.

Cordon and annotation are written in one JSON patch that tests the node's resourceVersion, so the one never comes without the other. They go
one by one: ``kubectl uncordon`` takes the cordon and leaves the note, and a cordon that somebody sets then stands beside it. So the note
says which run's it is, and the API server's record of who set the field whether it is ours at all (docs/adr/0022). A node that somebody
else cordoned stays theirs: nothing is changed and nothing is undone (kubereboot/kured#63, planetlabs/draino#17).

In: a Context, the Node as it was read. Out: what was done. Refused (StepFailed): a node that changes under every try.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remediator.clock import iso
from remediator.errors import StepFailed
from remediator.kube import FIELD_MANAGER, kinds
from remediator.kube.errors import Conflict, Invalid, NotFound
from remediator.kube.fields import managers_of
from remediator.model import Resource

if TYPE_CHECKING:
    from remediator.actions import Context
    from remediator.model import Change

__all__ = ["ANNOTATION", "cordon", "cordoned", "is_ours", "lift", "lift_of", "owner", "owner_of", "took_effect"]

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


def is_ours(node: Object) -> bool:
    """Whether the cordon that the node carries is remediator's. One whose setter cannot be told counts as somebody else's."""
    return cordoned(node) and owner(node) is not None and managers_of(node, "spec", "unschedulable") == {FIELD_MANAGER}


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
        if cordoned(node) and not is_ours(node):
            raise StepFailed(f"Node/{name} was cordoned by somebody else meanwhile")
        if owner(node) is None:
            return "was not cordoned"
        try:
            change = await _patch(ctx, node, _uncordon_patch(node), undoable=False)
        except _RacedError:
            continue
        await ctx.put_back(owner_of(change), change.resource, ANNOTATION)
        return "uncordoned" if cordoned(node) else "was not cordoned any more; took our note off"
    raise StepFailed(f"Node/{name} changed under every one of {_TRIES} tries")


async def lift_of(ctx: Context, change: Change) -> str | None:
    """Put back the cordon that ``change`` set, if it is still its run's; the sentence that says so, or None if it is not.

    Where somebody lifted it and set none of their own, what is put back is the note that they left.
    """
    for _ in range(_TRIES):
        try:
            node = await ctx.kube.get(kinds.NODE, change.resource.name)
        except NotFound:
            return None
        mark = owner(node)
        if mark is None or mark.get("run") != change.run or (cordoned(node) and not is_ours(node)):
            return None
        try:
            await _patch(ctx, node, _uncordon_patch(node), undoable=False)
        except _RacedError:
            continue
        key = change.resource.key
        return f"uncordoned {key}" if cordoned(node) else f"took our note off {key}, which somebody else has uncordoned"
    raise StepFailed(f"{change.resource.key} changed under every one of {_TRIES} tries")


async def took_effect(ctx: Context, change: Change) -> bool:
    """Whether a cordon, or the lifting of one, that is not on disk as done was done: annotation and cordon come in one patch."""
    try:
        node = await ctx.kube.get(kinds.NODE, change.resource.name)
    except NotFound:
        return False
    mark = owner(node)
    if (change.after or {}).get("unschedulable"):
        return bool(mark and mark.get("run") == change.run)
    return mark is None and not cordoned(node)


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
    """Note and cordon, or the note alone where there is no cordon any more; nothing if somebody came in between and set their own."""
    patch = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": node["metadata"]["resourceVersion"]},
        {"op": "remove", "path": _POINTER},
    ]
    return [*patch, {"op": "remove", "path": "/spec/unschedulable"}] if cordoned(node) else patch


def _note(ctx: Context) -> str:
    """Stable for the run, so that a second look finds the very same text."""
    why = ctx.run.alert.name if ctx.run.alert else ctx.run.trigger.reason
    return json.dumps({"run": ctx.run.id, "at": iso(ctx.run.started_at), "reason": why}, separators=(",", ":"))


def _already(node: Object) -> str:
    mark = owner(node) if is_ours(node) else None
    whose = f"run {mark['run']}" if mark and mark.get("run") else "somebody else"
    return f"was cordoned already by {whose}; left as it is"
