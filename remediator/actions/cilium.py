"""Restart the Cilium agent of one node: delete its pod by uid, and believe nothing until the new one has proved itself.

In: a Node. Out: a successor that is Ready and stayed so, with taint, CiliumNode, endpoints and BGP sessions as they should be, and peers
that reach it again. What forbids a restart are the gates that it brings; what only the node's pod can tell (none, several, a failed scrape,
a cordon of others, a restart in this run already) is refused here. After the delete nothing refuses any more: what is left only looks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.actions.shifting import READS, look
from remediator.bgp.coverage import alone
from remediator.cilium import asking, caveats, health, inside, proof
from remediator.cilium.hold import hold
from remediator.cilium.once import refuse_second
from remediator.cilium.reading import read_fleet, successors
from remediator.cilium.sessions import established
from remediator.clock import iso
from remediator.drain.cordon import is_ours
from remediator.errors import KubeError, MonitoringError, Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds, records
from remediator.kube.errors import NotFound
from remediator.model import Change, Resource, TriggerKind
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.kube.records import Pod

__all__ = ["RestartAgent"]

Before = dict[str, Any]
"""What the change keeps of the moment before: it must do after a crash, when that moment is gone."""
_PEERS_EVERY = timedelta(seconds=10)
"""Between two looks while peers report: what they say is no fresher than their scrapes."""
_BESIDES = timedelta(seconds=90)
"""What a new agent and the scrape of its peers may take besides."""


class RestartParameters(Parameters):
    """``{action: cilium.restart_agent, timeout: 12m, ready_for: 60s}``"""

    ready_for: Duration = Field(
        default=timedelta(seconds=60),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="how long the new agent must stay ready, with everything that depends on it, before the step succeeds",
    )
    scrape_alerts: tuple[str, ...] = Field(
        default=(), description="alerts that only say that a scrape failed; while the pod is Ready they are no reason to restart it"
    )
    needs_bgp: bool = Field(
        default=False,
        description="refuse where no BGP configuration selects the node: a new agent would have no more to speak than the old one",
    )
    metrics: bool = Field(
        default=True,
        description="wait until the agents' metrics say that peers are reached; "
        "false where that is the symptom, so that the playbook's own verify judges it and a next rung can follow",
    )
    exec: bool = Field(
        default=False,
        description="ask the new agent inside of its container, too: its own status, and whether it reaches every node; needs pods/exec",
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
        Rule(resources=("pods",), verbs=("list",)),
        Rule(resources=("pods",), verbs=("get", "list", "delete"), scope="cilium.namespace"),
        Rule(resources=("configmaps",), verbs=("get",), scope="cilium.namespace"),
        Rule(
            groups=("apps",),
            resources=("daemonsets", "deployments", "controllerrevisions"),
            verbs=("get", "list"),
            scope="cilium.namespace",
        ),
        Rule(groups=("cilium.io",), resources=("ciliumnodes", "ciliumendpoints"), verbs=("get", "list")),
        *READS,
        Rule(groups=("cilium.io",), resources=("ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"), verbs=("list",)),
    )
    optional_rbac: ClassVar[Mapping[str, tuple[Rule, ...]]] = {
        # Close to root on every node with an agent, since agents are privileged.
        "exec": (Rule(resources=("pods/exec",), verbs=asking.VERBS, scope="cilium.namespace"),),
    }
    brings: ClassVar[tuple[str, ...]] = (
        "agent_not_ready",
        "crash_looping",
        "duplicate",
        "operator_down",
        "recurrence",
        "rollout_in_progress",
    )
    Parameters: ClassVar[type[Parameters]] = RestartParameters

    async def check(self, ctx: Context, parameters: RestartParameters) -> None:
        """See Action: what no gate can know."""
        if ctx.run.target.kind != "Node":
            raise Refused(Reason.TARGET_MISSING, f"an agent runs on a Node; {ctx.run.target.key} is none")
        if ctx.changes:
            return  # the pod was deleted before a crash; what is left to do disturbs nothing
        refuse_second(ctx.run, self.name)
        pod = _agent_on(ctx, await _pods(ctx))
        _refuse_stale_metric(ctx, parameters, pod)
        words = await _cordon_of_others(ctx)
        if words and ctx.run.trigger.kind is not TriggerKind.MANUAL:
            raise Refused(Reason.PROTECTED, words)
        await _refuse_last_speaker(ctx)
        if parameters.needs_bgp:
            await _refuse_without_bgp(ctx)
        if parameters.exec:
            await asking.require_right(ctx.kube, ctx.cilium.namespace)

    async def act(self, ctx: Context, parameters: RestartParameters) -> str:
        """See Action."""
        if ctx.changes:
            change = ctx.changes[-1]
            old, before = change.resource, change.before or {}
        else:
            pod = _agent_on(ctx, await _pods(ctx))
            old = Resource(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid)
            before = await _look_before(ctx, pod, parameters)
            words = await _caveats(ctx, pod)
            ctx.evidence("caveats", words)
            await ctx.plan(_plan(ctx, pod, before, parameters, words))
            await _delete(ctx, old, before)
        if ctx.dry_run:
            return f"would replace {old.name}"
        new = await _Proof(ctx, before, old.uid).wait(parameters.ready_for, ask=parameters.exec)
        return f"{old.name} was replaced by {new.name}, ready for {format_duration(parameters.ready_for)}"

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: the delete carried the uid, so the old pod's fate tells."""
        try:
            pod = await ctx.kube.get(kinds.POD, change.resource.name, change.resource.namespace, decode=records.Pod)
        except NotFound:
            return Observed.APPLIED
        return Observed.APPLIED if pod.uid != change.resource.uid or pod.terminating else Observed.ABSENT


