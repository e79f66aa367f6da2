"""A small cluster as plain data: nodes that speak BGP to two routers, services with addresses, and whatever a test breaks in it."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from remediator.bgp.assemble import assemble
from remediator.bgp.model import Metrics
from remediator.bgp.objects import CiliumNode, EndpointSlice, Objects, Service, SessionMetrics, moves_from
from remediator.kube.records import Node, Pod

ROUTERS = {"tor1": "10.25.150.1", "tor2": "10.25.150.2"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def of(kind, data):
    return msgspec.json.decode(json.dumps(data).encode(), type=kind)


@dataclass
class World:
    """Everything by name; ``routes`` puts it together."""

    names: list[str] = field(default_factory=lambda: ["node-1", "node-2", "node-3"])
    selector: Any = field(default_factory=lambda: {"matchLabels": {"bgp": "enabled"}})
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    sessions: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """(node, peer) -> state and advertised routes, where not established with what is wanted."""
    agents_down: set[str] = field(default_factory=set)
    local_on: dict[str, list[str]] = field(default_factory=dict)
    """Services with externalTrafficPolicy Local -> nodes of their endpoints."""
    services: list[str] = field(default_factory=lambda: ["web"])
    adverts: list[dict[str, Any]] = field(
        default_factory=lambda: [{"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "selector": {}}]
    )
    metrics: SessionMetrics = field(default_factory=SessionMetrics)
    conditions: list[dict[str, Any]] = field(default_factory=list)
    cordoned: set[str] = field(default_factory=set)
    pods: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    node_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)
    policies: list[dict[str, Any]] = field(default_factory=list)
    peer: dict[str, Any] = field(default_factory=dict)

    def labels_of(self, name):
        return {"bgp": "enabled", "topology.kubernetes.io/zone": f"zone-{name[-1]}", **self.labels.get(name, {})}

    def wanted(self, name):
        return sum(name in self.local_on.get(service, [name]) for service in self.services) if self.adverts else 0

    def node_config(self, name):
        peers = [{"name": p, "peerAddress": a, "peerASN": 65000, "peerConfigRef": {"name": f"peer-{p}"}} for p, a in ROUTERS.items()]
        told = []
        for peer in peers:
            state, count = self.sessions.get((name, peer["name"]), ("established", self.wanted(name)))
            told.append({**peer, "peeringState": state, "routeCount": [{"afi": "ipv4", "safi": "unicast", "advertised": count}]})
        instance = {"name": "main", "localASN": 65001}
        return {
            "apiVersion": "cilium.io/v2",
            "metadata": {"name": name},
            "spec": {"bgpInstances": [{**instance, "peers": peers}]},
            "status": {"bgpInstances": [{**instance, "peers": told}]},
        }

    def objects(self):
        family = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}
        meta = {"name": "all", "labels": {"advertise": "bgp"}}
        services = [
            {
                "metadata": {"name": name, "namespace": "apps"},
                "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local" if name in self.local_on else "Cluster"},
                "status": {"loadBalancer": {"ingress": [{"ip": f"10.25.150.{224 + number}"}]}},
            }
            for number, name in enumerate(self.services)
        ]
        slices = [
            {
                "metadata": {"name": f"{name}-1", "namespace": "apps", "labels": {"kubernetes.io/service-name": name}},
                "endpoints": [{"nodeName": node, "conditions": {"ready": True}} for node in nodes],
            }
            for name, nodes in self.local_on.items()
        ]
        return Objects(
            version="v2",
            cluster_configs=[]
            if self.policies
            else [{"metadata": {"name": "main"}, "spec": {"nodeSelector": self.selector}, "status": {"conditions": self.conditions}}],
            peer_configs=[{"metadata": {"name": f"peer-{p}"}, "spec": {"families": [family], **self.peer}} for p in ROUTERS],
            advertisements=[{"metadata": meta, "spec": {"advertisements": deepcopy(self.adverts)}}],
            node_configs=[] if self.policies else [self.node_config(n) for n in self.names if n not in self.unwritten],
            policies=self.policies,
            nodes=[
                of(
                    Node,
                    {
                        "metadata": {"name": n, "labels": {**self.labels_of(n), **self.node_labels.get(n, {})}},
                        "spec": {"unschedulable": n in self.cordoned},
                    },
                )
                for n in self.names
            ],
            cilium_nodes=[
                of(
                    CiliumNode,
                    {
                        "metadata": {"name": n, "labels": self.labels_of(n)},
                        "spec": {"ipam": {"podCIDRs": [f"10.244.{n[-1]}.0/24"]}},
                    },
                )
                for n in self.names
            ],
            agents=[
                of(Pod, {"metadata": {"name": f"cilium-{n}"}, "spec": {"nodeName": n}, "status": {} if n in self.agents_down else READY})
                for n in self.names
            ],
            services=[of(Service, s) for s in services],
            slices=[of(EndpointSlice, s) for s in slices],
            pods=Counter(moves_from(of(Pod, {"metadata": more, "spec": {"nodeName": node}})) for node, more in self.pods),
            metrics=self.metrics,
        )

    def routes(self):
        return assemble(self.objects())

    def scraped(self, *without):
        """Prometheus has a fresh sample of every session but those of ``without``."""
        up = {(node, address): True for node in self.names if node not in without for address in ROUTERS.values()}
        self.metrics = SessionMetrics(state=Metrics.READ, up=up)


@pytest.fixture
def world():
    return World()
