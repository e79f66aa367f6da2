"""Restart Cilium's Envoy on one node: delete its pod by uid and wait until the new one is Ready and stays so.

In: a Node. Out: a new Envoy. Proxied (L7, Gateway, Ingress) connections of the node are reset meanwhile. Refused: where Envoy runs inside
of the agent, on a node whose agent is not Ready (Envoy gets its listeners from it; an Envoy without them blocks what it should pass on,
cilium/cilium#35425, #34075), while its DaemonSet rolls out, and an Envoy that crashes by itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.cilium import judge, proof
from remediator.cilium.hold import hold
from remediator.cilium.once import refuse_second
from remediator.cilium.picture import ENVOY_SELECTOR
from remediator.cilium.reading import read_fleet, successors
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds, records
from remediator.kube.errors import NotFound
from remediator.model import Change, Resource
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.cilium.picture import Fleet
    from remediator.kube.records import Pod

__all__ = ["RestartEnvoy"]


class EnvoyParameters(Parameters):
    """``{action: cilium.restart_envoy, timeout: 5m, ready_for: 30s}``"""

    ready_for: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="how long the new Envoy must stay ready without a restart before the step succeeds",
    )
    wait_ready: bool = Field(
        default=True,
        description="wait until the new Envoy is ready; false where that is the symptom, "
        "so that the playbook's own verify judges it and a next rung can follow",
    )


class RestartEnvoy(Action[EnvoyParameters]):
    """Replaces the cilium-envoy pod on the target node, and no other."""

    name: ClassVar[str] = "cilium.restart_envoy"
    summary: ClassVar[str] = "replace the cilium-envoy pod of the target node and wait until the new one is ready"
    changes: ClassVar[str] = "deletes one pod; its DaemonSet makes a new one. Proxied connections of the node are reset"
    undone_by: ClassVar[str] = "nothing to undo: the DaemonSet replaces the pod"
    disruptive: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes",), verbs=("get",)),
        Rule(resources=("pods",), verbs=("get", "list", "delete"), scope="cilium.namespace"),
        Rule(
            groups=("apps",),
            resources=("daemonsets", "deployments", "controllerrevisions"),
            verbs=("get", "list"),
            scope="cilium.namespace",
        ),
    )
    brings: ClassVar[tuple[str, ...]] = ("agent_not_ready", "crash_looping", "duplicate", "recurrence", "rollout_in_progress")
    Parameters: ClassVar[type[Parameters]] = EnvoyParameters

    async def check(self, ctx: Context, parameters: EnvoyParameters) -> None:
        """See Action: the gates judge the agents, this judges the Envoys."""
        del parameters
        if ctx.run.target.kind != "Node":
            raise Refused(Reason.TARGET_MISSING, f"an Envoy runs on a Node; {ctx.run.target.key} is none")
        if ctx.changes:
            return  # the pod was deleted before a crash; what is left to do disturbs nothing
        refuse_second(ctx.run, self.name)
        fleet = await read_fleet(ctx.kube, ctx.cilium.namespace, ENVOY_SELECTOR)
        _envoy_on(ctx, fleet)
        _refuse_fleet(ctx, fleet)
        agents = await successors(ctx.kube, ctx.cilium.namespace, ctx.cilium.agent_selector, ctx.run.target.name)
        if not any(pod.ready for pod in agents):
            words = f"the agent of {ctx.run.target.name} is not ready: a new Envoy would get no listeners from it"
            raise Refused(Reason.AGENT_NOT_READY, words)

    async def act(self, ctx: Context, parameters: EnvoyParameters) -> str:
        """See Action."""
        if ctx.changes:
            old = ctx.changes[-1].resource
        else:
            pod = _envoy_on(ctx, await read_fleet(ctx.kube, ctx.cilium.namespace, ENVOY_SELECTOR))
            old = Resource(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid)
            await ctx.plan(_plan(ctx, pod, parameters))
            await _delete(ctx, old, pod)
        if ctx.dry_run:
            return f"would replace {old.name}"
        if not parameters.wait_ready:
            return f"{old.name} was replaced by {await _successor(ctx, old.uid)}"
        new = await _prove(ctx, old.uid, parameters.ready_for)
        return f"{old.name} was replaced by {new.name}, ready for {format_duration(parameters.ready_for)}"

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: the delete carried the uid, so the old pod's fate tells."""
        try:
            pod = await ctx.kube.get(kinds.POD, change.resource.name, change.resource.namespace, decode=records.Pod)
        except NotFound:
            return Observed.APPLIED
        return Observed.APPLIED if pod.uid != change.resource.uid or pod.terminating else Observed.ABSENT