# --- before --------------------------------------------------------------------------------------------------------------


async def _pods(ctx: Context) -> tuple[Pod, ...]:
    return await successors(ctx.kube, ctx.cilium.namespace, ctx.cilium.agent_selector, ctx.run.target.name)


def _agent_on(ctx: Context, pods: tuple[Pod, ...]) -> Pod:
    """The one live agent pod of the target node. Raises Refused if there is none, more than one, or one that nobody would replace."""
    node = ctx.run.target.name
    if not pods:
        where = f"{ctx.cilium.namespace} with {ctx.cilium.agent_selector}"
        raise Refused(Reason.TARGET_MISSING, f"no agent pod on {node} in {where} that is not terminating already")
    if len(pods) > 1:
        raise Refused(Reason.TARGET_AMBIGUOUS, f"{len(pods)} agent pods on {node}: {', '.join(pod.name for pod in pods)}")
    owner = pods[0].controller
    if owner is None or owner.kind != "DaemonSet":
        raise Refused(Reason.UNMANAGED_PODS, f"{pods[0].name} belongs to no DaemonSet; nothing would replace it")
    return pods[0]


def _refuse_stale_metric(ctx: Context, parameters: RestartParameters, pod: Pod) -> None:
    """A scrape that fails while the kubelet finds the agent Ready says something about the scrape, not about the agent."""
    alert = ctx.run.alert
    if alert is not None and alert.name in parameters.scrape_alerts and pod.ready:
        raise Refused(Reason.STALE_METRIC, f"{alert.name} only says that a scrape failed, and {pod.name} is Ready")


async def _refuse_last_speaker(ctx: Context) -> None:
    """Without graceful restart routers drop the routes with the session, and nobody else has these (Cilium docs, BGP operation)."""
    node = ctx.run.target.name
    if not established(await caveats.node_config(ctx.kube, node)):
        return  # it speaks no BGP now, so there is nothing to lose
    found = alone((await look(ctx)).routes, node)
    if found:
        names = ", ".join(f"{prefix.prefix} ({prefix.of})" for prefix in found[:5])
        words = f"{node} alone announces {names}, and graceful restart is off: a restart would withdraw it; turn it on, or add a speaker"
        raise Refused(Reason.ROUTE_COVERAGE, words)


