"""Reads the cluster: nodes and the few pods that matter, each kind in pages, all at the same time.

In: the door to Kubernetes, where Cilium lives. Out: a Cluster. Raised: KubeError, if any part cannot be read:
half a cluster would look healthier than it is.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.cluster.model import Cluster, Lease, Network, Node, Own, Pod, Symptom
from remediator.kube import kinds, records
from remediator.kube.errors import Forbidden, NotFound
from remediator.kube.records import MIRROR, condition
from remediator.monitoring.errors import PrometheusStale

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remediator.kube import Kube
    from remediator.monitoring import Prometheus

__all__ = ["LEASES", "read_cluster", "read_lease", "read_network", "read_own", "read_symptom"]

_ETCD = "component=etcd,tier=control-plane"
"""As kubeadm labels its static pods (cmd/kubeadm/app/util/staticpod/utils.go)."""
_NEEDED = {
    "CoreDNS": "k8s-app=kube-dns",
    "Prometheus": "app.kubernetes.io/name=prometheus",
    "Alertmanager": "app.kubernetes.io/name=alertmanager",
    "API server": "component=kube-apiserver,tier=control-plane",
}
LEASES = "medik8s-leases"
"""The namespace that medik8s's operators take by default (LEASE_NAMESPACE)."""
_ESTABLISHED = "established"
_CILIUM_IS_UP = "CiliumIsUp"


async def read_own(environ: Mapping[str, str] = os.environ) -> Own:
    """Where this daemon runs, by the pod's downward API."""
    return Own(node=environ.get("NODE_NAME", ""), namespace=environ.get("POD_NAMESPACE", ""), pod=environ.get("POD_NAME", ""))


async def read_cluster(kube: Kube, namespace: str, agents: str) -> Cluster:
    """The cluster now. ``namespace`` and ``agents`` as the settings' ``cilium`` have them."""
    nodes, down, (found, etcd, *needed) = await asyncio.gather(
        kube.list(kinds.NODE, decode=records.Node),
        _sessions_down(kube),
        asyncio.gather(
            _pods(kube, namespace, agents, "Cilium"),
            _pods(kube, "kube-system", _ETCD, "etcd"),
            *(_pods(kube, "", labels, app) for app, labels in _NEEDED.items()),
        ),
    )
    return Cluster(
        nodes=tuple(_node(node, down.get(node.name, ())) for node in nodes.items),
        agents=found,
        etcd=etcd,
        needed=tuple(pod for pods in needed for pod in pods),
        api=kube.host,
    )


async def read_network(prometheus: Prometheus) -> Network:
    """What Prometheus sees. Raises MonitoringError, also if its data are old."""
    await prometheus.require_fresh()
    unreachable, up = await asyncio.gather(prometheus.query("cilium_unreachable_nodes"), prometheus.query("up"))
    return Network(unreachable=tuple(sample.value for sample in unreachable), targets=len(up), down=sum(sample.value == 0 for sample in up))


async def read_lease(kube: Kube, node: str) -> Lease | None:
    """The lease on a node as medik8s names it; None if there is none. Raises KubeError.

    An account may have no right where there is no namespace to grant it in.
    """
    try:
        lease = await kube.get(kinds.LEASE, f"node-{node}", LEASES, decode=records.Lease)
    except NotFound:
        return None
    except Forbidden:
        if await _exists(kube, LEASES):
            raise
        return None
    spec = lease.spec
    lasts = timedelta(seconds=spec.lease_duration_seconds) if spec.lease_duration_seconds is not None else None
    return Lease(holder=spec.holder_identity or "", renewed=spec.renew_time or spec.acquire_time, lasts=lasts)


async def _exists(kube: Kube, namespace: str) -> bool:
    try:
        await kube.get(kinds.NAMESPACE, namespace)
    except NotFound:
        return False
    return True


async def read_symptom(prometheus: Prometheus, query: str) -> Symptom:
    """What ``query`` gives. Raises MonitoringError, but for data that are too old, which is an answer."""
    try:
        await prometheus.require_fresh()
    except PrometheusStale as error:
        return Symptom(query=query, stale=str(error))
    return Symptom(query=query, values=tuple(sample.value for sample in await prometheus.query(query)))


async def _pods(kube: Kube, namespace: str, labels: str, app: str) -> tuple[Pod, ...]:
    listing = await kube.list(kinds.POD, namespace, labels=labels, decode=records.Pod)
    return tuple(_pod(pod, app) for pod in listing.items if pod.phase not in ("Succeeded", "Failed"))


async def _sessions_down(kube: Kube) -> dict[str, tuple[str, ...]]:
    """By node, as agents report it in CiliumBGPNodeConfig; whatever reports no state is not known to be down."""
    try:
        configs = (await kube.list(kinds.BGP_NODE_CONFIG)).items
    except NotFound:
        return {}
    return {config["metadata"]["name"]: tuple(_down(config)) for config in configs}


def _down(config: dict[str, Any]) -> Iterator[str]:
    wanted = {(i["name"], peer["name"]) for i in config["spec"].get("bgpInstances") or () for peer in i.get("peers") or ()}
    for instance in (config.get("status") or {}).get("bgpInstances") or ():
        for peer in instance.get("peers") or ():
            state = peer.get("peeringState", _ESTABLISHED)
            if state != _ESTABLISHED and (instance["name"], peer["name"]) in wanted:
                yield f"{peer['name']} is {state}"


def _node(node: records.Node, down: tuple[str, ...]) -> Node:
    network = condition(node.status.conditions, "NetworkUnavailable")
    return Node(
        name=node.name,
        labels=node.labels,
        taints=tuple(taint.key for taint in node.spec.taints),
        ready=node.ready_status,
        cordoned=node.unschedulable,
        leaving=node.terminating,
        addresses=node.addresses,
        sessions_down=down,
        had_agent=network is not None and network.reason == _CILIUM_IS_UP,
    )


def _pod(pod: records.Pod, app: str) -> Pod:
    return Pod(
        name=pod.name,
        namespace=pod.namespace,
        node=pod.node_name,
        app=app,
        ready=pod.ready and not pod.terminating,
        mirror=MIRROR in pod.annotations,
    )
