"""What the targets of the simulated cluster expose at one scrape.

In comes the cluster; out come samples with the labels that the usual service discovery gives them. A target that is not there exposes
nothing, so its series end; an agent that is there and does not answer has ``up`` 0 and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from remediator.sim.crowd import CROWD
from remediator.sim.objects import condition, controller_of, dig, is_ready, labels_of, name_of, namespace_of
from remediator.sim.prometheus.series import Sample
from remediator.sim.reach import addresses, answers, workload_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj

__all__ = ["States", "Told", "collect"]

Told: TypeAlias = "dict[str, tuple[Obj, tuple[Sample, ...]]]"
"""By uid: an object as it was stored at the last scrape, and what kube-state-metrics says of it. A stored object never changes."""
States: TypeAlias = "dict[str, tuple[str, set[str]]]"
"""By node: its agent's uid and the states that endpoints were in since it came. A state has no series before one of them was in it, and
keeps it at 0 then (pkg/endpoint)."""

_HTTP = 80
_MOST_PAIRED = 60
"""Series per pair grow with the square of the nodes; larger clusters do without, in the simulation as in life."""
_UNCOUNTED = {"disconnected", "invalid"}
"""Final states, which no agent counts (pkg/endpoint: setState)."""


def collect(cluster: Cluster, tick: int, told: Told, states: States) -> Iterator[Sample]:
    """Every sample of one scrape; ``tick`` counts scrapes and varies the noise. ``told`` and ``states`` go on to the next one."""
    nodes = cluster.node_names()
    paired = nodes if len(nodes) <= _MOST_PAIRED else []
    works = {node for node in nodes if cluster.agent_works(node)}
    endpoints: dict[str, list[Obj]] = {}
    for endpoint in cluster.store.list(("cilium.io", "ciliumendpoints")):
        endpoints.setdefault(str(dig(endpoint, "status.networking.node")), []).append(endpoint)
    places = {node: cluster.node_address(node) for node in nodes}
    for node, address in places.items():
        target = {"job": "cilium-agent", "node": node, "instance": f"{address}:9962"}
        yield from _agent(cluster, node, target, len(nodes), works)
        if node in works:
            yield from _endpoints(cluster, node, target, endpoints.get(address, []), states)
            for other in paired:
                yield from _pair(cluster, target, node, (other, places[other]), tick, works=other in works)
        yield from _prober(cluster, node, paired, tick)
    yield from _operator(cluster)
    yield from _kube_state(cluster, told)
    yield from _probes(cluster)
    yield from _coredns(cluster)


def _agent(cluster: Cluster, node: str, target: dict[str, str], count: int, works: set[str]) -> Iterator[Sample]:
    if cluster.agent_pod(node) is None:
        return
    yield Sample("up", target, float(node in works))
    if node not in works:
        return
    unreachable = count - len(works) if cluster.network.intact else cluster.network.unreachable_from(node)
    yield Sample("cilium_unreachable_nodes", target, unreachable)
    yield Sample("cilium_unreachable_health_endpoints", target, unreachable)
    yield Sample("cilium_controllers_failing", target, 0)
    yield from _bgp(cluster, node, target)
    reachable = count - 1 - unreachable
    for status, peers in (("reachable", reachable), ("unreachable", unreachable), ("unknown", 0)):
        for kind in ("node", "endpoint"):
            yield Sample("cilium_node_health_connectivity_status", {**target, "type": kind, "status": status}, peers)


def _endpoints(cluster: Cluster, node: str, target: dict[str, str], endpoints: list[Obj], states: States) -> Iterator[Sample]:
    agent = str(dig(cluster.agent_pod(node) or {}, "metadata.uid"))
    now = [str(dig(e, "status.state")) for e in endpoints]
    whose, known = states.get(node, ("", set()))
    known = (known if whose == agent else set()) | set(now) - _UNCOUNTED
    states[node] = (agent, known)
    for state in sorted(known):
        yield Sample("cilium_endpoint_state", {**target, "endpoint_state": state}, now.count(state))


def _bgp(cluster: Cluster, node: str, target: dict[str, str]) -> Iterator[Sample]:
    """A node that no longer speaks has no series, instead of one at 0 (pkg/bgpv1/metrics)."""
    for heard in cluster.bgp.heard_from(node):
        labels = {**target, "vrouter": str(heard.local_asn), "neighbor": f"{heard.address}:179", "neighbor_asn": str(heard.asn)}
        yield Sample("cilium_bgp_control_plane_session_state", labels, float(heard.up))
        for afi, routes in heard.routes.items():
            yield Sample("cilium_bgp_control_plane_advertised_routes", {**labels, "afi": afi, "safi": "unicast"}, len(routes))


def _pair(cluster: Cluster, target: dict[str, str], node: str, peer: tuple[str, str], tick: int, *, works: bool) -> Iterator[Sample]:
    """The gauges per pair that agents up to 1.17 expose. ``peer``: the other node's name and address."""
    other, address = peer
    reached = cluster.network.loss(node, other) < 1
    kind = "local_node" if node == other else "remote_intra_cluster"
    labels = {**target, "source_cluster": "default", "source_node_name": node, "target_cluster": "default", "target_node_name": other}
    labels |= {"target_node_type": kind, "type": "node"}
    yield Sample("cilium_node_connectivity_status", labels, float(works and reached))
    path = {**labels, "target_node_ip": address, "protocol": "icmp", "address_type": "primary"}
    yield Sample("cilium_node_connectivity_latency_seconds", path, cluster.network.latency(node, other, tick) if reached else -1)


