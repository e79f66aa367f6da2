"""Restart the Cilium agent of one node: delete its pod by uid, and believe nothing until the new one has proved itself.

The checks before and after are those of Cilium's issues and docs that the Kubernetes API can show: never on a node that is not Ready (the
delete would hang), never while the DaemonSet rolls out or would silently upgrade (OnDelete), never while another agent is down, and never
an agent that crash-loops by itself (cilium/cilium#27922, #30609, #29405: Ready alone says little about the datapath).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.clock import iso
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.model import Change, Resource
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RestartAgent"]

TAINT = "node.cilium.io/agent-not-ready"
"""Set and removed by the Cilium operator (operator/watchers/node_taint.go)."""
_CRASHES = 3
_CRASH_WINDOW = timedelta(minutes=30)
_REVISION = "controller-revision-hash"

Object = dict[str, Any]


class RestartParameters(Parameters):
    """``{action: cilium.restart_agent, timeout: 10m, ready_for: 60s}``"""

    ready_for: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="how long the new agent must stay ready without a restart before the step succeeds",
    )
    scrape_alerts: tuple[str, ...] = Field(
        default=(), description="alerts that only say that a scrape failed; while the pod is Ready they are no reason to restart it"
    )


class RestartAgent(Action[RestartParameters]):
    """Replaces the agent pod on the target node, and no other."""

    name: ClassVar[str] = "cilium.restart_agent"
    summary: ClassVar[str] = "replace the Cilium agent pod of the target node and wait until the new one works"
    changes: ClassVar[str] = "deletes one pod; its DaemonSet makes a new one. BGP sessions of the node drop unless graceful restart is on"
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
        Rule(groups=("cilium.io",), resources=("ciliumnodes", "ciliumendpoints"), verbs=("get", "list")),
    )
    Parameters: ClassVar[type[Parameters]] = RestartParameters

    async def check(self, ctx: Context, parameters: RestartParameters) -> None:
        """See Action; each refusal is one of the points of the module's first lines."""
        if ctx.run.target.kind != "Node":
            raise Refused(Reason.TARGET_MISSING, f"an agent runs on a Node; {ctx.run.target.key} is none")
        if ctx.changes:
            return  # the pod was deleted before a crash; what is left to do disturbs nothing
        _refuse_unready_node(await ctx.kube.get(kinds.NODE, ctx.run.target.name))
        agents = await _agents(ctx)
        pod = _agent_on(ctx, agents)
        _refuse_stale_metric(ctx, parameters, pod)
        _refuse_crash_loop(pod, ctx.clock.now())
        _refuse_if_others_are_down(ctx, agents)
        await _refuse_rollout(ctx, pod)
        await _refuse_without_operator(ctx)

    async def act(self, ctx: Context, parameters: RestartParameters) -> str:
        """See Action."""
        if ctx.changes:
            old = ctx.changes[-1].resource
        else:
            pod = _agent_on(ctx, await _agents(ctx))
            old = _resource(pod)
            await _delete(ctx, old, pod)
        if ctx.dry_run:
            return f"would replace {old.name}"
        new = await ctx.wait_for(f"a new agent on {ctx.run.target.name}", lambda: _successor(ctx, old.uid))
        await _settle(ctx, new, parameters.ready_for)
        return f"{old.name} was replaced by {new['metadata']['name']}, ready for {format_duration(parameters.ready_for)}"

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: the delete carried the uid, so the old pod's fate tells."""
        try:
            pod = await ctx.kube.get(kinds.POD, change.resource.name, change.resource.namespace)
        except NotFound:
            return Observed.APPLIED
        gone = pod["metadata"]["uid"] != change.resource.uid or "deletionTimestamp" in pod["metadata"]
        return Observed.APPLIED if gone else Observed.ABSENT


async def _delete(ctx: Context, old: Resource, pod: Object) -> None:
    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.delete(kinds.POD, old.name, old.namespace, uid=old.uid, dry_run=dry_run, request_id=request_id)

    before = {"uid": old.uid, "node": ctx.run.target.name, "ready": _ready(pod), "restarts": _restarts(pod), "revision": _revision(pod)}
    await ctx.change("delete", old, call, before=before, undoable=False)