async def _refuse_without_bgp(ctx: Context) -> None:
    """Sessions follow the CiliumBGPNodeConfig, which the operator writes and no agent brings back (operator/pkg/bgpv2)."""
    name = ctx.run.target.name
    node = (await look(ctx, metrics=False)).routes.node(name)
    if node is None or not node.configured:
        selected = f"{', '.join(node.configs)} selects it, and the operator has not acted on that" if node and node.configs else ""
        words = selected or "no BGP configuration selects its CiliumNode"
        raise Refused(Reason.TARGET_MISSING, f"{name} has no CiliumBGPNodeConfig: {words}; a new agent would have no session either")


async def _look_before(ctx: Context, pod: Pod, parameters: RestartParameters) -> Before:
    """What the proof will be measured by."""
    node = ctx.run.target.name
    return {
        "uid": pod.uid,
        "node": node,
        "ready": pod.ready,
        "restarts": pod.restarts,
        "revision": pod.revision,
        "sessions": established(await caveats.node_config(ctx.kube, node)),
        "metrics": await _metrics_before(ctx, parameters) if parameters.metrics else {"unasked": "the step says metrics: false"},
    }


async def _metrics_before(ctx: Context, parameters: RestartParameters) -> dict[str, Any]:
    """Which of the metrics Prometheus has, and how many BGP sessions it sees. ``unasked``: why nothing will be asked of it."""
    if ctx.prometheus is None:
        return {"unasked": "the settings name no prometheus.url"}
    try:
        await ctx.prometheus.require_fresh()
        present = [metric for metric in health.UNREACHABLE if await ctx.prometheus.query(metric)]
        nodes = await _addresses(ctx)
        up = await health.read(ctx.prometheus, health.SESSIONS, nodes, ctx.clock.now())
    except MonitoringError as error:
        return {"unasked": str(error)}
    if not present:
        return {"unasked": "Prometheus has no metrics of Cilium's agents"}
    try:
        ratio = health.ratio(await caveats.agent_config(ctx.kube, ctx.cilium.namespace))
    except KubeError as error:
        return {"unasked": f"how often agents probe could not be read: {error}"}
    if why := _too_short(ctx, parameters, health.reported_after(len(nodes), ratio)):
        return {"unasked": why}
    return {"present": present, "sessions": sum(one.node == ctx.run.target.name and one.value == 1 for one in up), "ratio": ratio}


def _too_short(ctx: Context, parameters: RestartParameters, needed: timedelta) -> str:
    """Why the step cannot wait for its peers' reports; empty if it can. They count from when the new agent is ready."""
    whole, left = max(parameters.ready_for, needed) + _BESIDES, ctx.deadline - ctx.clock.now()
    takes, ends = (format_duration(timedelta(seconds=round(each.total_seconds()))) for each in (whole, left))
    return f"with the new agent's start it takes {takes} until they could tell, and the step ends in {ends}" if whole > left else ""


async def _addresses(ctx: Context) -> dict[str, str]:
    """Address -> node, of every node: scrapes may name only the one or the other."""
    nodes = await ctx.kube.list(kinds.NODE, decode=records.Node)
    return {address: node.name for node in nodes.items for address in node.addresses}


async def _caveats(ctx: Context, pod: Pod) -> list[str]:
    node = ctx.run.target.name
    config = await caveats.node_config(ctx.kube, node)
    here = await ctx.kube.list(kinds.POD, fields=f"spec.nodeName={node}", decode=records.Pod)
    owner = pod.controller
    found = await caveats.collect(
        ctx.kube,
        namespace=pod.namespace,
        daemonset=owner.name if owner is not None else "",
        node=node,
        config=config,
        pods={one.namespace for one in here.items if not one.spec.host_network},
    )
    cordon = await _cordon_of_others(ctx)
    return [*found, *([cordon] if cordon else [])]


async def _cordon_of_others(ctx: Context) -> str:
    node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
    return caveats.cordon_of_others(node, ours=is_ours(node))


