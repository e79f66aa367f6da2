"""Who peers with whom, from a CiliumBGPNodeConfig or a CiliumBGPPeeringPolicy, and whether that can be believed. Pure.

In: the objects of one moment. Out: Sessions of a node, each with what its families are to be told. A state counts as stale if the agent
that wrote it is not Ready, or if Prometheus has sessions of any node but no fresh sample of this one. A CiliumBGPPeeringPolicy has no
status at all, so only Prometheus can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from remediator.bgp.advertise import Services, Wanted
from remediator.bgp.model import Family, Metrics, Session
from remediator.bgp.selector import selects
from remediator.kube.records import condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.bgp.objects import Objects
    from remediator.kube.records import Pod

__all__ = ["Peering", "Speaking", "agent_trouble"]

_ESTABLISHED = "established"
_GRACEFUL = 120
"""Default of gracefulRestart.restartTimeSeconds."""
_AFIS = ("ipv4", "ipv6")


class Peering(NamedTuple):
    """A session, and by address family the prefixes that it is to carry."""

    session: Session
    wanted: dict[str, Wanted]


def agent_trouble(agents: Iterable[Pod]) -> str:
    """What is wrong with the agent of a node, given its agent pods; empty if it is Ready."""
    here = [pod for pod in agents if not pod.terminating]
    if not here:
        return "no agent pod"
    ready = any((found := condition(pod.status.conditions, "Ready")) and found.status == "True" for pod in here)
    return "" if ready else f"agent {here[0].name} is not Ready"


class Speaking:
    """Answers for one set of objects."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._services = Services(objects.services, objects.slices)
        self._peer_configs = {thing["metadata"]["name"]: thing["spec"] for thing in objects.peer_configs}
        self._entries: dict[int, list[Mapping[str, Any]]] = {}
        self._node_configs = {thing["metadata"]["name"]: thing for thing in objects.node_configs}

    def peerings(self, node: str, pod_cidrs: tuple[str, ...], agent: str, policies: Iterable[Mapping[str, Any]]) -> list[Peering]:
        """What ``node`` speaks. BGPv1 wins over BGPv2 on a node that a CiliumBGPPeeringPolicy selects."""
        found = [
            self._legacy(router, neighbor, number, node, pod_cidrs, agent)
            for policy in policies
            for number, router in enumerate(policy["spec"].get("virtualRouters") or ())
            for neighbor in router.get("neighbors") or ()
        ]
        return found or self._modern(node, pod_cidrs, agent)

    def _modern(self, node: str, pod_cidrs: tuple[str, ...], agent: str) -> list[Peering]:
        config = self._node_configs.get(node)
        if config is None:
            return []
        reported = {one.get("name"): one for one in (config.get("status") or {}).get("bgpInstances") or ()}
        found = []
        for instance in (config.get("spec") or {}).get("bgpInstances") or ():
            told = reported.get(instance["name"]) or {}
            peers = {one.get("name"): one for one in told.get("peers") or ()}
            found += [
                self._peering(instance, peer, peers.get(peer["name"]), node, pod_cidrs, agent) for peer in instance.get("peers") or ()
            ]
        return found

    def _peering(
        self,
        instance: Mapping[str, Any],
        peer: Mapping[str, Any],
        told: Mapping[str, Any] | None,
        node: str,
        pod_cidrs: tuple[str, ...],
        agent: str,
    ) -> Peering:
        name = (peer.get("peerConfigRef") or {}).get("name", "")
        spec = self._peer_configs.get(name) or {}
        address = peer.get("peerAddress") or (told or {}).get("peerAddress") or ""
        wanted = {family["afi"]: self._wanted(family, node, pod_cidrs) for family in spec.get("families") or ()}
        timers, graceful = spec.get("timers") or {}, spec.get("gracefulRestart") or {}
        hold = graceful.get("restartTimeSeconds", _GRACEFUL) if graceful.get("enabled") else timers.get("holdTimeSeconds", 90)
        state = told.get("peeringState", "unknown") if told else self._by_metrics(node, address)
        session = Session(
            instance=instance["name"],
            local_asn=instance.get("localASN") or 0,
            peer=peer["name"],
            address=address,
            asn=peer.get("peerASN") or 0,
            config=name,
            state=state,
            families=tuple(self._family(afi, want, told, node, address) for afi, want in wanted.items()),
            stale=self._stale(node, address, agent),
            graceful=bool(graceful.get("enabled")),
            connect_retry_seconds=timers.get("connectRetryTimeSeconds", 120),
            hold_seconds=hold,
        )
        return Peering(session, wanted)

    def _legacy(
        self,
        router: Mapping[str, Any],
        neighbor: Mapping[str, Any],
        number: int,
        node: str,
        pod_cidrs: tuple[str, ...],
        agent: str,
    ) -> Peering:
        address = neighbor["peerAddress"].partition("/")[0]
        entry: dict[str, Any] = {
            "advertisementType": "Service",
            "service": {"addresses": router.get("serviceAdvertisements") or ["LoadBalancerIP"]},
            "selector": router.get("serviceSelector"),
        }
        entries = [entry, *([{"advertisementType": "PodCIDR"}] if router.get("exportPodCIDR") else [])]
        wanted = {afi: self._services.wanted(entries, node, pod_cidrs, afi) for afi in _AFIS}
        wanted = {afi: want for afi, want in wanted.items() if want.prefixes}
        graceful = neighbor.get("gracefulRestart") or {}
        hold = graceful.get("restartTimeSeconds", _GRACEFUL) if graceful.get("enabled") else neighbor.get("holdTimeSeconds", 90)
        state = self._by_metrics(node, address)
        silent = "a CiliumBGPPeeringPolicy reports no state, and Prometheus has none"
        session = Session(
            instance=f"router-{number}",
            local_asn=router["localASN"],
            peer=address,
            address=address,
            asn=neighbor["peerASN"],
            state=state,
            families=tuple(self._family(afi, want, None, node, address) for afi, want in wanted.items()),
            stale=silent if self._objects.metrics.state is not Metrics.READ else self._stale(node, address, agent),
            graceful=bool(graceful.get("enabled")),
            connect_retry_seconds=neighbor.get("connectRetryTimeSeconds", 120),
            hold_seconds=hold,
        )
        return Peering(session, wanted)

    def _wanted(self, family: Mapping[str, Any], node: str, pod_cidrs: tuple[str, ...]) -> Wanted:
        return self._services.wanted(self._chosen(family), node, pod_cidrs, family["afi"])

    def _chosen(self, family: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The advertisement entries that a family selects; families live as long as this does."""
        if id(family) not in self._entries:
            self._entries[id(family)] = [
                entry
                for thing in self._objects.advertisements
                if selects(family.get("advertisements"), thing["metadata"].get("labels") or {})
                for entry in thing["spec"].get("advertisements") or ()
            ]
        return self._entries[id(family)]

    def _family(self, afi: str, want: Wanted, told: Mapping[str, Any] | None, node: str, address: str) -> Family:
        counts = {one.get("afi"): one for one in (told or {}).get("routeCount") or ()}
        if told is not None:
            advertised = counts.get(afi, {}).get("advertised", 0)
        else:
            advertised = self._objects.metrics.advertised.get((node, address, afi))
        return Family(afi=afi, advertised=advertised, wanted=want.routes)

    def _by_metrics(self, node: str, address: str) -> str:
        up = self._objects.metrics.up.get((node, address))
        return "unknown" if up is None else _ESTABLISHED if up else "down"

    def _stale(self, node: str, address: str, agent: str) -> str:
        if agent:
            return f"{agent}, so its state is old"
        metrics = self._objects.metrics
        if metrics.state is not Metrics.READ:
            return ""
        up = metrics.up.get((node, address))
        if up is None:
            return "Prometheus has no fresh sample of the session"
        return "" if up else "Prometheus has the session as down"