def _envoy_on(ctx: Context, fleet: Fleet) -> Pod:
    """The one live Envoy pod of the target node. Raises Refused."""
    node, here = ctx.run.target.name, fleet.on(ctx.run.target.name)
    if not fleet.pods and not fleet.daemonsets:
        where = f"no pod or DaemonSet with {ENVOY_SELECTOR} in {ctx.cilium.namespace}"
        raise Refused(Reason.TARGET_MISSING, f"Envoy runs inside of the agents here ({where}); restart the agent instead")
    if not here:
        raise Refused(Reason.TARGET_MISSING, f"no Envoy pod on {node} that is not terminating already")
    if len(here) > 1:
        raise Refused(Reason.TARGET_AMBIGUOUS, f"{len(here)} Envoy pods on {node}: {', '.join(pod.name for pod in here)}")
    if fleet.daemonset_of(here[0]) is None:
        raise Refused(Reason.UNMANAGED_PODS, f"{here[0].name} belongs to no DaemonSet; nothing would replace it")
    return here[0]


def _refuse_fleet(ctx: Context, fleet: Fleet) -> None:
    node = ctx.run.target.name
    for reason, words in (
        (Reason.ROLLOUT_IN_PROGRESS, judge.rolling_out(fleet) or judge.would_upgrade(fleet, node)),
        (Reason.CRASH_LOOPING, judge.crash_loop(fleet.on(node), ctx.clock.now())),
    ):
        if words:
            raise Refused(reason, words)


def _plan(ctx: Context, pod: Pod, parameters: EnvoyParameters) -> list[str]:
    node, owner = ctx.run.target.name, pod.controller
    made = f"DaemonSet {owner.name if owner else ''} makes a new one on {node}"
    proved = f"wait for the new Envoy to be Ready for {format_duration(parameters.ready_for)} without a restart"
    return [
        f"delete pod {pod.namespace}/{pod.name} (uid {pod.uid}, {'Ready' if pod.ready else 'not ready'}); {made}",
        f"meanwhile proxied connections of {node} (L7 policy, Gateway, Ingress) are reset; all others go on",
        proved if parameters.wait_ready else "wait for the new Envoy's pod; whether it gets Ready is for the playbook to verify",
        "nothing is to be undone",
    ]


async def _delete(ctx: Context, old: Resource, pod: Pod) -> None:
    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.delete(kinds.POD, old.name, old.namespace, uid=old.uid, dry_run=dry_run, request_id=request_id)

    before = {"uid": old.uid, "node": pod.node_name, "ready": pod.ready, "restarts": pod.restarts, "revision": pod.revision}
    await ctx.change("delete", old, call, before=before, undoable=False)


async def _successor(ctx: Context, old_uid: str) -> str:
    """The name of the new pod, as soon as there is one. Raises StepFailed."""

    async def made() -> str | None:
        pods = await successors(ctx.kube, ctx.cilium.namespace, ENVOY_SELECTOR, ctx.run.target.name)
        return next((pod.name for pod in pods if pod.uid != old_uid), None)

    return await ctx.wait_for(f"the new Envoy of {ctx.run.target.name}", made)


async def _prove(ctx: Context, old_uid: str, ready_for: timedelta) -> Pod:
    """The new Envoy, once it stayed ready. Raises StepFailed."""
    seen: list[Pod] = []

    async def pending() -> str:
        pods = await successors(ctx.kube, ctx.cilium.namespace, ENVOY_SELECTOR, ctx.run.target.name)
        later = next((pod for pod in pods if pod.uid != old_uid), None)
        if later is not None and seen and (failed := proof.failed_again(later, seen[0])):
            raise StepFailed(failed)
        words = proof.new_pod(pods, old_uid)
        if later is not None and not words and not seen:
            seen.append(later)
        return words

    await hold(ctx, f"the new Envoy of {ctx.run.target.name} to stay ready", pending, lasting=ready_for)
    return seen[0]
