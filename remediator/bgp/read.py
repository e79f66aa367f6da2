"""Reads everything that BGP depends on, concurrently: Cilium's objects in the version that the cluster serves, and Prometheus.

In: the doors. Out: Objects. Raises KubeError; a Prometheus that cannot be asked is no error here but stands in the metrics as unreadable,
so that ``bgp status`` still shows the rest while the gate refuses.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from remediator.bgp.assemble import assemble
from remediator.bgp.model import Metrics, Routes
from remediator.bgp.objects import CiliumNode, EndpointSlice, Objects, Service, SessionMetrics, moves_from
from remediator.clock import parse_time
from remediator.errors import MonitoringError
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.kube.records import Node, Pod

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.kube import Kind, Kube
    from remediator.monitoring import Prometheus
    from remediator.monitoring.answers import Sample

__all__ = ["SESSION_STATE", "kind_of", "read_metrics", "read_objects", "read_routes"]

SESSION_STATE = "cilium_bgp_control_plane_session_state"
_ADVERTISED = "cilium_bgp_control_plane_advertised_routes"
_CONFIG = (
    kinds.BGP_CLUSTER_CONFIG,
    kinds.BGP_PEER_CONFIG,
    kinds.BGP_ADVERTISEMENT,
    kinds.BGP_NODE_CONFIG,
    kinds.BGP_NODE_OVERRIDE,
    kinds.BGP_PEERING_POLICY,
    kinds.LB_POOL,
    kinds.L2_POLICY,
)
_LEASE = "cilium-operator-resource-lock"
_OPERATOR = "io.cilium/app=operator"


async def read_objects(
    kube: Kube, prometheus: Prometheus | None, *, namespace: str, agents: str, now: datetime, within: timedelta | None = None
) -> Objects:
    """All of it, at once. ``namespace`` and ``agents`` say where Cilium's pods are.

    ``within``: real time after which Prometheus counts as unreadable; None: what its own calls take.
    """
    config, listings, cilium_nodes, operator, samples = await asyncio.gather(
        asyncio.gather(*(_listed(kube, kind) for kind in _CONFIG)),
        asyncio.gather(
            kube.list(kinds.NODE, decode=Node),
            kube.list(kinds.POD, namespace, labels=agents, decode=Pod),
            kube.list(kinds.SERVICE, decode=Service),
            kube.list(kinds.ENDPOINT_SLICE, decode=EndpointSlice),
        ),
        _cilium_nodes(kube),
        _operator(kube, namespace, now),
        _samples(prometheus, within),
    )
    clusters, peers, advertisements, node_configs, overrides, policies, pools, l2 = (found or [] for found in config)
    nodes, agent_pods, services, slices = listings
    pods = await _pods(kube) if _pod_cidrs_matter(advertisements, policies) else {}
    return Objects(
        version=_version(config),
        cluster_configs=clusters,
        peer_configs=peers,
        advertisements=advertisements,
        node_configs=node_configs,
        overrides=overrides,
        policies=policies,
        pools=pools,
        l2_policies=l2,
        nodes=nodes.items,
        cilium_nodes=cilium_nodes,
        agents=agent_pods.items,
        services=services.items,
        slices=slices.items,
        pods=pods,
        operator=operator,
        metrics=_session_metrics(samples, {address.address: node.name for node in nodes.items for address in node.status.addresses}),
    )


async def read_routes(
    kube: Kube, prometheus: Prometheus | None, *, namespace: str, agents: str, now: datetime, within: timedelta | None = None
) -> Routes:
    """Who announces what, as it is now; ``within`` as above. Raises KubeError, Unreadable."""
    return assemble(await read_objects(kube, prometheus, namespace=namespace, agents=agents, now=now, within=within))


def kind_of(kind: Kind, thing: dict[str, Any]) -> Kind:
    """``kind`` in the version that ``thing`` was read in, for writing it back."""
    older = kind.before()
    return older if older is not None and thing.get("apiVersion") == older.api_version else kind


async def _listed(kube: Kube, kind: Kind) -> list[dict[str, Any]] | None:
    """None where the cluster knows no such kind."""
    try:
        return (await kube.list(kind)).items
    except NotFound:
        return None


async def _cilium_nodes(kube: Kube) -> list[CiliumNode]:
    try:
        return (await kube.list(kinds.CILIUM_NODE, decode=CiliumNode)).items
    except NotFound:
        return []


def _version(config: list[list[dict[str, Any]] | None]) -> str:
    """As the first object says it; without any object nothing is announced and it does not matter."""
    for found in config[:6]:
        for thing in found or ():
            return str(thing.get("apiVersion", "")).rpartition("/")[2]
    return ""


def _pod_cidrs_matter(advertisements: list[dict[str, Any]], policies: list[dict[str, Any]]) -> bool:
    """Whether any pod network is announced; only then all pods have to be read."""
    kinds_of = [entry.get("advertisementType") for thing in advertisements for entry in thing["spec"].get("advertisements") or ()]
    routers = [router for policy in policies for router in policy["spec"].get("virtualRouters") or ()]
    return "PodCIDR" in kinds_of or any(router.get("exportPodCIDR") for router in routers)


async def _pods(kube: Kube) -> dict[str, int]:
    """How many each node's pod network has. Of each pod only its node is kept: in a cluster of 150,000 all of them are hundreds of MB."""
    decode = msgspec.json.Decoder(Pod).decode
    return Counter(filter(None, (await kube.collect(kinds.POD, lambda raw: sys.intern(moves_from(decode(raw))))).items))