async def _agents(ctx: Context) -> list[Object]:
    listing = await ctx.kube.list(kinds.POD, ctx.cilium.namespace, labels=ctx.cilium.agent_selector)
    return list(listing.items)


def _agent_on(ctx: Context, agents: Iterable[Object]) -> Object:
    """The one live agent pod of the target node. Raises Refused if there is none, or more than one."""
    here = [pod for pod in agents if pod["spec"].get("nodeName") == ctx.run.target.name]
    live = [pod for pod in here if "deletionTimestamp" not in pod["metadata"]]
    if len(live) == 1:
        return live[0]
    if live:
        raise Refused(Reason.TARGET_AMBIGUOUS, f"{len(live)} agent pods on {ctx.run.target.name}: {', '.join(map(_name, live))}")
    where = f"{ctx.cilium.namespace} with {ctx.cilium.agent_selector}"
    leaving = f"; {_name(here[0])} is terminating already" if here else ""
    raise Refused(Reason.TARGET_MISSING, f"no agent pod on {ctx.run.target.name} in {where}{leaving}")


def _refuse_unready_node(node: Object) -> None:
    if not _condition(node, "Ready"):
        raise Refused(Reason.AGENT_NOT_READY, f"node {_name(node)} is not Ready: its kubelet could not stop or start the pod")


def _refuse_stale_metric(ctx: Context, parameters: RestartParameters, pod: Object) -> None:
    """A scrape that fails while the kubelet finds the agent Ready says something about the scrape, not about the agent."""
    alert = ctx.run.alert
    if alert is not None and alert.name in parameters.scrape_alerts and _ready(pod):
        raise Refused(Reason.STALE_METRIC, f"{alert.name} only says that a scrape failed, and {_name(pod)} is Ready")


