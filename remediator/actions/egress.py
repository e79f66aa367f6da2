"""Move the egress gateway from a node that is gone to a standby: by the label that the policies' own node selectors look for.

In: the node that is gone. Out: no node but the standby is selected, as agents see it. They look at the labels of CiliumNodes, which each
node's own agent copies from its Node (cilium/cilium pkg/egressgateway/manager.go, pkg/nodediscovery), and of several nodes that fit they
take the first by name, dead or not. So the label leaves the dead node first, and its CiliumNode, since its agent cannot do that; then the
standby gets it. There is never a moment with two. The undo goes the other way, and only once the node is back.
Refused: a node that is fine, selectors that are more than labels or name one node, policies with an egressIP, no standby that is ready.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.actions.shifting import arrive, note, persist, pointer, put_back, seen_by_mark, send, whole_patch
from remediator.bgp.assemble import marked_by
from remediator.errors import Refused, StepFailed
from remediator.kube import kinds, records
from remediator.kube.errors import NotFound
from remediator.model import TriggerKind
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.kube import Kind
    from remediator.model import Change

__all__ = ["MOVED_BY", "MoveGateway"]

Object = dict[str, Any]
Labels = dict[str, str | None]
MOVED_BY = "remediator.dev/egress-moved-by"
STANDBY = "remediator.dev/egress-standby=true"
_AT_ONCE = timedelta(0)
_ONE_NODE = "kubernetes.io/hostname"


class MoveParameters(Parameters):
    """``{action: egress.move_gateway, standby: egress-standby=true, timeout: 5m}``"""

    standby: str = Field(default=STANDBY, min_length=1, description="label selector of nodes that may take over; the first ready one does")
    allow_egress_ip: bool = Field(default=False, description="also for policies with an egressIP: that address moves with the gateway")
    planned: bool = Field(default=False, description="also from a node that is fine")


class MoveGateway(Action[MoveParameters]):
    """Two nodes, one label."""

    name: ClassVar[str] = "egress.move_gateway"
    summary: ClassVar[str] = "move the egress gateway's node label from the target node to a standby that is ready"
    changes: ClassVar[str] = f"labels and the annotation {MOVED_BY} of two Nodes, and labels of the target's CiliumNode"
    undone_by: ClassVar[str] = "the labels before, once the node is back, if nobody changed them since"
    disruptive: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes",), verbs=("get", "list", "patch")),
        Rule(resources=("pods",), verbs=("list",), scope="cilium.namespace"),
        Rule(groups=("cilium.io",), resources=("ciliumnodes",), verbs=("get", "list", "patch")),
        Rule(groups=("cilium.io",), resources=("ciliumegressgatewaypolicies",), verbs=("list",)),
    )
    Parameters: ClassVar[type[Parameters]] = MoveParameters

    async def check(self, ctx: Context, parameters: MoveParameters) -> None:
        """See Action."""
        target = ctx.run.target
        if target.kind != "Node":
            raise Refused(Reason.TARGET_MISSING, f"an egress gateway is a node; {target.key} is none")
        if ctx.changes:
            return
        if not parameters.planned and ctx.run.trigger.kind is not TriggerKind.MANUAL and not await _sick(ctx, target.name):
            raise Refused(Reason.NOT_FIRING, f"{target.key} and its Cilium agent are ready: there is no reason to move")
        labels = await _labels(ctx, parameters)
        if others := await _selected(ctx, labels, but=target.name):
            raise Refused(
                Reason.TARGET_AMBIGUOUS, f"{', '.join(others)} is selected too: which of them is meant to take over is not for us"
            )
        await _standby(ctx, parameters)

    async def act(self, ctx: Context, parameters: MoveParameters) -> str:
        """See Action."""
        name = ctx.run.target.name
        done = {(change.resource.kind, change.resource.name): change for change in ctx.changes}
        first = done.get(("Node", name))
        labels: dict[str, str] = (first.before or {})["labels"] if first else await _labels(ctx, parameters)
        standby: str = (first.after or {})["standby"] if first else await _standby(ctx, parameters)
        gone: Labels = dict.fromkeys(labels)
        await ctx.plan(
            [
                f"take {_shown(labels)} from Node {name}, and from its CiliumNode where its agent cannot",
                f"label the standby {standby} with it; Cilium's agents then send egress traffic there",
            ]
        )
        if first is None:
            await self._relabel(ctx, kinds.NODE, name, gone, standby=standby, origin=name)
        if ctx.dry_run:
            return f"would move the egress gateway from {name} to {standby}"
        if ("CiliumNode", name) not in done and await _sick(ctx, name):
            await self._unlabel_copy(ctx, name, labels)
        await arrive(ctx, f"{name} to be selected no more", lambda: _still(ctx, labels, name), hold=_AT_ONCE, meanwhile="")
        if ("Node", standby) not in done:
            await self._relabel(ctx, kinds.NODE, standby, dict(labels), standby=standby, origin=name)
        await arrive(ctx, f"{standby} to be selected", lambda: _only(ctx, labels, standby), hold=_AT_ONCE, meanwhile="")
        return f"the egress gateway moved from {name} to {standby}"

    async def _relabel(self, ctx: Context, kind: Kind, name: str, after: Labels, **more: str) -> Change:
        async def attempt() -> Change:
            node = await ctx.kube.get(kind, name)
            before = _current(node, after)
            mark = note(ctx, before)
            patch = whole_patch(node, mark, *_operations(before, after), by=MOVED_BY)
            return await send(ctx, kind, node, patch, before={"labels": before, **more}, after={"labels": after, MOVED_BY: mark, **more})

        return await persist(f"Node {name}", attempt)

    async def _unlabel_copy(self, ctx: Context, name: str, labels: dict[str, str]) -> None:
        """No mark on a CiliumNode: the agent would take it away when it comes back."""

        async def attempt() -> None:
            try:
                copy = await ctx.kube.get(kinds.CILIUM_NODE, name)
            except NotFound:
                return
            before = {key: value for key, value in _current(copy, labels).items() if value is not None}
            if before:
                gone: Labels = dict.fromkeys(before)
                await send(
                    ctx, kinds.CILIUM_NODE, copy, _bare(copy, _operations(before, gone)), before={"labels": before}, after={"labels": gone}
                )

        await persist(f"CiliumNode {name}", attempt)

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: on Nodes the mark tells, on a CiliumNode the labels do."""
        if change.resource.kind == "Node":
            return await seen_by_mark(ctx, kinds.NODE, change, by=MOVED_BY)
        try:
            copy = await ctx.kube.get(kinds.CILIUM_NODE, change.resource.name)
        except NotFound:
            return Observed.ABSENT
        ours = (change.after or {})["labels"]
        return Observed.APPLIED if _current(copy, ours) == ours else Observed.ABSENT

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        ours, previous = (change.after or {})["labels"], (change.before or {})["labels"]
        if change.resource.kind == "CiliumNode":
            return await self._undo_copy(ctx, change, ours, previous)
        await _refuse_two_or_none(ctx, change)
        back = await put_back(
            ctx,
            kinds.NODE,
            change,
            unchanged=lambda node: _current(node, ours) == ours,
            operations=lambda _: _operations(ours, previous),
            by=MOVED_BY,
        )
        return f"the labels of {change.resource.key} are as before" if back else None

    async def _undo_copy(self, ctx: Context, change: Change, ours: Labels, previous: Labels) -> str | None:
        said = f"the labels of {change.resource.key} are as before"

        async def attempt() -> str | None:
            try:
                copy = await ctx.kube.get(kinds.CILIUM_NODE, change.resource.name)
            except NotFound:
                return None
            now = _current(copy, ours)
            if now != ours:
                return said if now == previous else None
            await _refuse_two_or_none(ctx, change)
            patch = _bare(copy, _operations(ours, previous))
            await send(ctx, kinds.CILIUM_NODE, copy, patch, before={"labels": ours}, after={"labels": previous}, undoable=False)
            return said

        return await persist(change.resource.key, attempt)


