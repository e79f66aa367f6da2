"""Take one node out of BGP, by a label that makes every configuration let go of it, and believe it only when it has arrived.

A cordon does not stop BGP, nor does any label of kubernetes.io (operator/pkg/bgpv2 never looks at them). The operator matches the labels of
the CiliumNode, which the node's agent copies from the Node; then it deletes the CiliumBGPNodeConfig, the agent closes its sessions, and the
series of the metrics vanish. In this order it is waited for. Where the selector heeds ``remediator.dev/bgp-drain`` that label is used, else
the selector's own label with the value before kept in the record and on the node (Cilium's guide, "Shutting Down a Node").
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.actions.shifting import (
    READS,
    Look,
    arrive,
    come_back,
    look,
    note,
    owns,
    persist,
    pointer,
    put_back,
    recorded,
    refuse_unknown_state,
    seen_by_mark,
    send,
    whole_patch,
)
from remediator.bgp.assemble import selectors
from remediator.bgp.coverage import Rules, losses, plan_lines
from remediator.bgp.model import Metrics
from remediator.bgp.objects import MARK
from remediator.bgp.read import read_metrics
from remediator.bgp.selector import LabelChange, Method, NoWay, way_out
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.bgp.model import Node
    from remediator.model import Change

__all__ = ["WithdrawNode"]

Object = dict[str, Any]


class WithdrawParameters(Parameters):
    """``{action: bgp.withdraw_node, timeout: 3m, method: auto}``"""

    method: Method = Field(
        default="auto",
        description="drain_label: remediator.dev/bgp-drain; selector_label: the selector's own label; auto: the first that works",
    )
    hold: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        le=timedelta(hours=1),
        description="how long to wait once it is withdrawn; absent: until every router has forgotten its routes (hold or restart time)",
    )


class WithdrawNode(Action[WithdrawParameters]):
    """Makes the target node announce nothing any more, and no other node anything else."""

    name: ClassVar[str] = "bgp.withdraw_node"
    summary: ClassVar[str] = "take the target node out of BGP and wait until its routes are gone"
    changes: ClassVar[str] = f"one label of the Node (remediator.dev/bgp-drain, or the selector's own) and the annotation {MARK}"
    undone_by: ClassVar[str] = "the label's exact value before, if nobody changed it since; then the sessions and routes have to come back"
    disruptive: ClassVar[bool] = True
    undo_disturbs: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (Rule(resources=("nodes",), verbs=("get", "list", "patch")), *READS)
    brings: ClassVar[tuple[str, ...]] = ("bgp_agent", "bgp_conflict", "bgp_shift", "operator_down", "route_coverage")
    Parameters: ClassVar[type[Parameters]] = WithdrawParameters

    async def check(self, ctx: Context, parameters: WithdrawParameters) -> None:
        """See Action; the preconditions are the gates that it brings, and here what they cannot see."""
        if ctx.run.target.kind != "Node":
            raise Refused(Reason.TARGET_MISSING, f"only a Node can be withdrawn; {ctx.run.target.key} is none")
        if ctx.changes:
            return  # the label was set before a crash; what is left to do disturbs nothing
        seen = await look(ctx)
        node = _target(ctx, seen)
        if not _announces(node):
            return
        _refuse(seen, node)
        _way(seen, node, parameters.method)

    async def act(self, ctx: Context, parameters: WithdrawParameters) -> str:
        """See Action."""
        change = ctx.changes[-1] if ctx.changes else await persist(ctx.run.target.key, lambda: self._withdraw(ctx, parameters))
        if change is None:
            return f"{ctx.run.target.name} announces nothing; left as it is"
        if ctx.dry_run:
            return f"would withdraw {ctx.run.target.name}: {_words(change)}"
        hold = parameters.hold if parameters.hold is not None else _forgotten_after(change)
        await _converge(ctx, change, hold)
        ended = ", ".join(sorted(key.partition("/")[2] for key in _sessions(change)))
        return f"withdrew {ctx.run.target.name} by {_words(change)}; sessions ended: {ended or 'none'}; gone for {format_duration(hold)}"

    async def _withdraw(self, ctx: Context, parameters: WithdrawParameters) -> Change | None:
        """Set the label, as one patch with the mark; None if there is nothing to withdraw."""
        seen = await look(ctx)
        node = _target(ctx, seen)
        if not _announces(node):
            return None
        way = _way(seen, node, parameters.method)
        thing = await ctx.kube.get(kinds.NODE, node.name)
        previous = (thing["metadata"].get("labels") or {}).get(way.key)
        await ctx.plan(_plan(ctx, seen, node, way, previous))
        mark = note(ctx, {way.key: previous})
        sessions = recorded([node])
        by_metrics = seen.routes.metrics is Metrics.READ
        before = {"labels": {way.key: previous}, MARK: None, "sessions": sessions, "metrics": by_metrics}
        # What undo and a restart have to know stands on both sides: it is no difference that this call makes.
        after = {"labels": {way.key: way.value}, MARK: mark, "sessions": sessions, "metrics": by_metrics}
        patch = whole_patch(thing, mark, _labelled(thing, way.key, way.value))
        return await send(ctx, kinds.NODE, thing, patch, before=before, after=after)

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: label and mark come together."""
        return await seen_by_mark(ctx, kinds.NODE, change)

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action: puts the label back as it was, if label and mark are still this run's, and waits for the sessions."""
        ((key, ours),) = (change.after or {})["labels"].items()
        ((_, previous),) = (change.before or {})["labels"].items()
        put = await put_back(
            ctx,
            kinds.NODE,
            change,
            unchanged=lambda thing: (thing["metadata"].get("labels") or {}).get(key) == ours,
            operations=lambda thing: [_labelled(thing, key, previous)],
        )
        if not put:
            return None
        await self.restored(ctx, change)
        return f"{change.resource.name} speaks BGP again: {_words(change)} taken back, {len(_sessions(change))} sessions are up"

    async def restored(self, ctx: Context, change: Change) -> None:
        """See Action: sessions and routes as recorded."""
        await come_back(ctx, f"the label of {change.resource.name}", _sessions(change))


