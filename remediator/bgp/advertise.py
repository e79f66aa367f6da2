"""Which prefixes the configuration asks a node to announce, as Cilium's agent reads it (``pkg/bgpv1/manager/reconcilerv2``). Pure.

In: the advertisements that a peer's family selects, services, endpoints. Out: prefixes. Pod IP pools and interfaces are not understood by
this version: they are named in ``unknown`` and never counted, so nothing is promised about them.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

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


_Told: TypeAlias = tuple[frozenset[Announced], list[tuple[Announced, set[str]]]]


class Services:
    """The services of the cluster, and where their ready endpoints are."""

    def __init__(self, services: Iterable[Service], slices: Iterable[EndpointSlice]) -> None:
        self._services = list(services)
        self._local: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for found in slices:
            key = found.namespace, found.labels.get(_SLICE_OF, "")
            self._local[key].update(e.node_name for e in found.endpoints or () if e.node_name and e.usable)
        self._told: dict[tuple[int, str], _Told] = {}
        self._kept: list[Mapping[str, Any]] = []

    def wanted(self, entries: Iterable[Mapping[str, Any]], node: str, pod_cidrs: Iterable[str], afi: str) -> Wanted:
        """What advertisement entries make ``node`` announce in one family."""
        prefixes: frozenset[Announced] = frozenset()
        routes = 0
        for entry in entries:
            found = self._of(entry, node, pod_cidrs, afi)
            length = (entry.get("service") or {}).get("aggregationLengthIPv4" if afi == "ipv4" else "aggregationLengthIPv6")
            routes += min(len(found), 1) if length else len(found - prefixes)
            prefixes = prefixes | found if prefixes else found
        return Wanted(prefixes, routes)

    def _of(self, entry: Mapping[str, Any], node: str, pod_cidrs: Iterable[str], afi: str) -> frozenset[Announced]:
        match entry.get("advertisementType"):
            case "PodCIDR":
                return frozenset(Announced(cidr, PrefixKind.POD_CIDR, node) for cidr in pod_cidrs if afi_of(cidr) == afi)
            case "Service":
                everywhere, local = self._of_services(entry, afi)
                here = [one for one, nodes in local if node in nodes]
                return everywhere.union(here) if here else everywhere
            case _:
                return frozenset()

    def _of_services(self, entry: Mapping[str, Any], afi: str) -> _Told:
        """What every node announces, and what only some do. The same for all nodes, so it is worked out once."""
        key = id(entry), afi
        if key not in self._told:
            found = [
                (one, self._local[service.namespace, service.name] if one.policy == LOCAL else None)
                for service in self._services
                if selects(entry.get("selector"), _labels(service))
                for one in _announced(service, (entry.get("service") or {}).get("addresses") or ())
                if afi_of(one.prefix) == afi
            ]
            everywhere = frozenset(one for one, nodes in found if nodes is None)
            self._told[key] = everywhere, [(one, nodes) for one, nodes in found if nodes is not None]
            self._kept.append(entry)  # so that no other entry gets its id
        return self._told[key]


def _announced(service: Service, kinds: Iterable[str]) -> Iterator[Announced]:
    for kind in kinds:
        addresses, policy = _addresses_of(service, kind)
        for address in addresses:
            yield Announced(str(ipaddress.ip_network(address)), PrefixKind.SERVICE, f"{service.namespace}/{service.name}", policy)


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