def _refuse_crash_loop(pod: Object, now: datetime) -> None:
    for status in _containers(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        recently = ended is not None and now - datetime.fromisoformat(ended) < _CRASH_WINDOW
        if waiting.get("reason") == "CrashLoopBackOff" or (recently and status.get("restartCount", 0) >= _CRASHES):
            words = f"{_name(pod)}: container {status.get('name')} restarted {status.get('restartCount', 0)} times by itself"
            raise Refused(Reason.CRASH_LOOPING, f"{words}; read its logs: kubectl -n {pod['metadata']['namespace']} logs {_name(pod)} -p")


def _refuse_if_others_are_down(ctx: Context, agents: Iterable[Object]) -> None:
    down = [_name(pod) for pod in agents if pod["spec"].get("nodeName") != ctx.run.target.name and not _ready(pod)]
    if down:
        raise Refused(Reason.AGENT_NOT_READY, f"agents of other nodes are not ready: {', '.join(sorted(down))}")


async def _refuse_rollout(ctx: Context, pod: Object) -> None:
    owner = next((o for o in pod["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    if owner is None or owner["kind"] != "DaemonSet":
        raise Refused(Reason.UNMANAGED_PODS, f"{_name(pod)} belongs to no DaemonSet; nothing would replace it")
    daemonset = await ctx.kube.get(kinds.DAEMONSET, owner["name"], pod["metadata"]["namespace"])
    status = daemonset.get("status") or {}
    desired, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
    on_delete = ((daemonset["spec"].get("updateStrategy")) or {}).get("type") == "OnDelete"
    if status.get("observedGeneration", 0) < daemonset["metadata"].get("generation", 0) or (updated != desired and not on_delete):
        raise Refused(Reason.ROLLOUT_IN_PROGRESS, f"DaemonSet {owner['name']} rolls out: {updated} of {desired} updated")
    if on_delete and _revision(pod) != await _newest_revision(ctx, daemonset):
        raise Refused(
            Reason.ROLLOUT_IN_PROGRESS, f"DaemonSet {owner['name']} updates OnDelete and has a newer revision: a restart would upgrade"
        )


async def _newest_revision(ctx: Context, daemonset: Object) -> str | None:
    listing = await ctx.kube.list(kinds.CONTROLLER_REVISION, daemonset["metadata"]["namespace"])
    uid = daemonset["metadata"]["uid"]
    own = [r for r in listing.items if any(o["uid"] == uid for o in r["metadata"].get("ownerReferences") or ())]
    newest = max(own, key=lambda r: r.get("revision", 0), default=None)
    return _revision(newest) if newest else None


async def _refuse_without_operator(ctx: Context) -> None:
    """Without an operator the taint of a restarted agent is never taken off, and its endpoints are not published."""
    listing = await ctx.kube.list(kinds.DEPLOYMENT, ctx.cilium.namespace, labels="io.cilium/app=operator")
    down = [_name(d) for d in listing.items if not (d.get("status") or {}).get("availableReplicas")]
    if down:
        raise Refused(Reason.OPERATOR_DOWN, f"Deployment {', '.join(down)} has no available replica")
    if not listing.items:
        ctx.evidence("operator", f"no Deployment with io.cilium/app=operator in {ctx.cilium.namespace}; not checked")


async def _successor(ctx: Context, old_uid: str) -> Object | None:
    """The pod that took over on the target node, once it is ready."""
    for pod in await _agents(ctx):
        here = pod["spec"].get("nodeName") == ctx.run.target.name
        if here and pod["metadata"]["uid"] != old_uid and "deletionTimestamp" not in pod["metadata"]:
            return pod if _ready(pod) else None
    return None


async def _settle(ctx: Context, new: Object, ready_for: timedelta) -> None:
    """Wait until the new agent has been ready for long enough and everything that depends on it says so too."""
    since: datetime | None = None

    async def settled() -> bool | None:
        nonlocal since
        pending = await _pending(ctx, new)
        now = ctx.clock.now()
        since = (since or now) if not pending else None
        return True if since is not None and now - since >= ready_for else None

    await ctx.wait_for(f"the new agent to stay ready for {format_duration(ready_for)}", settled)
    ctx.evidence("agent", {"pod": _name(new), "uid": new["metadata"]["uid"], "ready_since": iso(since) if since else None})


async def _pending(ctx: Context, new: Object) -> str:
    """What is not as it should be yet; empty if nothing. Raises StepFailed if the new agent fails too."""
    pod = await _successor(ctx, "")
    if pod is None:
        return "the agent is not ready"
    if pod["metadata"]["uid"] != new["metadata"]["uid"]:
        raise StepFailed(f"{_name(new)} was replaced by {_name(pod)} while it was watched")
    if _restarts(pod) > _restarts(new):
        raise StepFailed(f"{_name(pod)} restarted by itself right after the restart: crash_looping")
    node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
    if any(taint["key"] == TAINT for taint in node["spec"].get("taints") or ()):
        return f"the node still carries {TAINT}"
    return await _endpoints_pending(ctx, node)


async def _endpoints_pending(ctx: Context, node: Object) -> str:
    addresses = {a["address"] for a in (node.get("status") or {}).get("addresses") or ()}
    try:
        listing = await ctx.kube.list(kinds.CILIUM_ENDPOINT)
    except NotFound:
        return ""  # the CRD is not installed here, so there is nothing to see
    states = [
        (endpoint.get("status") or {}).get("state")
        for endpoint in listing.items
        if (((endpoint.get("status") or {}).get("networking")) or {}).get("node") in addresses
    ]
    waiting = [state for state in states if state != "ready"]
    return f"{len(waiting)} of {len(states)} endpoints are not ready" if waiting else ""


def _name(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def _resource(pod: Object) -> Resource:
    metadata = pod["metadata"]
    return Resource(kind="Pod", namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def _condition(thing: Object, kind: str) -> bool:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _ready(pod: Object) -> bool:
    return _condition(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _restarts(pod: Object) -> int:
    return sum(status.get("restartCount", 0) for status in _containers(pod))


def _revision(pod: Object) -> str | None:
    return (pod["metadata"].get("labels") or {}).get(_REVISION)