def _plan(ctx: Context, pod: Pod, before: Before, parameters: RestartParameters, words: list[str]) -> list[str]:
    node, owner = ctx.run.target.name, pod.controller
    made = f"DaemonSet {owner.name if owner else ''} makes a new one on {node}"
    drop = f"{len(before['sessions'])} BGP sessions drop"
    back = "its taint gone, its CiliumNode, endpoints and BGP sessions back"
    lines = [
        f"delete pod {pod.namespace}/{pod.name} (uid {pod.uid}, {'Ready' if pod.ready else 'not ready'}); {made}",
        f"meanwhile what is connected stays connected; new pods, policy and services of {node} wait; {drop}",
        f"wait for the new agent to be Ready for {format_duration(parameters.ready_for)}, {back}",
    ]
    unasked = before["metrics"].get("unasked")
    if unasked:
        lines.append(f"Prometheus is not asked whether peers reach {node} again: {unasked}")
    else:
        lines.append(
            f"then two probe intervals later: {node} reaches every peer and every peer reaches it ({', '.join(health.UNREACHABLE)})"
        )
    if parameters.exec:
        lines.append(
            f"then ask it inside of its container: {' '.join(inside.STATUS)} says OK, {' '.join(inside.HEALTH)} reaches every node"
        )
    return [*lines, *(f"mind: {word}" for word in words), "nothing is to be undone"]


async def _delete(ctx: Context, old: Resource, before: Before) -> None:
    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.delete(kinds.POD, old.name, old.namespace, uid=old.uid, dry_run=dry_run, request_id=request_id)

    await ctx.change("delete", old, call, before=before, undoable=False)


# --- after ---------------------------------------------------------------------------------------------------------------


