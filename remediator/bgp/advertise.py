"""Which prefixes the configuration asks a node to announce, as Cilium's agent reads it (``pkg/bgpv1/manager/reconcilerv2``). Pure.

In: the advertisements that a peer's family selects, services, endpoints. Out: prefixes. Pod IP pools and interfaces are not understood by
this version: they are named in ``unknown`` and never counted, so nothing is promised about them.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from remediator.bgp.model import PrefixKind
from remediator.bgp.selector import selects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from remediator.bgp.objects import EndpointSlice, Service

__all__ = ["Announced", "Services", "Wanted", "afi_of"]

_CLASS = "io.cilium/bgp-control-plane"
_SLICE_OF = "kubernetes.io/service-name"
LOCAL = "Local"


class Announced(NamedTuple):
    """One prefix that somebody is to announce."""

    prefix: str
    kind: PrefixKind
    of: str
    policy: str = ""


class Wanted(NamedTuple):
    """What one family of one peer is to be told."""

    prefixes: frozenset[Announced]
    routes: int
    """How many routes that makes; an aggregate is one."""


def afi_of(prefix: str) -> str:
    """``ipv4`` or ``ipv6``."""
    return "ipv6" if ":" in prefix else "ipv4"


class Services:
    """The services of the cluster, and where their ready endpoints are."""

    def __init__(self, services: Iterable[Service], slices: Iterable[EndpointSlice]) -> None:
        self._services = list(services)
        self._local: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for found in slices:
            key = found.namespace, found.labels.get(_SLICE_OF, "")
            self._local[key].update(e.node_name for e in found.endpoints or () if e.node_name and e.usable)

    def wanted(self, entries: Iterable[Mapping[str, Any]], node: str, pod_cidrs: Iterable[str], afi: str) -> Wanted:
        """What advertisement entries make ``node`` announce in one family."""
        prefixes: set[Announced] = set()
        routes = 0
        for entry in entries:
            found = {one for one in self._of(entry, node, pod_cidrs) if afi_of(one.prefix) == afi}
            length = (entry.get("service") or {}).get("aggregationLengthIPv4" if afi == "ipv4" else "aggregationLengthIPv6")
            routes += min(len(found), 1) if length else len(found - prefixes)
            prefixes |= found
        return Wanted(frozenset(prefixes), routes)

    def _of(self, entry: Mapping[str, Any], node: str, pod_cidrs: Iterable[str]) -> Iterator[Announced]:
        match entry.get("advertisementType"):
            case "PodCIDR":
                yield from (Announced(cidr, PrefixKind.POD_CIDR, node) for cidr in pod_cidrs)
            case "Service":
                kinds = (entry.get("service") or {}).get("addresses") or ()
                for service in self._services:
                    if selects(entry.get("selector"), _labels(service)):
                        yield from self._addresses(service, kinds, node)
            case _:
                return

    def _addresses(self, service: Service, kinds: Iterable[str], node: str) -> Iterator[Announced]:
        for kind in kinds:
            addresses, policy = _addresses_of(service, kind)
            if policy == LOCAL and node not in self._local[service.namespace, service.name]:
                continue
            for address in addresses:
                prefix = str(ipaddress.ip_network(address))
                yield Announced(prefix, PrefixKind.SERVICE, f"{service.namespace}/{service.name}", policy)


def _labels(service: Service) -> dict[str, str]:
    """A service can be selected by its name, too."""
    return {**service.labels, "io.kubernetes.service.name": service.name, "io.kubernetes.service.namespace": service.namespace}


def _addresses_of(service: Service, kind: str) -> tuple[tuple[str, ...], str]:
    """The addresses of that kind, and the traffic policy that decides which nodes announce them."""
    spec = service.spec
    match kind:
        case "LoadBalancerIP":
            if spec.type != "LoadBalancer" or spec.load_balancer_class not in (None, _CLASS):
                return (), ""
            return tuple(one.ip for one in service.status.load_balancer.ingress if one.ip), spec.external_traffic_policy
        case "ExternalIP":
            return spec.external_ips, spec.external_traffic_policy
        case "ClusterIP":
            return tuple(ip for ip in spec.cluster_ips if ip not in ("", "None")), spec.internal_traffic_policy
        case _:
            return (), ""
