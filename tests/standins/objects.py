"""The objects of a cluster that announces its services by BGP: what Cilium's chart and its users would create."""

from __future__ import annotations

from typing import Any

from standins.fabric import PORT, ROUTER, ROUTER_ASN

ASN = 65001
CONFIG = "cilium-bgp"
PEER_CONFIG = "peer-router"
BY_LABEL = {"matchLabels": {"bgp": "enabled"}}
"""A selector that knows nothing of us: method A of a withdrawal."""
BY_DRAIN_LABEL = {**BY_LABEL, "matchExpressions": [{"key": "remediator.dev/bgp-drain", "operator": "DoesNotExist"}]}
"""A selector with the key made for us: method B."""

Object = dict[str, Any]


def cilium() -> list[Object]:
    """The DaemonSet of the agents, and the Deployment of the operator, which stays on the control plane's node."""
    agent = {"hostNetwork": True, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 1}
    operator = {"hostNetwork": True, "tolerations": [{"operator": "Exists"}], "nodeSelector": {"node-role.kubernetes.io/control-plane": ""}}
    labels = {"io.cilium/app": "operator", "name": "cilium-operator"}
    return [
        _workload("DaemonSet", "cilium", "kube-system", {"k8s-app": "cilium"}, "cilium-agent", agent),
        _workload("Deployment", "cilium-operator", "kube-system", labels, "cilium-operator", operator, replicas=1),
    ]


def bgp(version: str, selector: Object) -> list[Object]:
    """One cluster config with one peer, what is told to it, and where service addresses come from."""
    peer = {"name": "router", "peerASN": ROUTER_ASN, "peerAddress": ROUTER, "peerConfigRef": {"name": PEER_CONFIG}}
    family = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}
    services = {"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "selector": {"matchLabels": {"bgp": "true"}}}
    timers = {"connectRetryTimeSeconds": 5, "holdTimeSeconds": 9, "keepAliveTimeSeconds": 3}
    specs: list[tuple[str, str, Object, Object]] = [
        ("CiliumBGPPeerConfig", PEER_CONFIG, {}, {"timers": timers, "transport": {"peerPort": PORT}, "families": [family]}),
        ("CiliumBGPAdvertisement", "services", {"advertise": "bgp"}, {"advertisements": [services]}),
        ("CiliumLoadBalancerIPPool", "pool", {}, {"blocks": [{"cidr": "10.25.150.224/27"}]}),
        (
            "CiliumBGPClusterConfig",
            CONFIG,
            {},
            {"nodeSelector": selector, "bgpInstances": [{"name": "instance-65001", "localASN": ASN, "peers": [peer]}]},
        ),
    ]
    return [
        {"apiVersion": f"cilium.io/{version}", "kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec}
        for kind, name, labels, spec in specs
    ]


def service(name: str, namespace: str = "default", *, policy: str = "Cluster") -> Object:
    """A Service that is announced, for the pods of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"bgp": "true"}},
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": policy,
            "selector": {"app": name},
            "ports": [{"port": 80, "protocol": "TCP"}],
        },
    }


def deployment(name: str, namespace: str, replicas: int) -> Object:
    return _workload("Deployment", name, namespace, {"app": name}, "app", {}, replicas=replicas)


def stateful_set(name: str, namespace: str, replicas: int) -> Object:
    thing = _workload("StatefulSet", name, namespace, {"app": name}, "app", {}, replicas=replicas)
    thing["spec"]["serviceName"] = name
    return thing


def daemon_set(name: str, namespace: str) -> Object:
    return _workload("DaemonSet", name, namespace, {"app": name}, "app", {})


def budget(name: str, namespace: str, **allowed: Any) -> Object:
    """A PodDisruptionBudget over the pods of ``name``: ``maxUnavailable=1`` or ``minAvailable=...``."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, **allowed},
    }


def _workload(kind: str, name: str, namespace: str, labels: dict[str, str], container: str, pod: Object, **spec: Any) -> Object:
    template = {"metadata": {"labels": labels}, "spec": {**pod, "containers": [{"name": container, "image": container}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }
