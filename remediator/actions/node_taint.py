"""Taint a node, with an owner: an annotation names the run of each taint, and only such a taint is ever taken off.

In: a Node, and a taint of one's own, or the one by which Kubernetes gives up what is on a node that is off (``out-of-service``: pods are
deleted by force and volumes detached, KEP-2268). That one, on a node that still runs, lets two writers at one volume. So it is refused
unless the node is not Ready and people said yes in this very run, before this step, with how they know that its power is off.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.clock import iso
from remediator.errors import Refused, StepFailed
from remediator.kube import kinds, records
from remediator.kube.errors import Conflict, Invalid, NotFound
from remediator.model import ApprovalState, Change, Resource
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Run

__all__ = ["ANNOTATION", "OUT_OF_SERVICE", "Taint"]

ANNOTATION = "remediator.dev/tainted-by"
_POINTER = "/metadata/annotations/" + ANNOTATION.replace("/", "~1")
OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
_OTHERS = ("kubernetes.io/", "k8s.io/", "cilium.io/")
"""Whose controllers set and take these taints themselves."""
_TRIES = 5
_SHORTEST_PROOF = 8
"""Characters; ``ok`` proves nothing."""

Object = dict[str, Any]


class TaintParameters(Parameters):
    """``{action: node.taint, key: remediator.dev/suspect, effect: NoSchedule}`` or ``{action: node.taint, out_of_service: true}``"""

    key: str = Field(default="", pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$|^$", max_length=253)
    value: str = Field(default="", pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    out_of_service: bool = Field(
        default=False, description="the taint for a node that is off; only after a step approve whose answer says how that is known"
    )

    @model_validator(mode="after")
    def _one(self) -> TaintParameters:
        if self.out_of_service == bool(self.key):
            raise ValueError("key (and value, effect), or out_of_service: true")
        if self.out_of_service and self.model_fields_set - {"out_of_service", "key"}:
            raise ValueError("out_of_service has its own value and effect")
        domain = self.key.partition("/")[0]
        if any(f"{domain}/".endswith(other) for other in _OTHERS):
            raise ValueError(f"taints of {domain} belong to its own controllers; only out_of_service: true sets one")
        return self

    def taint(self) -> dict[str, str]:
        """As the Node carries it."""
        if self.out_of_service:
            return dict(OUT_OF_SERVICE)
        return {"key": self.key, **({"value": self.value} if self.value else {}), "effect": self.effect}


class Taint(Action[TaintParameters]):
    """Adds one taint to the target node."""

    name: ClassVar[str] = "node.taint"
    summary: ClassVar[str] = "taint the target node; out-of-service only where people said how they know that it is off"
    changes: ClassVar[str] = f"one taint and the annotation {ANNOTATION} of the Node; NoExecute deletes pods that do not tolerate it"
    undone_by: ClassVar[str] = "removing both, if both are still as the run left them; pods that went stay gone"
    disruptive: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (Rule(resources=("nodes",), verbs=("get", "patch")),)
    Parameters: ClassVar[type[Parameters]] = TaintParameters

    async def check(self, ctx: Context, parameters: TaintParameters) -> None:
        """See Action."""
        if ctx.run.target.kind != "Node":
            raise Refused(Reason.TARGET_MISSING, f"only a Node is tainted; {ctx.run.target.key} is none")
        if ctx.changes:
            return
        node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
        for note in _in_force(node):
            if note.get("run") != ctx.run.id:
                raise Refused(Reason.TARGET_BUSY, f"the taint {note.get('taint')} of run {note.get('run')} is still there")
        if parameters.out_of_service:
            await _refuse_living(ctx)
            _refuse_unproved(ctx.run)

    async def act(self, ctx: Context, parameters: TaintParameters) -> str:
        """See Action."""
        taint = parameters.taint()
        if ctx.changes:
            return f"tainted {_word(taint)}"
        if parameters.out_of_service:
            ctx.evidence("power proof", _proof(ctx.run))
        await ctx.plan([f"taint {ctx.run.target.key} with {_word(taint)}", *_consequences(taint), "undone, the taint is taken off again"])
        for _ in range(_TRIES):
            node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
            if any(_same(one, taint) for one in _carried(node)):
                return f"carried {taint['key']}:{taint['effect']} already; left as it is"
            try:
                await _change(ctx, node, [*_carried(node), taint], note=_note(ctx, taint), on=True)
            except _RacedError:
                continue
            return f"would taint {_word(taint)}" if ctx.dry_run else f"tainted {_word(taint)}"
        raise StepFailed(f"{ctx.run.target.key} changed under every one of {_TRIES} tries")

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: a taint and its note come and go in one patch, so the note tells."""
        try:
            node = await ctx.kube.get(kinds.NODE, change.resource.name)
        except NotFound:
            return Observed.ABSENT
        if _is_another(node, change):
            return Observed.ABSENT
        sets = bool((change.after or {}).get(ANNOTATION))
        there = _noted(change.after if sets else change.before) in _notes(node)
        return Observed.APPLIED if there is sets else Observed.ABSENT

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        ours, note = (change.after or {}).get("taint") or {}, _noted(change.after)
        for _ in range(_TRIES):
            try:
                node = await ctx.kube.get(kinds.NODE, change.resource.name)
            except NotFound:
                return None
            others = [one for one in _carried(node) if not _ours(one, ours)]
            if note is None or note not in _notes(node) or len(others) == len(_carried(node)) or _is_another(node, change):
                return None
            try:
                await _change(ctx, node, others, note=note, on=False)
            except _RacedError:
                continue
            return f"took the taint {_word(ours)} off {change.resource.key}"
        raise StepFailed(f"{change.resource.key} changed under every one of {_TRIES} tries")