async def _operator(kube: Kube, namespace: str, now: datetime) -> str:
    """What is wrong with the operator. Its Deployment tells; where it is run in another way, the lease of its leader does."""
    deployments = (await kube.list(kinds.DEPLOYMENT, namespace, labels=_OPERATOR)).items
    if deployments:
        down = [d["metadata"]["name"] for d in deployments if not (d.get("status") or {}).get("availableReplicas")]
        return f"Deployment {', '.join(down)} has no available replica" if down else ""
    try:
        lease = await kube.get(kinds.LEASE, _LEASE, namespace)
    except NotFound:
        return ""
    spec = lease.get("spec") or {}
    renewed = spec.get("renewTime")
    if renewed is None:
        return f"nobody holds the lease {_LEASE}"
    age = now - parse_time(renewed)
    lasting = timedelta(seconds=spec.get("leaseDurationSeconds") or 15)
    return f"the lease {_LEASE} was renewed last {int(age.total_seconds())} s ago" if age > 4 * lasting else ""


async def read_metrics(prometheus: Prometheus | None, addresses: dict[str, str]) -> SessionMetrics:
    """What Prometheus has of the sessions; stale samples are left out. ``addresses``: address of a node -> its name."""
    return _session_metrics(await _samples(prometheus), addresses)


class _Samples(NamedTuple):
    """What Prometheus answered: series of the state, their last scrapes, routes, and whether it knew any session within the hour."""

    up: list[Sample]
    stamps: list[Sample]
    advertised: list[Sample]
    known: bool
    newest: float


async def _samples(prometheus: Prometheus | None, within: timedelta | None = None) -> _Samples | SessionMetrics:
    """The answers, or why there are none."""
    if prometheus is None:
        return SessionMetrics(detail="the settings name no prometheus.url")
    seconds = within.total_seconds() if within is not None else None
    try:
        async with asyncio.timeout(seconds):
            up, stamps, advertised = await asyncio.gather(
                prometheus.query(SESSION_STATE), prometheus.query(f"timestamp({SESSION_STATE})"), prometheus.query(_ADVERTISED)
            )
            known = bool(up) or bool(await prometheus.query(f"last_over_time({SESSION_STATE}[1h])"))
    except MonitoringError as error:
        return SessionMetrics(state=Metrics.UNREADABLE, detail=str(error))
    except TimeoutError:
        return SessionMetrics(state=Metrics.UNREADABLE, detail=f"Prometheus gave no answer within {seconds:g} s")
    return _Samples(up, stamps, advertised, known, prometheus.max_age.total_seconds())


def _session_metrics(found: _Samples | SessionMetrics, addresses: dict[str, str]) -> SessionMetrics:
    if isinstance(found, SessionMetrics):
        return found
    if not found.known:
        return SessionMetrics(detail=f"Prometheus has no {SESSION_STATE}")
    fresh = {_series(stamp.labels, addresses) for stamp in found.stamps if stamp.at.timestamp() - stamp.value <= found.newest}
    return SessionMetrics(
        state=Metrics.READ,
        up={key: sample.value == 1 for sample in found.up if (key := _series(sample.labels, addresses)) in fresh},
        advertised={
            (*key, sample.labels.get("afi", "ipv4")): int(sample.value)
            for sample in found.advertised
            if (key := _series(sample.labels, addresses)) in fresh
        },
    )


def _series(labels: dict[str, str], addresses: dict[str, str]) -> tuple[str, str]:
    """The node and the peer's address. Scraping by annotations gives no label ``node``; then the instance's address tells."""
    node = labels.get("node") or addresses.get(_host(labels.get("instance", "")), "")
    return node, _host(labels.get("neighbor", ""))


def _host(text: str) -> str:
    """``10.0.0.1:179`` and ``[fd00::1]:179`` without the port."""
    host, separator, port = text.rpartition(":")
    return host.strip("[]") if separator and port.isdigit() and (host.count(":") == 0 or host.startswith("[")) else text.strip("[]")