async def _labels(ctx: Context, parameters: MoveParameters) -> dict[str, str]:
    """What the selectors of the policies that select the target ask for. Raises Refused."""
    node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
    have = node["metadata"].get("labels") or {}
    wanted: dict[str, str] = {}
    names = []
    for policy in (await ctx.kube.list(kinds.EGRESS_POLICY)).items:
        spec, name = policy["spec"], policy["metadata"]["name"]
        for gateway in spec.get("egressGateways") or [spec["egressGateway"]]:
            selector = gateway.get("nodeSelector") or {}
            labels = selector.get("matchLabels") or {}
            if not labels.items() <= have.items():
                continue
            if selector.get("matchExpressions") or not labels or _ONE_NODE in labels:
                raise Refused(Reason.TARGET_AMBIGUOUS, f"the node selector of {name} is more than labels that can be moved: {selector}")
            if gateway.get("egressIP") and not parameters.allow_egress_ip:
                raise Refused(Reason.TARGET_AMBIGUOUS, f"{name} wants the egressIP {gateway['egressIP']}, which the standby may not have")
            wanted |= labels
            names.append(name)
    if not names:
        raise Refused(Reason.TARGET_MISSING, f"no CiliumEgressGatewayPolicy selects {ctx.run.target.key}")
    return wanted