# --- what out-of-service needs -------------------------------------------------------------------------------------------


async def _refuse_living(ctx: Context) -> None:
    node = await ctx.kube.get(kinds.NODE, ctx.run.target.name, decode=records.Node)
    if node.ready:
        raise Refused(Reason.PROTECTED, f"{ctx.run.target.key} is Ready: out-of-service would take volumes from pods that run")


def _refuse_unproved(run: Run) -> None:
    """Raises Refused unless an earlier step of this run asked people, and one who said yes wrote how they know."""
    if run.dry_run:
        return  # nobody is asked in a dry run
    if not _proof(run):
        words = "no step approve of this run, before this one, has a yes with a reason that says how it is known that the node is off"
        raise Refused(Reason.UNREADABLE, f"{words}: remediator runs approve ID --reason TEXT")


def _proof(run: Run) -> list[dict[str, str]]:
    """Who said yes in mid-run, and why; the question before a run begins is about the whole of it, not about this."""
    return [
        {"by": answer.by, "reason": answer.reason}
        for approval in run.approvals
        if approval.step is not None and run.steps[approval.step].action == "approve" and approval.state is ApprovalState.APPROVED
        for answer in approval.answers
        if answer.approved and len(answer.reason.strip()) >= _SHORTEST_PROOF
    ]


# --- the taint -----------------------------------------------------------------------------------------------------------


class _RacedError(Exception):
    """The node changed between read and patch, so the patch's test failed and nothing was altered."""


def _carried(node: Object) -> list[Object]:
    return [*((node.get("spec") or {}).get("taints") or ())]


def _same(one: Object, other: Object) -> bool:
    """The API server takes one taint of a key and effect."""
    return (one.get("key"), one.get("effect")) == (other.get("key"), other.get("effect"))


def _ours(one: Object, taint: Object) -> bool:
    """The very taint; a time that the server added to it does not count."""
    return _same(one, taint) and one.get("value", "") == taint.get("value", "")


def _word(taint: Object) -> str:
    """As kubectl writes it."""
    return f"{taint['key']}{'=' + taint['value'] if taint.get('value') else ''}:{taint['effect']}"


def _consequences(taint: Object) -> list[str]:
    if taint == OUT_OF_SERVICE:
        return ["its pods are deleted by force and their volumes detached, whether it still runs or not"]
    return ["pods that do not tolerate it are deleted"] if taint["effect"] == "NoExecute" else ["pods that run there stay"]


def _is_another(node: Object, change: Change) -> bool:
    """A node of the same name, made anew."""
    return bool(node["metadata"]["uid"] != change.resource.uid)


def _notes(node: Object) -> list[Object]:
    """What our annotation says, a note for each taint: the note itself where there is one, as earlier versions wrote it, else a list."""
    found = _parsed((node["metadata"].get("annotations") or {}).get(ANNOTATION))
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def _in_force(node: Object) -> list[Object]:
    """Notes whose taint the node carries; of the others it is over."""
    words = {_word(one) for one in _carried(node)}
    return [note for note in _notes(node) if note.get("taint") in words]


def _noted(kept: Object | None) -> Object | None:
    """The note of a change's own taint; None if there was none."""
    note = _parsed((kept or {}).get(ANNOTATION))
    return note if isinstance(note, dict) else None


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _text(notes: list[Object]) -> str:
    return json.dumps(notes[0] if len(notes) == 1 else notes, separators=(",", ":"))


def _note(ctx: Context, taint: Object) -> Object:
    """Stable for the run, so that a second look finds the very same."""
    why = ctx.run.alert.name if ctx.run.alert else ctx.run.trigger.reason
    return {"run": ctx.run.id, "at": iso(ctx.run.started_at), "reason": why, "taint": _word(taint)}


async def _change(ctx: Context, node: Object, taints: list[Object], *, note: Object, on: bool) -> None:
    """One JSON patch for the taints and the ``note`` of the one that is set (``on``) or taken off; the notes of others stay.

    Raises _RacedError if the node changed meanwhile (409, or 422 for its test).
    """
    metadata = node["metadata"]
    resource = Resource(kind="Node", name=metadata["name"], uid=metadata["uid"])
    notes = [one for one in _in_force(node) if one.get("taint") != note["taint"]] + ([note] if on else [])
    patch: list[Object] = [{"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}]
    if notes and not metadata.get("annotations"):
        patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    patch.append({"op": "add", "path": _POINTER, "value": _text(notes)} if notes else {"op": "remove", "path": _POINTER})
    patch.append({"op": "add", "path": "/spec/taints", "value": taints} if taints else {"op": "remove", "path": "/spec/taints"})
    gone = [one for one in _carried(node) if one not in taints]
    come = [one for one in taints if one not in _carried(node)]

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.patch(kinds.NODE, resource.name, patch, type="json", dry_run=dry_run, request_id=request_id)

    try:
        await ctx.change(
            "patch",
            resource,
            call,
            before={"taint": gone[0] if gone else None, ANNOTATION: None if on else _text([note])},
            after={"taint": come[0] if come else None, ANNOTATION: _text([note]) if on else None},
            undoable=on,
        )
    except StepFailed as error:
        if isinstance(error.__cause__, Conflict | Invalid):
            raise _RacedError from error
        raise
