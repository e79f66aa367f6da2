"""Restart the Cilium operator: a rollout restart of its Deployment, as ``kubectl rollout restart`` does it.

In: the operator's Deployment. Out: every replica is a new pod, and one of them leads. Nothing of the data plane changes meanwhile; taints,
BGP configuration, addresses of services and pod CIDRs wait. Refused: another Deployment, a rollout under way or paused, no replicas wanted,
an operator that crashes by itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.cilium.hold import hold
from remediator.cilium.once import refuse_second
from remediator.cilium.picture import OPERATOR_LEASE, OPERATOR_SELECTOR
from remediator.clock import iso
from remediator.cluster.rollout import RESTARTED_AT, restarted_at
from remediator.errors import Refused
from remediator.fields import Duration
from remediator.kube import kinds, records, workloads
from remediator.kube.errors import NotFound
from remediator.model import Change, Resource
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.kube.workloads import Deployment

__all__ = ["RestartOperator"]


class OperatorParameters(Parameters):
    """``{action: cilium.restart_operator, timeout: 5m, ready_for: 30s}``"""

    ready_for: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="how long the new replicas must stay available, with one of them leading, before the step succeeds",
    )


class RestartOperator(Action[OperatorParameters]):
    """Rolls the operator's Deployment, which is the target."""

    name: ClassVar[str] = "cilium.restart_operator"
    summary: ClassVar[str] = "restart the Cilium operator by a rollout and wait until a new replica leads"
    changes: ClassVar[str] = f"the annotation {RESTARTED_AT} of the Deployment's pod template; its pods are replaced one after the other"
    undone_by: ClassVar[str] = "nothing to undo: taking the annotation back would restart the operator once more"
    disruptive: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("pods",), verbs=("get", "list"), scope="cilium.namespace"),
        Rule(
            groups=("apps",),
            resources=("daemonsets", "deployments", "controllerrevisions"),
            verbs=("get", "list"),
            scope="cilium.namespace",
        ),
        Rule(groups=("apps",), resources=("deployments",), verbs=("patch",), scope="cilium.namespace"),
        Rule(groups=("coordination.k8s.io",), resources=("leases",), verbs=("get",), scope="cilium.namespace"),
    )
    brings: ClassVar[tuple[str, ...]] = ("crash_looping", "duplicate", "recurrence", "rollout_in_progress")
    Parameters: ClassVar[type[Parameters]] = OperatorParameters

    async def check(self, ctx: Context, parameters: OperatorParameters) -> None:
        """See Action: that it is the operator, and that a restart would start something."""
        del parameters
        target = ctx.run.target
        if target.kind != "Deployment":
            raise Refused(Reason.TARGET_MISSING, f"the operator is a Deployment; {target.key} is none")
        if ctx.changes:
            return  # it was sent before a crash; what is left to do disturbs nothing
        refuse_second(ctx.run, self.name)
        found = await _deployment(ctx)
        key, _, value = OPERATOR_SELECTOR.partition("=")
        if target.namespace != ctx.cilium.namespace or found.labels.get(key) != value:
            wanted = f"in {ctx.cilium.namespace} with {OPERATOR_SELECTOR}"
            raise Refused(
                Reason.TARGET_MISSING, f"{target.key} is not Cilium's operator ({wanted}); workload.rollout_restart is for others"
            )
        if found.spec.replicas == 0:
            raise Refused(Reason.OPERATOR_DOWN, f"{target.key} is scaled to 0: a restart would start nothing")
        if found.spec.paused:
            raise Refused(Reason.ROLLOUT_IN_PROGRESS, f"the rollout of {target.key} is paused: a restart would wait for its end")

    async def act(self, ctx: Context, parameters: OperatorParameters) -> str:
        """See Action."""
        if ctx.changes:
            before = ctx.changes[-1].before or {}
        else:
            found = await _deployment(ctx)
            before = await _look_before(ctx, found)
            await ctx.plan(_plan(ctx, found, before, parameters))
            await _patch(ctx, found, before)
        if ctx.dry_run:
            return f"would restart {ctx.run.target.key}"
        what = f"new replicas of {ctx.run.target.name} to stay available"
        await hold(ctx, what, lambda: _pending(ctx, before), lasting=parameters.ready_for)
        holder = await _holder(ctx)
        ctx.evidence("leader", {"before": before.get("leader", ""), "now": holder})
        return f"{ctx.run.target.name} was restarted" + (f"; {holder} leads" if holder else "")

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: the annotation is the change. Somebody else's later restart hides ours, and then nobody can tell."""
        try:
            raw = await ctx.kube.get(kinds.DEPLOYMENT, change.resource.name, change.resource.namespace)
        except NotFound:
            return Observed.ABSENT
        value = restarted_at(raw)
        if raw["metadata"]["uid"] != change.resource.uid or value == (change.before or {}).get(RESTARTED_AT):
            return Observed.ABSENT
        return Observed.APPLIED if value == (change.after or {}).get(RESTARTED_AT) else Observed.UNCLEAR


