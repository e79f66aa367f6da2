"""The BGP side of what a simulated cluster holds at first: two routers, every node a speaker, and services with addresses of their own.

In comes nothing; out come objects in the order in which they are to be created. The addresses are those of the cluster that the first
user runs. The ClusterConfig heeds ``remediator.dev/bgp-drain``, as the docs advise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.objects import Obj

__all__ = ["LABEL", "ROUTERS", "objects", "service"]

LABEL = {"bgp": "enabled"}
"""Nodes that speak carry it."""
ROUTERS = {"tor1": "10.25.150.1", "tor2": "10.25.150.2"}
_API = "cilium.io/v2"
_DRAIN = {"key": "remediator.dev/bgp-drain", "operator": "DoesNotExist"}


def objects() -> Iterator[Obj]:
    """Everything, first things first."""
    for peer in ROUTERS:
        yield _peer_config(peer)
    yield _object(
        "CiliumBGPAdvertisement",
        "services",
        {
            "advertisements": [
                {"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "selector": {"matchLabels": {"bgp": "true"}}}
            ]
        },
        labels={"advertise": "bgp"},
    )
    peers = [
        {"name": name, "peerASN": 65000, "peerAddress": address, "peerConfigRef": {"name": f"peer-{name}"}}
        for name, address in ROUTERS.items()
    ]
    spec = {
        "nodeSelector": {"matchLabels": LABEL, "matchExpressions": [_DRAIN]},
        "bgpInstances": [{"name": "instance-65001", "localASN": 65001, "peers": peers}],
    }
    yield _object("CiliumBGPClusterConfig", "cilium-bgp", spec)
    yield _object("CiliumLoadBalancerIPPool", "pool", {"blocks": [{"cidr": "10.25.150.224/27"}], "disabled": False})
    yield service("whoami", "apps", "10.25.150.223", {"app": "whoami"})
    yield service("dns", "kube-system", "10.25.150.253", {"k8s-app": "kube-dns"}, port=53)


def service(name: str, namespace: str, address: str, selector: dict[str, str], *, policy: str = "Cluster", port: int = 80) -> Obj:
    """A service with an address that is announced."""
    spec = {
        "type": "LoadBalancer",
        "selector": selector,
        "externalTrafficPolicy": policy,
        "ports": [{"name": "main", "port": port, "protocol": "TCP", "targetPort": port}],
    }
    meta = {"name": name, "namespace": namespace, "labels": {"bgp": "true"}}
    status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec, "status": status}


def _peer_config(peer: str) -> Obj:
    family = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}
    timers = {"connectRetryTimeSeconds": 5, "holdTimeSeconds": 9, "keepAliveTimeSeconds": 3}
    return _object("CiliumBGPPeerConfig", f"peer-{peer}", {"timers": timers, "families": [family]})


def _object(kind: str, name: str, spec: Obj, *, labels: dict[str, str] | None = None) -> Obj:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name, "labels": labels or {}}, "spec": spec}
