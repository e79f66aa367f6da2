"""Taint a node, with an owner: an annotation names the run and the taint, and only that taint is ever taken off.

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
        mark, carried = _mark(node), _carried(node)
        if mark is not None and mark.get("run") != ctx.run.id and any(_word(one) == mark.get("taint") for one in carried):
            raise Refused(Reason.TARGET_BUSY, f"the taint {mark.get('taint')} of run {mark.get('run')} is still there")
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
                await _change(ctx, node, [*_carried(node), taint], note=_note(ctx, taint))
            except _RacedError:
                continue
            return f"would taint {_word(taint)}" if ctx.dry_run else f"tainted {_word(taint)}"
        raise StepFailed(f"{ctx.run.target.key} changed under every one of {_TRIES} tries")

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: taint and annotation come in one patch, so the annotation tells."""
        try:
            node = await ctx.kube.get(kinds.NODE, change.resource.name)
        except NotFound:
            return Observed.ABSENT
        here = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
        if node["metadata"]["uid"] != change.resource.uid:
            return Observed.ABSENT
        return Observed.APPLIED if here == (change.after or {}).get(ANNOTATION) else Observed.ABSENT

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        ours = (change.after or {}).get("taint") or {}
        for _ in range(_TRIES):
            try:
                node = await ctx.kube.get(kinds.NODE, change.resource.name)
            except NotFound:
                return None
            here = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
            others = [one for one in _carried(node) if not _ours(one, ours)]
            touched = len(others) == len(_carried(node)) or here != (change.after or {}).get(ANNOTATION)
            if node["metadata"]["uid"] != change.resource.uid or touched:
                return None
            try:
                await _change(ctx, node, others, note=None)
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


def _mark(node: Object) -> Object | None:
    text = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return {"run": "", "taint": ""}
    return value if isinstance(value, dict) else None


def _note(ctx: Context, taint: Object) -> str:
    """Stable for the run, so that a second look finds the very same text."""
    why = ctx.run.alert.name if ctx.run.alert else ctx.run.trigger.reason
    return json.dumps({"run": ctx.run.id, "at": iso(ctx.run.started_at), "reason": why, "taint": _word(taint)}, separators=(",", ":"))


async def _change(ctx: Context, node: Object, taints: list[Object], *, note: str | None) -> None:
    """One JSON patch for taints and annotation. Raises _RacedError if the node changed meanwhile (409, or 422 for its test)."""
    metadata = node["metadata"]
    resource = Resource(kind="Node", name=metadata["name"], uid=metadata["uid"])
    patch: list[Object] = [{"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}]
    if note is not None and not metadata.get("annotations"):
        patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    patch.append({"op": "remove", "path": _POINTER} if note is None else {"op": "add", "path": _POINTER, "value": note})
    patch.append({"op": "add", "path": "/spec/taints", "value": taints} if taints else {"op": "remove", "path": "/spec/taints"})
    before = [one for one in _carried(node) if one not in taints]
    after = [one for one in taints if one not in _carried(node)]

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.patch(kinds.NODE, resource.name, patch, type="json", dry_run=dry_run, request_id=request_id)

    try:
        await ctx.change(
            "patch",
            resource,
            call,
            before={"taint": before[0] if before else None, ANNOTATION: (metadata.get("annotations") or {}).get(ANNOTATION)},
            after={"taint": after[0] if after else None, ANNOTATION: note},
            undoable=note is not None,
        )
    except StepFailed as error:
        if isinstance(error.__cause__, Conflict | Invalid):
            raise _RacedError from error
        raise