def _prober(cluster: Cluster, node: str, nodes: list[str], tick: int) -> Iterator[Sample]:
    """A prober on every node that pings every other node."""
    if not cluster.kubelet_alive(node):
        return
    target = {"job": "pair-prober", "instance": f"{cluster.node_address(node)}:9374", "node": node}
    yield Sample("up", target, 1)
    for other in nodes:
        if other == node:
            continue
        labels = {**target, "target_node": other}
        loss = cluster.network.loss(node, other)
        yield Sample("network_pair_loss_ratio", labels, loss)
        if loss < 1:
            yield Sample("network_pair_latency_seconds", labels, cluster.network.latency(node, other, tick))


def _operator(cluster: Cluster) -> Iterator[Sample]:
    for pod in cluster.store.list(("", "pods"), "kube-system"):
        if cluster.is_operator(pod) and dig(pod, "spec.nodeName"):
            instance = f"{cluster.node_address(pod['spec']['nodeName'])}:9963"
            works = is_ready(pod) and cluster.kubelet_alive(pod["spec"]["nodeName"])
            yield Sample("up", {"job": "cilium-operator", "instance": instance, "node": pod["spec"]["nodeName"]}, float(works))


def _kube_state(cluster: Cluster, told: Told) -> Iterator[Sample]:
    target = {"job": "kube-state-metrics", "instance": "kube-state-metrics:8080"}
    yield Sample("up", target, 1)
    before = dict(told)
    told.clear()

    def of(obj: Obj, state: Callable[[Obj, dict[str, str]], Iterator[Sample]]) -> tuple[Sample, ...]:
        uid = obj["metadata"]["uid"]
        known = before.get(uid)
        told[uid] = known if known is not None and known[0] is obj else (obj, tuple(state(obj, target)))
        return told[uid][1]

    for node in cluster.store.list(("", "nodes")):
        yield from of(node, _node_state)
    # A crowd's pods are not told: half a million series every 15 s would leave the API no time, and no rule asks for them.
    for pod in (pod for pod in cluster.store.list(("", "pods")) if not namespace_of(pod).startswith(CROWD)):
        yield from of(pod, _pod_state)
    for owner in cluster.store.list(("apps", "daemonsets")):
        labels = {**target, "namespace": namespace_of(owner), "daemonset": name_of(owner)}
        for field, metric in _SET_FIELDS.items():
            yield Sample(f"kube_daemonset_status_{metric}", labels, dig(owner, f"status.{field}", 0))
    for owner in cluster.store.list(("apps", "deployments")):
        labels = {**target, "namespace": namespace_of(owner), "deployment": name_of(owner)}
        yield Sample("kube_deployment_spec_replicas", labels, dig(owner, "spec.replicas", 0))
        yield Sample("kube_deployment_status_replicas_available", labels, dig(owner, "status.availableReplicas", 0))


