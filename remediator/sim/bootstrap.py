"""What a simulated cluster holds at first: nodes, namespaces, Cilium, CoreDNS and a few workloads.

In comes the number of nodes; out come objects in the order in which they are to be created. Names, zones and addresses are those of the
real control plane's test bed: node-1 (control plane), zone-a to zone-c, 10.25.150.10 and up.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from remediator.sim import routing
from remediator.sim.objects import Obj, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["node", "objects"]

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_CILIUM = "quay.io/cilium/cilium:v1.18.4"
_TOLERATE_ALL = [{"operator": "Exists"}]


def objects(count: int, *, cilium: bool, now: datetime) -> Iterator[Obj]:
    """Everything, first things first."""
    for name in _NAMESPACES:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    for number in range(1, count + 1):
        yield node(number, now, cilium=cilium)
    if cilium:
        yield from _cilium(count)
        yield from _workloads(count)
        yield from routing.objects()


def node(number: int, now: datetime, *, cilium: bool = True) -> Obj:
    """One Ready node."""
    name = f"node-{number}"
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": f"zone-{'abc'[number % 3]}",
        "type": "kwok",
    }
    if cilium:
        labels |= routing.LABEL
    if number == 1:
        labels["node-role.kubernetes.io/control-plane"] = ""
    size = {"cpu": "32", "memory": "256Gi", "pods": "250"}
    cidr = f"10.{244 + number // 256}.{number % 256}.0/24"
    address = str(ipaddress.IPv4Address("10.25.150.0") + number + 9)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {
            "allocatable": size,
            "capacity": size,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": list(_conditions(now, cilium=cilium)),
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": f"00000000-0000-4000-8000-{number:012d}",
                "containerRuntimeVersion": "containerd://2.1.5",
                "kernelVersion": "6.12.0",
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.36.3",
                "machineID": f"{number:032x}",
                "operatingSystem": "linux",
                "osImage": "Simulated Linux",
                "systemUUID": f"{number:032x}",
            },
        },
    }


def _conditions(now: datetime, *, cilium: bool) -> Iterator[Obj]:
    times = {"lastHeartbeatTime": rfc3339(now), "lastTransitionTime": rfc3339(now)}
    healthy = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", ""),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", ""),
        ("PIDPressure", "False", "KubeletHasSufficientPID", ""),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    )
    if cilium:
        healthy = (("NetworkUnavailable", "False", "CiliumIsUp", "Cilium is running on this node"), *healthy)  # type: ignore[assignment] # one more of the same
    for kind, status, reason, message in healthy:
        yield {"type": kind, "status": status, "reason": reason, "message": message, **times}


def _cilium(count: int) -> Iterator[Obj]:
    agents = _set("cilium", "cilium-agent", _CILIUM, max_unavailable=2, grace=1)
    # As the chart's k8sServiceHost: where kube-proxy is replaced, agents must not look for the API server behind their own datapath.
    agents["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "KUBERNETES_SERVICE_HOST", "value": "10.25.150.10"}]
    yield agents
    yield _set("cilium-envoy", "cilium-envoy", "quay.io/cilium/cilium-envoy:v1.34.10", max_unavailable=2, grace=30)
    labels = {"io.cilium/app": "operator", "name": "cilium-operator"}
    spec = {"hostNetwork": True, "tolerations": _TOLERATE_ALL}
    operator = _deployment("cilium-operator", "kube-system", labels, "quay.io/cilium/operator-generic:v1.18.4", min(2, count), spec)
    yield operator
    data = {"bpf-lb-mode": "snat", "enable-bgp-control-plane": "true", "kube-proxy-replacement": "true", "cluster-name": "default"}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"}, "data": data}


def _set(name: str, container: str, image: str, *, max_unavailable: int, grace: int) -> Obj:
    labels = {"k8s-app": name, "app.kubernetes.io/name": container, "app.kubernetes.io/part-of": "cilium"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": name}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": max_unavailable}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostNetwork": True,
                    "priorityClassName": "system-node-critical",
                    "terminationGracePeriodSeconds": grace,
                    "tolerations": _TOLERATE_ALL,
                    "containers": [{"name": container, "image": image}],
                },
            },
        },
    }


def _workloads(count: int) -> Iterator[Obj]:
    control_plane = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
    dns = {"tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}, control_plane]}
    yield _deployment("coredns", "kube-system", {"k8s-app": "kube-dns"}, "registry.k8s.io/coredns/coredns:v1.13.1", min(2, count), dns)
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}}
    yield _deployment("whoami", "apps", {"app": "whoami"}, "docker.io/traefik/whoami:v1.11", min(3, count), {})
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "whoami", "namespace": "apps"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "whoami"}}},
    }


def _deployment(name: str, namespace: str, labels: dict[str, str], image: str, replicas: int, spec: dict[str, Any]) -> Obj:
    pod = {**spec, "containers": [{"name": name, "image": image}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
