"""Cordon and uncordon, with ownership: a cordon of ours carries an annotation that names the run, and only such a cordon is lifted.

Cordon and annotation are written in one JSON patch that tests the node's resourceVersion, so the one is never there without the other.
A node that somebody else cordoned stays theirs: nothing is changed and nothing is undone (kubereboot/kured#63, planetlabs/draino#17).
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from remediator.actions import Action, Context, NoParameters, Observed, Rule
from remediator.clock import iso
from remediator.errors import Refused, StepFailed
from remediator.kube import kinds
from remediator.kube.errors import Conflict, Invalid, NotFound
from remediator.model import Change, Resource
from remediator.reasons import Reason

__all__ = ["ANNOTATION", "Cordon", "Uncordon", "owner"]

ANNOTATION = "remediator.dev/cordoned-by"
_POINTER = "/metadata/annotations/" + ANNOTATION.replace("~", "~0").replace("/", "~1")
_TRIES = 5
_RBAC = (Rule(resources=("nodes",), verbs=("get", "patch")),)


def owner(node: dict[str, Any]) -> dict[str, Any] | None:
    """What our cordon annotation says (run, at, reason), or None if the node carries none."""
    text = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {"run": "", "reason": text}
    return value if isinstance(value, dict) else {"run": "", "reason": text}


def cordoned(node: dict[str, Any]) -> bool:
    """Whether nothing new is scheduled there (``spec.unschedulable``)."""
    return bool((node.get("spec") or {}).get("unschedulable"))


class Cordon(Action[NoParameters]):
    """Marks the target node unschedulable, as ``kubectl cordon`` does, and leaves a note of who did it."""

    name: ClassVar[str] = "node.cordon"
    summary: ClassVar[str] = "mark the target node unschedulable"
    changes: ClassVar[str] = f"spec.unschedulable and the annotation {ANNOTATION} of the Node"
    undone_by: ClassVar[str] = "removing both, if the annotation is still the run's own"
    rbac: ClassVar[tuple[Rule, ...]] = _RBAC

    async def act(self, ctx: Context, parameters: NoParameters) -> str:
        """See Action."""
        del parameters
        if ctx.changes:
            return "cordoned"
        for _ in range(_TRIES):
            node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
            if cordoned(node):
                return _already(node)
            try:
                await _patch(ctx, node, _cordon_patch(ctx, node))
            except _RacedError:
                continue
            return "cordoned"
        raise StepFailed(f"{ctx.run.target.key} changed under every one of {_TRIES} tries")

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: annotation and cordon come together, so the annotation tells."""
        return await _observe(ctx, change)

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action: lifts the cordon if it is still this run's."""
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


class Uncordon(Action[NoParameters]):
    """Lifts a cordon that remediator set, whichever run it was; refuses one that somebody else set."""

    name: ClassVar[str] = "node.uncordon"
    summary: ClassVar[str] = "make the target node schedulable again, if remediator cordoned it"
    changes: ClassVar[str] = f"spec.unschedulable and the annotation {ANNOTATION} of the Node"
    undone_by: ClassVar[str] = "nothing: a node is not cordoned again to undo this"
    rbac: ClassVar[tuple[Rule, ...]] = _RBAC

    async def check(self, ctx: Context, parameters: NoParameters) -> None:
        """See Action: somebody else's cordon is not ours to lift."""
        del parameters
        node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
        if cordoned(node) and owner(node) is None:
            raise Refused(Reason.PROTECTED, f"{ctx.run.target.key} was cordoned by somebody else; lift it with kubectl uncordon")

    async def act(self, ctx: Context, parameters: NoParameters) -> str:
        """See Action."""
        del parameters
        if ctx.changes:
            return "uncordoned"
        for _ in range(_TRIES):
            node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
            if not cordoned(node):
                return "was not cordoned"
            if owner(node) is None:
                raise StepFailed(f"{ctx.run.target.key} was cordoned by somebody else meanwhile")
            try:
                await _patch(ctx, node, _uncordon_patch(node), undoable=False)
            except _RacedError:
                continue
            return "uncordoned"
        raise StepFailed(f"{ctx.run.target.key} changed under every one of {_TRIES} tries")

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action."""
        return await _observe(ctx, change)


async def _observe(ctx: Context, change: Change) -> Observed:
    try:
        node = await ctx.kube.get(kinds.NODE, change.resource.name)
    except NotFound:
        return Observed.ABSENT
    if not (change.after or {}).get("unschedulable"):
        return Observed.ABSENT if cordoned(node) else Observed.APPLIED
    mark = owner(node)
    return Observed.APPLIED if mark and mark.get("run") == change.run else Observed.ABSENT


class _RacedError(Exception):
    """The node changed between read and patch, so the patch's test failed and nothing was altered."""


async def _patch(ctx: Context, node: dict[str, Any], patch: list[dict[str, Any]], *, undoable: bool = True) -> None:
    """Send ``patch`` as a change. Raises _RacedError if its test failed (409, or 422 for a JSON patch)."""
    resource = Resource(kind="Node", name=node["metadata"]["name"], uid=node["metadata"]["uid"])
    annotation = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
    setting = any(op["op"] == "add" and op["path"] == "/spec/unschedulable" for op in patch)

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.patch(kinds.NODE, resource.name, patch, type="json", dry_run=dry_run, request_id=request_id)

    try:
        await ctx.change(
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


def _cordon_patch(ctx: Context, node: dict[str, Any]) -> list[dict[str, Any]]:
    patch: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/resourceVersion", "value": node["metadata"]["resourceVersion"]}]
    if not node["metadata"].get("annotations"):
        patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    patch.append({"op": "add", "path": _POINTER, "value": _note(ctx)})
    patch.append({"op": "add", "path": "/spec/unschedulable", "value": True})
    return patch


def _uncordon_patch(node: dict[str, Any]) -> list[dict[str, Any]]:
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


def _already(node: dict[str, Any]) -> str:
    mark = owner(node)
    whose = f"run {mark['run']}" if mark and mark.get("run") else "somebody else"
    return f"was cordoned already by {whose}; left as it is"