async def _deployment(ctx: Context) -> Deployment:
    return await ctx.kube.get(kinds.DEPLOYMENT, ctx.run.target.name, ctx.run.target.namespace, decode=workloads.Deployment)


async def _pods(ctx: Context) -> tuple[records.Pod, ...]:
    listing = await ctx.kube.list(kinds.POD, ctx.cilium.namespace, labels=OPERATOR_SELECTOR, decode=records.Pod)
    return tuple(listing.items)


async def _holder(ctx: Context) -> str:
    """Who leads, as its lease says; empty where there is no such lease."""
    try:
        lease = await ctx.kube.get(kinds.LEASE, OPERATOR_LEASE, ctx.cilium.namespace, decode=records.Lease)
    except NotFound:
        return ""
    return lease.spec.holder_identity or ""


async def _look_before(ctx: Context, found: Deployment) -> dict[str, Any]:
    raw = await ctx.kube.get(kinds.DEPLOYMENT, found.name, found.namespace)
    return {
        RESTARTED_AT: restarted_at(raw),
        "pods": sorted(pod.uid for pod in await _pods(ctx)),
        "leader": await _holder(ctx),
        "available": found.status.available_replicas,
    }


def _plan(ctx: Context, found: Deployment, before: dict[str, Any], parameters: OperatorParameters) -> list[str]:
    leads = f"; {before['leader']} leads now" if before["leader"] else ""
    return [
        f"restart {ctx.run.target.key} by a rollout ({before['available']} of {found.spec.replicas} replicas available{leads})",
        "meanwhile the data plane goes on; taints of agents, BGP configuration, service addresses and pod CIDRs wait",
        f"wait until every replica is new and available, with a new leader, for {format_duration(parameters.ready_for)}",
        "nothing is to be undone",
    ]


async def _patch(ctx: Context, found: Deployment, before: dict[str, Any]) -> None:
    """One merge patch that holds the uid, so that it fails (409) on a Deployment that was deleted and made anew."""
    resource = Resource(kind="Deployment", namespace=found.namespace, name=found.name, uid=found.uid)
    stamp = iso(ctx.clock.now())
    template = {"metadata": {"annotations": {RESTARTED_AT: stamp}}}
    body = {"metadata": {"uid": found.uid}, "spec": {"template": template}}

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.patch(
            kinds.DEPLOYMENT, resource.name, body, resource.namespace, type="merge", dry_run=dry_run, request_id=request_id
        )

    await ctx.change("patch", resource, call, before=before, after={RESTARTED_AT: stamp}, undoable=False)


async def _pending(ctx: Context, before: dict[str, Any]) -> str:
    """What is not as it should be yet (as ``kubectl rollout status`` judges, and who leads)."""
    found, name = await _deployment(ctx), ctx.run.target.name
    wanted, status = found.spec.replicas, found.status
    if found.rolling_out or status.available_replicas < wanted:
        return f"{name}: {status.updated_replicas} of {wanted} replicas are new, {status.available_replicas} available"
    old = [pod.name for pod in await _pods(ctx) if pod.uid in before.get("pods", ())]
    if old:
        return f"old replicas are still there: {', '.join(old)}"
    if before.get("leader") and await _holder(ctx) in (before["leader"], ""):
        return f"no new replica leads yet: {OPERATOR_LEASE} is held by {before['leader']}"
    return ""
