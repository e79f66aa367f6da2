"""Evidence for whoever looks later: what Kubernetes, Cilium and Hubble say about the target at this moment. Changes nothing, fails nothing.

In: the target, or an object that parameters name. Out: pieces of evidence, each of bounded size and redacted as everything in the journal.
A part that cannot be read is named in the evidence ``not collected`` with its reason; the rest is kept, and the ladder goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from remediator.actions import Action, Context, NoParameters, Parameters, Rule
from remediator.actions.parts import Parts, logs_of, outline, sickest_first
from remediator.actions.workloads import pods_of
from remediator.cilium.caveats import node_config
from remediator.cilium.reading import successors
from remediator.cluster.rollout import KINDS
from remediator.errors import Refused
from remediator.kube import kinds, records
from remediator.kube.kinds import Kind
from remediator.model import to_json
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remediator.kube.records import Pod
    from remediator.monitoring import Prometheus

__all__ = ["CiliumCollect", "HubbleCollect", "KubeCollect"]

_MOST = 50
"""Objects, events or samples of one kind."""
_MOST_LOGS = 5
"""Pods whose logs are kept."""
_CORE_EVENT = Kind("", "v1", "Event", "events")
"""Events by the API that knows field selectors on what they are about (``involvedObject``)."""
_LOGS = Rule(resources=("pods/log",), verbs=("get",))
_EVENTS = Rule(resources=("events",), verbs=("list",))


class CollectParameters(Parameters):
    """``{action: kube.collect, kind: Deployment, namespace: kube-system, name: hubble-relay, logs: 100}``"""

    kind: str = Field(default="", description="with name and, where the kind has one, namespace; absent: the target")
    namespace: str = ""
    name: str = ""
    logs: int = Field(default=100, ge=0, le=1000, description="last lines of each container; 0 keeps none")
    metrics: dict[str, str] = Field(default_factory=dict, max_length=20, description="what to ask Prometheus besides: name and PromQL")

    @model_validator(mode="after")
    def _whole(self) -> CollectParameters:
        if bool(self.kind) != bool(self.name) or (self.namespace and not self.name):
            raise ValueError("kind and name belong together; without them it is the target")
        return self


class KubeCollect(Action[CollectParameters]):
    """Keeps an object, its events, its pods and their last logs."""

    name: ClassVar[str] = "kube.collect"
    summary: ClassVar[str] = "keep an object, its events, its pods and their last logs as evidence; what cannot be read is named"
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes", "pods"), verbs=("get", "list")),
        Rule(resources=("namespaces",), verbs=("get",)),
        Rule(groups=("apps",), resources=("deployments", "statefulsets", "daemonsets"), verbs=("get",)),
        Rule(groups=("apps",), resources=("replicasets",), verbs=("list",)),
        _EVENTS,
        _LOGS,
    )
    Parameters: ClassVar[type[Parameters]] = CollectParameters

    async def act(self, ctx: Context, parameters: CollectParameters) -> str:
        """See Action."""
        target, parts = ctx.run.target, Parts(ctx)
        kind, namespace, name = parameters.kind or target.kind, parameters.namespace, parameters.name
        if not parameters.kind:
            namespace, name = target.namespace, target.name
        await parts.keep(kind, _object(ctx, kind, namespace, name))
        await parts.keep("events", _events(ctx, namespace, name, kind))
        pods = await parts.read("pods", _pods(ctx, kind, namespace, name))
        if pods:
            ctx.evidence("pods", [outline(pod) for pod in pods[:_MOST]])
            parts.got.append("pods")
        if parameters.logs and kind != "Node":
            for pod in sickest_first(pods or ())[:_MOST_LOGS]:
                await logs_of(parts, pod, parameters.logs)
        if parameters.metrics:
            await _measure(parts, "metrics", parameters.metrics)
        return parts.said()


async def _object(ctx: Context, kind: str, namespace: str, name: str) -> dict[str, Any]:
    if kinds.by_name(kind).kind not in ("Namespace", "Node", "Pod", *KINDS):
        raise Refused(Reason.UNREADABLE, f"a {kind} is not collected; kube.get reads it")
    return _plain(await ctx.kube.get(kinds.by_name(kind), name, namespace))


def _plain(thing: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in thing.get("metadata", {}).items() if key != "managedFields"}
    return {**thing, "metadata": metadata}


async def _events(ctx: Context, namespace: str, name: str, kind: str) -> list[dict[str, Any]]:
    """The newest, about one object; those about a Node lie in the namespace ``default``."""
    fields = f"involvedObject.name={name},involvedObject.kind={kind}"
    found = (await ctx.kube.list(_CORE_EVENT, namespace or "default", fields=fields, limit_total=10 * _MOST)).items
    newest = sorted(found, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""), reverse=True)
    keys = ("type", "reason", "message", "count", "firstTimestamp", "lastTimestamp", "eventTime", "reportingComponent")
    return [{key: one[key] for key in keys if one.get(key) not in (None, "")} for one in newest[:_MOST]]


async def _pods(ctx: Context, kind: str, namespace: str, name: str) -> Sequence[Pod]:
    if kind == "Node":
        return (await ctx.kube.list(kinds.POD, fields=f"spec.nodeName={name}", decode=records.Pod)).items
    if kind == "Pod":
        return [await ctx.kube.get(kinds.POD, name, namespace, decode=records.Pod)]
    if kind in KINDS:
        return await pods_of(ctx, {**await ctx.kube.get(kinds.by_name(kind), name, namespace), "kind": kind})
    return ()


# --- Cilium --------------------------------------------------------------------------------------------------------------


class CiliumParameters(Parameters):
    """``{action: cilium.collect, logs: 200}``"""

    logs: int = Field(default=200, ge=0, le=1000, description="last lines of each of the agent's containers; 0 keeps none")
    metrics: dict[str, str] = Field(default_factory=dict, max_length=20, description="what to ask Prometheus besides: name and PromQL")


_METRICS = {
    "agent": 'up{job="cilium-agent",node="%s"}',
    "unreachable": '{__name__=~"cilium_unreachable_(nodes|health_endpoints)",node="%s"}',
    "endpoints": 'cilium_endpoint_state{node="%s"} > 0',
    "sessions": '{__name__=~"cilium_bgp_control_plane_(session_state|advertised_routes)",node="%s"}',
    "controllers failing": 'cilium_controllers_failing{node="%s"}',
    "maps": 'cilium_bpf_map_pressure{node="%s"} > 0.5',
    "drops": 'topk(10, rate(cilium_drop_count_total{node="%s"}[5m]) > 0)',
    "regenerations failing": 'rate(cilium_endpoint_regenerations_total{node="%s",outcome=~"fail|failure"}[5m]) > 0',
    "addresses": '{__name__=~"cilium_ip_addresses|cilium_ipam_capacity",node="%s"}',
}
"""What an agent tells of itself (reference: Cilium docs, observability/metrics). Two metrics by a matcher on their name: ``or`` does not
look at names, and of two series with equal labels it drops the second."""


class CiliumCollect(Action[CiliumParameters]):
    """Keeps what there is to know about Cilium on the target node."""

    name: ClassVar[str] = "cilium.collect"
    summary: ClassVar[str] = "keep the agent's pod, logs and events, the node's CiliumNode, endpoints, BGP state and metrics as evidence"
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes",), verbs=("get",)),
        Rule(resources=("pods",), verbs=("get", "list"), scope="cilium.namespace"),
        Rule(groups=("cilium.io",), resources=("ciliumnodes", "ciliumendpoints"), verbs=("get", "list")),
        Rule(groups=("cilium.io",), resources=("ciliumbgpnodeconfigs",), verbs=("get",)),
        _EVENTS,
        _LOGS,
    )
    Parameters: ClassVar[type[Parameters]] = CiliumParameters

    async def act(self, ctx: Context, parameters: CiliumParameters) -> str:
        """See Action."""
        node, parts, where = ctx.run.target.name, Parts(ctx), ctx.cilium
        if ctx.run.target.kind != "Node":
            parts.missing["everything"] = f"an agent runs on a Node; {ctx.run.target.key} is none"
            return parts.said()
        found = await parts.keep("node", _object(ctx, "Node", "", node))
        await parts.keep("node events", _events(ctx, "", node, "Node"))
        agents = await parts.read("agent", successors(ctx.kube, where.namespace, where.agent_selector, node))
        if agents is not None:
            ctx.evidence("agent", [outline(pod) for pod in agents])
            parts.got.append("agent")
        for pod in agents or ():
            await parts.keep(f"events of {pod.name}", _events(ctx, pod.namespace, pod.name, "Pod"))
            if parameters.logs:
                await logs_of(parts, pod, parameters.logs)
        await parts.keep("cilium node", _get(ctx, node))
        addresses = {one["address"] for one in ((found or {}).get("status") or {}).get("addresses") or ()}
        await parts.keep("endpoints", _endpoints(ctx, addresses))
        await parts.keep("bgp", _bgp(ctx, node))
        queries = {name: query.replace("%s", node) for name, query in _METRICS.items()}
        await _measure(parts, "metrics", {**queries, **parameters.metrics})
        return parts.said()


async def _get(ctx: Context, node: str) -> dict[str, Any]:
    return _plain(await ctx.kube.get(kinds.CILIUM_NODE, node))


async def _bgp(ctx: Context, node: str) -> dict[str, Any]:
    found = await node_config(ctx.kube, node)
    return {"said": f"{node} speaks no BGP"} if found is None else _plain(found)


async def _endpoints(ctx: Context, addresses: set[str]) -> dict[str, Any]:
    """Counted by state, and those that are not ready by name."""
    every = (await ctx.kube.list(kinds.CILIUM_ENDPOINT, decode=records.CiliumEndpoint)).items
    here = [one for one in every if one.node_address in addresses]
    states = [one.status.state or "without state" for one in here]
    sick = [f"{one.namespace}/{one.name}: {one.status.state or 'without state'}" for one in here if one.status.state != "ready"]
    return {"count": {state: states.count(state) for state in sorted(set(states))}, "not ready": sick[:_MOST]}


async def _measure(parts: Parts, name: str, queries: Mapping[str, str]) -> dict[str, Any]:
    """The samples of each query. A query that Prometheus does not answer is named, the others are kept."""
    prometheus, found = parts.ctx.prometheus, {}
    if prometheus is None:
        parts.missing[name] = "the settings name no prometheus.url"
        return {}
    for what, query in queries.items():
        samples = await parts.read(f"{name}: {what}", _ask(prometheus, query))
        if samples:
            found[what] = samples
    if found:
        parts.ctx.evidence(name, found)
        parts.got.append(name)
    return found


async def _ask(prometheus: Prometheus, query: str) -> Any:
    return to_json((await prometheus.query(query, nan="drop"))[:_MOST])


# --- Hubble --------------------------------------------------------------------------------------------------------------

_PRESENT = "count(hubble_flows_processed_total) or count(hubble_drop_total) or count(hubble_dns_responses_total)"
_HUBBLE = {
    "drops": "topk(20, sum by (reason, protocol) (rate(hubble_drop_total{%s}[5m])) > 0)",
    "dns errors": 'topk(20, sum by (rcode, qtypes) (rate(hubble_dns_responses_total{%srcode!="No Error"}[5m])) > 0)',
    "lost events": "topk(20, sum by (source, node) (rate(hubble_lost_events_total{%s}[5m])) > 0)",
    "flows": "sum(rate(hubble_flows_processed_total{%s}[5m]))",
}


class HubbleCollect(Action[NoParameters]):
    """Keeps what Hubble's metrics say; of the target node where that is the target, else of the cluster."""

    name: ClassVar[str] = "hubble.collect"
    summary: ClassVar[str] = "keep drop reasons, DNS errors and lost events of Hubble's metrics as evidence; says so where there are none"
    Parameters: ClassVar[type[Parameters]] = NoParameters

    async def act(self, ctx: Context, parameters: NoParameters) -> str:
        """See Action."""
        del parameters
        parts, prometheus = Parts(ctx), ctx.prometheus
        node = f'node="{ctx.run.target.name}",' if ctx.run.target.kind == "Node" else ""
        present = await parts.read("hubble", _ask(prometheus, _PRESENT)) if prometheus is not None else None
        if present == []:
            return "Prometheus has no metrics of Hubble here; nothing to collect"
        if not parts.missing:
            await _measure(parts, "hubble", {name: query.replace("%s", node) for name, query in _HUBBLE.items()})
        return parts.said()