class _Proof:
    """Watches one node after the delete. It can begin anew at any time: what it measures by is in the change."""

    def __init__(self, ctx: Context, before: Before, old_uid: str) -> None:
        self._ctx = ctx
        self._node = ctx.run.target.name
        self._before = before
        self._old = old_uid
        self._new: Pod | None = None
        self._ready_since: datetime | None = None
        """As the pod's condition says."""
        self._well_since: datetime | None = None
        """By our own clock: the cluster's may be ahead of it."""
        self._due: datetime | None = None
        """When every peer's report tells of the new agent; None before anybody counted the peers."""

    async def wait(self, ready_for: timedelta, *, ask: bool) -> Pod:
        """The new agent, once everything is proved. Raises StepFailed."""
        since = await hold(self._ctx, f"the new agent of {self._node} to stay ready", self._kubernetes, lasting=ready_for)
        metrics = self._before.get("metrics") or {"unasked": "the moment before the restart is not on record"}
        if metrics.get("unasked"):
            self._ctx.evidence("not checked", [f"whether peers reach {self._node}: {metrics['unasked']}"])
        else:
            await hold(self._ctx, f"peers to reach {self._node}", self._peers, lasting=timedelta(0), every=_PEERS_EVERY)
        if ask:
            await hold(self._ctx, f"the new agent of {self._node} to say that it is well", self._asked, lasting=timedelta(0))
        ctx = self._ctx
        if self._new is None:
            raise StepFailed(f"no new agent was seen on {self._node}")
        ctx.evidence("agent", {"pod": self._new.name, "uid": self._new.uid, "ready_since": iso(since)})
        return self._new

    async def _agent(self) -> str:
        """What is pending of the new agent's pod itself. Raises StepFailed if it fails too."""
        pods = await _pods(self._ctx)
        words = proof.new_pod(pods, self._old)
        later = next((pod for pod in pods if pod.uid != self._old), None)
        if later is not None and self._new is not None and (failed := proof.failed_again(later, self._new)):
            raise StepFailed(failed)
        before, self._ready_since = self._ready_since, later.ready_since if later is not None else None
        if not words and later is not None:
            self._new = self._new or later
            words = "" if before in (None, self._ready_since) else f"{later.name} was not ready for a moment"
        if words:
            self._well_since = self._due = None
        return words

    async def _kubernetes(self) -> str:
        """What the API says is pending. Raises StepFailed if the new agent fails too."""
        ctx = self._ctx
        if words := await self._agent():
            return words
        node = await ctx.kube.get(kinds.NODE, self._node, decode=records.Node)
        return (
            proof.taint_gone(node)
            or proof.cilium_node(await _cilium_node(ctx), self._node)
            or proof.endpoints(await _endpoints(ctx), node.addresses)
            or await self._sessions()
        )

    async def _sessions(self) -> str:
        before = self._before.get("sessions") or {}
        return proof.sessions_back(before, await caveats.node_config(self._ctx.kube, self._node)) if before else ""

    async def _peers(self) -> str:
        """As ``_kubernetes``, and what the agents' metrics say once the new one was ready for two whole probe intervals.

        Until then only its pod is looked at: the rest asks for lists of the whole cluster, and the larger it is the longer this takes.
        """
        words, now = await self._agent(), self._ctx.clock.now()
        if words or self._new is None:
            return words
        self._well_since = min(self._well_since or now, self._ready_since or now, now)
        if self._due is not None and now < self._due:
            return _until(self._due)
        try:
            return await self._kubernetes() or await self._metrics(self._well_since, now)
        except MonitoringError as error:
            return str(error)

    async def _asked(self) -> str:
        """As ``_kubernetes``, and what the agent itself says inside of its container."""
        words, ctx = await self._kubernetes(), self._ctx
        if words or self._new is None:
            return words
        fleet = await read_fleet(ctx.kube, ctx.cilium.namespace, ctx.cilium.agent_selector)
        ready = {pod.node_name for pod in fleet.pods if pod.ready}
        down = {pod.node_name for pod in fleet.pods} - ready - {self._node}
        return await asking.pending(ctx.kube, self._new, nodes=ready, down=down, within=ctx.deadline - ctx.clock.now())

    async def _metrics(self, since: datetime, now: datetime) -> str:
        ctx, wanted = self._ctx, self._before["metrics"]
        assert ctx.prometheus is not None  # noqa: S101 - it was asked before
        nodes = await _addresses(ctx)
        self._due = due = since + health.reported_after(
            len(nodes), wanted.get("ratio", health.USUAL)
        )  # which an older release did not keep
        if now < due:
            return _until(due)
        fleet = await read_fleet(ctx.kube, ctx.cilium.namespace, ctx.cilium.agent_selector)
        peers = {pod.node_name for pod in fleet.pods if pod.ready}
        allowed = len({pod.node_name for pod in fleet.pods if not pod.ready and not pod.terminating and pod.node_name != self._node})
        found = []
        for metric in health.UNREACHABLE:
            if metric in wanted["present"]:  # which an older release may have kept with others that no agent exports
                readings = await health.read(ctx.prometheus, metric, nodes, now)
                found.append(health.unreachable(metric, readings, node=self._node, peers=peers, allowed=allowed, since=due))
        readings = await health.read(ctx.prometheus, health.SESSIONS, nodes, now)
        found.append(health.sessions_up(readings, node=self._node, before=wanted["sessions"], since=since))
        return "; ".join(words for words in found if words)


def _until(due: datetime) -> str:
    return f"two probe intervals of every node's address and health endpoint end {iso(due)}"


async def _cilium_node(ctx: Context) -> object | None:
    """The CiliumNode; True where the CRD is not installed, since then there is nothing to wait for."""
    try:
        return await ctx.kube.get(kinds.CILIUM_NODE, ctx.run.target.name, decode=records.CiliumNode)
    except NotFound:
        pass
    try:
        return None if (await ctx.kube.list(kinds.CILIUM_NODE, limit_total=1, decode=records.CiliumNode)).items else True
    except NotFound:
        return True


async def _endpoints(ctx: Context) -> list[records.CiliumEndpoint]:
    try:
        return (await ctx.kube.list(kinds.CILIUM_ENDPOINT, decode=records.CiliumEndpoint)).items
    except NotFound:
        return []  # the CRD is not installed here, so there is nothing to see