async def _standby(ctx: Context, parameters: MoveParameters) -> str:
    found = await ctx.kube.list(kinds.NODE, labels=parameters.standby)
    why = []
    for node in sorted(found.items, key=lambda one: str(one["metadata"]["name"])):
        name = node["metadata"]["name"]
        if name == ctx.run.target.name:
            continue
        busy = marked_by(node["metadata"].get("annotations") or {}, MOVED_BY)
        sick = (
            "it holds the label of another run"
            if busy
            else "it is cordoned"
            if node["spec"].get("unschedulable")
            else await _sick(ctx, name)
        )
        if not sick:
            return str(name)
        why.append(f"{name}: {sick}")
    raise Refused(Reason.TARGET_MISSING, f"no standby with {parameters.standby} is ready{': ' + '; '.join(why) if why else ''}")


async def _sick(ctx: Context, name: str) -> str:
    """Why the node cannot be a gateway; empty if it can."""
    try:
        node = await ctx.kube.get(kinds.NODE, name)
    except NotFound:
        return "it is gone"
    conditions = (node.get("status") or {}).get("conditions") or ()
    if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
        return "it is not Ready"
    agents = await ctx.kube.list(
        kinds.POD, ctx.cilium.namespace, labels=ctx.cilium.agent_selector, fields=f"spec.nodeName={name}", decode=records.Pod
    )
    return "" if any(pod.ready for pod in agents.items) else "its Cilium agent is not ready"


async def _selected(ctx: Context, labels: Mapping[str, str], *, but: str = "") -> list[str]:
    """The nodes that agents select by these labels now, first by name first."""
    copies = (await ctx.kube.list(kinds.CILIUM_NODE)).items
    fitting = [one["metadata"]["name"] for one in copies if labels.items() <= (one["metadata"].get("labels") or {}).items()]
    return sorted(name for name in fitting if name != but)


async def _still(ctx: Context, labels: Mapping[str, str], name: str) -> str:
    return f"{name} is still selected" if name in await _selected(ctx, labels) else ""


async def _only(ctx: Context, labels: Mapping[str, str], standby: str) -> str:
    found = await _selected(ctx, labels)
    if [one for one in found if one != standby]:
        raise StepFailed(f"{', '.join(found)} carry the gateway's labels: somebody else labelled one of them meanwhile")
    return "" if found else f"{standby}'s agent has not taken over the label yet"


async def _refuse_two_or_none(ctx: Context, change: Change) -> None:
    """The standby keeps the label until the node is back; the node gets it only once no other has it."""
    wanted = {key: value for key, value in {**(change.after or {})["labels"], **(change.before or {})["labels"]}.items() if value}
    name = change.resource.name
    origin = (change.before or {}).get("origin", name)
    if name != origin:
        if sick := await _sick(ctx, origin):
            raise Refused(Reason.AGENT_NOT_READY, f"{origin} cannot be the gateway again: {sick}")
        return
    holding = [node for node in await _labelled(ctx, wanted) if node != name]
    if holding:
        raise Refused(Reason.TARGET_BUSY, f"{', '.join(holding)} is the gateway; there must not be two")


async def _labelled(ctx: Context, labels: Mapping[str, str]) -> list[str]:
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return [node["metadata"]["name"] for node in (await ctx.kube.list(kinds.NODE, labels=selector)).items]


def _current(thing: Object, keys: Mapping[str, Any]) -> Labels:
    labels = thing["metadata"].get("labels") or {}
    return {key: labels.get(key) for key in keys}


def _operations(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> list[Object]:
    patch: list[Object] = []
    for key, value in after.items():
        path = pointer("metadata", "labels", key)
        if before[key] is not None:
            patch.append({"op": "test", "path": path, "value": before[key]})
        if value is not None:
            patch.append({"op": "add", "path": path, "value": value})
        elif before[key] is not None:
            patch.append({"op": "remove", "path": path})
    return patch


def _bare(thing: Object, operations: list[Object]) -> list[Object]:
    """The patch without a mark."""
    metadata = thing["metadata"]
    return [*({"op": "test", "path": f"/metadata/{field}", "value": metadata[field]} for field in ("uid", "resourceVersion")), *operations]


def _shown(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
