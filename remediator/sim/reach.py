"""What answers at the addresses of services: whoever asks an address that a service has reaches a pod behind it that is ready, or nobody.

In come the cluster, an address and a port; out comes whether somebody answers. The simulated Prometheus and rehearsals ask here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from remediator.sim.objects import dig, labels_of, name_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj

__all__ = ["Address", "addresses", "answers", "workload_behind"]

_WORKLOADS = (("deployment", "deployments"), ("statefulset", "statefulsets"), ("daemonset", "daemonsets"))
_DNS = 53


class Address(NamedTuple):
    """One port of one address that a load balancer gave to a service."""

    service: Obj
    host: str
    port: int

    @property
    def dns(self) -> bool:
        """Whether a name server is asked there."""
        return self.port == _DNS


def addresses(cluster: Cluster) -> Iterator[Address]:
    """Of every service that has some."""
    for service in cluster.store.list(("", "services")):
        for ingress in dig(service, "status.loadBalancer.ingress") or ():
            for port in sorted({port["port"] for port in dig(service, "spec.ports") or ()}):
                yield Address(service, str(ingress.get("ip", "")), port)


def answers(cluster: Cluster, host: str, port: int) -> bool:
    """Whether a pod that is ready stands behind that address. An address that no service has is nobody's."""
    return any(_ready(cluster, one.service) for one in addresses(cluster) if (one.host, one.port) == (host, port))


def workload_behind(cluster: Cluster, service: Obj) -> dict[str, str]:
    """The label that names the workload whose pods the service selects; empty if there is none."""
    selector = (dig(service, "spec.selector") or {}).items()
    for label, plural in _WORKLOADS:
        for owner in cluster.store.list(("apps", plural), namespace_of(service)):
            if selector and selector <= labels_of(dig(owner, "spec.template") or {}).items():
                return {label: name_of(owner)}
    return {}


def _ready(cluster: Cluster, service: Obj) -> bool:
    slices = cluster.store.list(("discovery.k8s.io", "endpointslices"), namespace_of(service))
    mine = [one for one in slices if labels_of(one).get("kubernetes.io/service-name") == name_of(service)]
    return any(dig(end, "conditions.ready") for one in mine for end in one.get("endpoints") or ())