_SET_FIELDS = {
    "desiredNumberScheduled": "desired_number_scheduled",
    "numberReady": "number_ready",
    "numberUnavailable": "number_unavailable",
    "updatedNumberScheduled": "updated_number_scheduled",
}


def _node_state(node: Obj, target: dict[str, str]) -> Iterator[Sample]:
    labels = {**target, "node": name_of(node)}
    address = next((a["address"] for a in dig(node, "status.addresses") or () if a.get("type") == "InternalIP"), "")
    yield Sample("kube_node_info", {**labels, "internal_ip": address}, 1)
    yield Sample("kube_node_spec_unschedulable", labels, float(bool(dig(node, "spec.unschedulable"))))
    for taint in dig(node, "spec.taints") or ():
        shown = {**labels, "key": taint["key"], "effect": taint["effect"], "value": taint.get("value", "")}
        yield Sample("kube_node_spec_taint", shown, 1)
    for found in dig(node, "status.conditions") or ():
        actual = str(found.get("status")).lower()
        for status in ("true", "false", "unknown"):
            shown = {**labels, "condition": found["type"], "status": status}
            yield Sample("kube_node_status_condition", shown, float(actual == status))


def _pod_state(pod: Obj, target: dict[str, str]) -> Iterator[Sample]:
    labels = {**target, "namespace": namespace_of(pod), "pod": name_of(pod), "uid": pod["metadata"]["uid"]}
    owner = controller_of(pod) or {}
    node = str(dig(pod, "spec.nodeName") or "")
    created = {"created_by_kind": owner.get("kind", ""), "created_by_name": owner.get("name", "")}
    yield Sample("kube_pod_info", {**labels, "node": node, **created, "host_ip": str(dig(pod, "status.hostIP") or "")}, 1)
    ready = str((condition(pod, "Ready") or {}).get("status", "")).lower()
    for status in ("true", "false", "unknown"):
        yield Sample("kube_pod_status_ready", {**labels, "condition": status}, float(ready == status))
    for container in dig(pod, "status.containerStatuses") or ():
        restarts = {**labels, "container": container["name"]}
        yield Sample("kube_pod_container_status_restarts_total", restarts, container.get("restartCount", 0))


def _probes(cluster: Cluster) -> Iterator[Sample]:
    """blackbox-exporter, with the labels of deploy/prometheus/targets.yaml: a page or a name server at every address of a service."""
    for one in addresses(cluster):
        labels = {
            "job": "remediator-probes",
            "service": name_of(one.service),
            "location": "cluster",
            "namespace": namespace_of(one.service),
        }
        labels |= workload_behind(cluster, one.service)
        value = float(answers(cluster, one.host, one.port))
        if one.dns:
            for module in ("dns_udp", "dns_tcp"):
                yield Sample("probe_success", {**labels, "probe": "dns", "module": module, "instance": f"{one.host}:{one.port}"}, value)
        else:
            where = f"http://{one.host}" if one.port == _HTTP else f"{one.host}:{one.port}"
            module = "http" if one.port == _HTTP else "tcp"
            yield Sample("probe_success", {**labels, "probe": "service", "module": module, "instance": where}, value)


def _coredns(cluster: Cluster) -> Iterator[Sample]:
    """What the rules of deploy/prometheus record of CoreDNS. It answers well as long as a pod of it is ready, and says nothing else."""
    for pod in cluster.store.list(("", "pods"), "kube-system"):
        if labels_of(pod).get("k8s-app") == "kube-dns" and is_ready(pod):
            yield Sample("namespace:coredns_servfail:ratio_rate5m", {"namespace": "kube-system"}, 0)
            yield Sample("namespace:coredns_latency_seconds:p99_rate5m", {"namespace": "kube-system"}, 0.004)
            return
