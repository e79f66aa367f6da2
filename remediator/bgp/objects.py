"""The cluster's objects that BGP depends on, as partial records and plain data, and what Prometheus says of the sessions.

In: the API's JSON. Out: ``Objects``, everything of one moment, from which ``assemble`` makes Routes. Refused: fields of another type.
Cilium's own objects stay plain data: they are few, and the patches of actions test what they held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from remediator.bgp.model import Metrics
from remediator.kube.records import Node, Object, Pod, Record

__all__ = ["MARK", "CiliumNode", "EndpointSlice", "Objects", "Service", "SessionMetrics", "moves_from"]

MARK = "remediator.dev/bgp-withdrawn-by"
"""Annotation of a Node, a CiliumBGPPeerConfig or a CiliumBGPAdvertisement that a run changed: JSON with run, at, reason, previous."""


class Ipam(Record, frozen=True, kw_only=True):
    """Where the node's pods get their addresses from."""

    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")


class CiliumNodeSpec(Record, frozen=True, kw_only=True):
    """What BGP needs of it."""

    ipam: Ipam = Ipam()
    addresses: tuple[dict[str, Any], ...] = ()


class CiliumNode(Object, frozen=True, kw_only=True):
    """A node as Cilium's operator sees it; its agent copies the labels of the Node to it."""

    spec: CiliumNodeSpec = CiliumNodeSpec()


class Ingress(Record, frozen=True, kw_only=True):
    """One address that a load balancer gave."""

    ip: str = ""


class LoadBalancer(Record, frozen=True, kw_only=True):
    """The addresses that LB-IPAM gave."""

    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(Record, frozen=True, kw_only=True):
    """What became of the service."""

    load_balancer: LoadBalancer = LoadBalancer()


class ServiceSpec(Record, frozen=True, kw_only=True):
    """What decides who announces it."""

    type: str = "ClusterIP"
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    load_balancer_class: str | None = None
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")


class Service(Object, frozen=True, kw_only=True):
    """A service."""

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointConditions(Record, frozen=True, kw_only=True):
    """Absent means ready (discovery/v1: nil is to be read as true), and not terminating."""

    ready: bool | None = None
    terminating: bool | None = None


class Endpoint(Record, frozen=True, kw_only=True):
    """One address of a slice."""

    node_name: str | None = None
    conditions: EndpointConditions = EndpointConditions()

    @property
    def usable(self) -> bool:
        """Whether traffic may go there."""
        return self.conditions.ready is not False and not self.conditions.terminating


class EndpointSlice(Object, frozen=True, kw_only=True):
    """Endpoints of a service."""

    endpoints: tuple[Endpoint, ...] | None = None


def moves_from(pod: Pod) -> str:
    """The node in whose pod network ``pod`` is, if a drain of it would move the pod elsewhere; else empty."""
    owner = pod.controller
    stays = pod.spec.host_network or pod.status.phase in ("Succeeded", "Failed") or (owner is not None and owner.kind == "DaemonSet")
    return "" if stays else pod.spec.node_name


@dataclass(frozen=True, kw_only=True)
class SessionMetrics:
    """``cilium_bgp_control_plane_*`` by node and the peer's address."""

    state: Metrics = Metrics.ABSENT
    detail: str = ""
    up: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Only series with a fresh sample."""
    advertised: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Node, peer, afi."""


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Everything of one moment."""

    version: str = ""
    cluster_configs: list[dict[str, Any]] = field(default_factory=list)
    peer_configs: list[dict[str, Any]] = field(default_factory=list)
    advertisements: list[dict[str, Any]] = field(default_factory=list)
    node_configs: list[dict[str, Any]] = field(default_factory=list)
    overrides: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    l2_policies: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    cilium_nodes: list[CiliumNode] = field(default_factory=list)
    agents: list[Pod] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    slices: list[EndpointSlice] = field(default_factory=list)
    pods: dict[str, int] = field(default_factory=dict)
    """By node, those in its pod network that a drain would move elsewhere; nobody where no pod network is announced."""
    operator: str = ""
    """What is wrong with it; empty if nothing, or if there is no way to tell."""
    metrics: SessionMetrics = field(default_factory=SessionMetrics)