def _target(ctx: Context, seen: Look) -> Node:
    node = seen.routes.node(ctx.run.target.name)
    if node is None:
        raise Refused(Reason.TARGET_MISSING, f"there is no CiliumNode {ctx.run.target.name}")
    return node


def _announces(node: Node) -> bool:
    return bool(node.configured or node.configs)


def _refuse(seen: Look, node: Node) -> None:
    refuse_unknown_state(seen.routes)
    if seen.routes.operator:  # also where no Deployment runs it and only its lease tells
        raise Refused(Reason.OPERATOR_DOWN, f"{seen.routes.operator}: nobody would delete the CiliumBGPNodeConfig of {node.name}")
    legacy = any(name.startswith("CiliumBGPPeeringPolicy/") for name in node.configs)
    if legacy and seen.routes.metrics is not Metrics.READ:
        raise Refused(Reason.STALE_METRIC, f"a CiliumBGPPeeringPolicy reports no state, and {seen.routes.metrics_detail}")


def _way(seen: Look, node: Node, method: Method) -> LabelChange:
    """Evaluated here, on the labels that the operator will see, with the change applied: it must stop matching."""
    found = way_out(selectors(seen.objects), node.labels, method)
    if isinstance(found, NoWay):
        raise Refused(Reason.PROTECTED, found.why)
    return found


def _plan(ctx: Context, seen: Look, node: Node, way: LabelChange, previous: str | None) -> list[str]:
    was = "absent" if previous is None else f"{way.key}={previous}"
    lines = [f"withdraw {node.name}: {way} (was {was}), so that {', '.join(node.configs)} lets go of it"]
    lines += [f"the session with {s.peer} ({s.address}) ends; it carries {s.advertised} routes" for s in node.sessions]
    return [*lines, *plan_lines(losses(seen.routes, Rules(min_speakers=ctx.min_speakers), nodes=[node.name]))]


def _labelled(thing: Object, key: str, value: str | None) -> dict[str, Any]:
    """The operation that sets a label, or takes it off."""
    at = pointer("metadata", "labels", key)
    if value is not None:
        labels = thing["metadata"].get("labels")
        return {"op": "add", "path": at, "value": value} if labels else {"op": "add", "path": "/metadata/labels", "value": {key: value}}
    return {"op": "remove", "path": at}


def _sessions(change: Change) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = (change.before or {}).get("sessions") or {}
    return found


def _words(change: Change) -> str:
    ((key, value),) = (change.after or {})["labels"].items()
    return str(LabelChange(key=key, value=value, method="selector_label"))


def _forgotten_after(change: Change) -> timedelta:
    return timedelta(seconds=max((session["hold_seconds"] for session in _sessions(change).values()), default=0))


async def _converge(ctx: Context, change: Change, hold: timedelta) -> None:
    """Wait in the order in which it travels: Node, CiliumNode, CiliumBGPNodeConfig, metrics; then until it has held for ``hold``."""
    words = "withdrawn; the routers forget its routes"
    await arrive(ctx, f"{change.resource.name} to be withdrawn", lambda: _pending(ctx, change), hold=hold, meanwhile=words)


async def _pending(ctx: Context, change: Change) -> str:
    """What has not followed yet; empty if nothing. Raises StepFailed if somebody took the label back."""
    ((key, value),) = (change.after or {})["labels"].items()
    name = change.resource.name
    thing = await ctx.kube.get(kinds.NODE, name)
    if not owns(thing, change.run) or (thing["metadata"].get("labels") or {}).get(key) != value:
        raise StepFailed(f"somebody changed the label {key} or the annotation {MARK} of {name} meanwhile")
    cilium = await ctx.kube.get(kinds.CILIUM_NODE, name)
    if (cilium["metadata"].get("labels") or {}).get(key) != value:
        return f"the agent has still to copy {key} to the CiliumNode"
    try:
        await ctx.kube.get(kinds.BGP_NODE_CONFIG, name)
    except NotFound:
        return await _metrics_pending(ctx, change, thing)
    return "the operator has still to delete the CiliumBGPNodeConfig"


async def _metrics_pending(ctx: Context, change: Change, node: Object) -> str:
    """Only where Prometheus had sessions when it began: then the series have to vanish."""
    if not (change.before or {}).get("metrics"):
        return ""
    name = change.resource.name
    addresses = {a["address"]: name for a in (node.get("status") or {}).get("addresses") or ()}
    metrics = await read_metrics(ctx.prometheus, addresses)
    if metrics.state is Metrics.UNREADABLE:
        return f"Prometheus could not be asked: {metrics.detail}"
    left = sorted(address for found, address in metrics.up if found == name)
    return f"Prometheus still has its sessions with {', '.join(left)}" if left else ""
