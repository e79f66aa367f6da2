"""BGP as Cilium does it: the operator's part (which nodes speak) and the agents' part (sessions, routes, status).

In come cluster configs, CiliumNode labels, services and endpoints; out come CiliumBGPNodeConfigs with their status, conditions, and what
the routers heard. The operator writes only while one works, an agent only while it works itself: then a status stays as it was, however
long (pkg/bgpv1/manager/reconcilerv2/crd_status.go). Written apart from ``remediator.bgp``, so that the one can prove the other.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from remediator.sim.objects import clone, controller_of, dig, labels_of, matches_selector, name_of, namespace_of, rfc3339, set_condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["BgpAgents", "BgpOperator", "Heard"]

_GROUP = "cilium.io"
_CONFIGS, _NODE_CONFIGS = (_GROUP, "ciliumbgpclusterconfigs"), (_GROUP, "ciliumbgpnodeconfigs")
_PEER_CONFIGS, _ADVERTISEMENTS = (_GROUP, "ciliumbgppeerconfigs"), (_GROUP, "ciliumbgpadvertisements")
_CILIUM_NODES, _PODS = (_GROUP, "ciliumnodes"), ("", "pods")
_SERVICES, _SLICES = ("", "services"), ("discovery.k8s.io", "endpointslices")


class BgpOperator:
    """What the operator does: ClusterConfig x CiliumNode labels -> NodeConfig, and the conditions of the ClusterConfig."""

    tables = (_CONFIGS, _NODE_CONFIGS, _PEER_CONFIGS, _CILIUM_NODES, _PODS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._late = False

    def keys(self, change: Change) -> Iterable[str]:
        """Everything together, since configs compete for nodes."""
        if change.table == _PODS and not self.cluster.is_operator(change.obj):
            return ()
        return ("all",)

    def reconcile(self, _key: str) -> None:
        """Soon, as its workqueue does."""
        if self.cluster.booting:
            self._write()
        elif not self._late:
            self._late = True
            self.cluster.loop.after(self.cluster.timing.bgp_operator, self._write)

    def _write(self) -> None:
        self._late = False
        if not self.cluster.cilium or not (self.cluster.booting or self.cluster.operator_works()):
            return
        configs = sorted(self.cluster.store.list(_CONFIGS), key=name_of)
        for config in configs:
            self._config(config)
        known = {name_of(config) for config in configs}
        for found in self.cluster.store.list(_NODE_CONFIGS):
            if _owner(found) not in known:
                self.cluster.store.remove(self.cluster.kind("CiliumBGPNodeConfig"), found)

    def _config(self, config: Obj) -> None:
        selector = dig(config, "spec.nodeSelector")
        nodes = self.cluster.store.list(_CILIUM_NODES)
        chosen = [name_of(n) for n in nodes if selector is None or matches_selector(selector, labels_of(n))]
        others = {owner for node in chosen if (owner := self._upsert(config, node))}
        for found in self.cluster.store.list(_NODE_CONFIGS):
            if _owner(found) == name_of(config) and name_of(found) not in chosen:
                self.cluster.store.remove(self.cluster.kind("CiliumBGPNodeConfig"), found)
        self._conditions(config, bool(chosen), others)

    def _upsert(self, config: Obj, node: str) -> str:
        """The name of another config that holds the node already."""
        kind = self.cluster.kind("CiliumBGPNodeConfig")
        spec = {"bgpInstances": [_instance(one) for one in dig(config, "spec.bgpInstances", [])]}
        found = self.cluster.store.get(kind, node)
        if found is None:
            reference = {"apiVersion": config["apiVersion"], "kind": config["kind"], "name": name_of(config), "controller": True}
            reference["uid"] = config["metadata"]["uid"]
            self.cluster.store.add(kind, {"metadata": {"name": node, "ownerReferences": [reference]}, "spec": spec, "status": {}})
        elif _owner(found) != name_of(config):
            return _owner(found)
        elif found["spec"] != spec:
            copy = self.cluster.store.edit(kind, found)
            copy["spec"] = spec
            self.cluster.store.replace(kind, copy)
        return ""

    def _conditions(self, config: Obj, chosen: bool, others: set[str]) -> None:  # noqa: FBT001 - one of three findings
        refs = {dig(p, "peerConfigRef.name") for i in dig(config, "spec.bgpInstances", []) for p in i.get("peers") or ()} - {None}
        missing = sorted(name for name in refs if self.cluster.store.get(_PEER_CONFIGS, name) is None)
        kind = self.cluster.kind("CiliumBGPClusterConfig")
        copy = self.cluster.store.edit(kind, config)
        told = (
            ("NoMatchingNode", not chosen, "No node matches spec.nodeSelector"),
            ("MissingPeerConfigs", bool(missing), f"Referenced CiliumBGPPeerConfig(s) are missing: {missing}"),
            ("ConflictingClusterConfig", bool(others), f"Selecting the same node(s) with ClusterConfig(s): {sorted(others)}"),
        )
        for name, holds, words in told:
            # The reason is the same text whether it holds or not (seen with Cilium's operator 1.17).
            set_condition(copy, f"cilium.io/{name}", str(holds), self.cluster.clock.now(), reason=name, message=words)
        if copy.get("status") != config.get("status"):
            self.cluster.store.replace(kind, copy)


def _owner(node_config: Obj) -> str:
    return str((controller_of(node_config) or {}).get("name", ""))


def _instance(instance: Obj) -> Obj:
    copied: Obj = clone(instance)
    return copied


class Heard(NamedTuple):
    """What one node tells one router."""

    node: str
    instance: str
    local_asn: int
    peer: str
    address: str
    asn: int
    up: bool
    routes: dict[str, frozenset[str]]
    """By address family."""


class BgpAgents:
    """The speakers in the agents, and the status that they write every few seconds."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.cut: set[tuple[str, str]] = set()
        """(node, address of a router) that cannot reach each other; the node may be ``*``."""
        self.lossy: set[str] = set()
        """Nodes whose way to the routers loses packets: whoever is sent there by a route suffers."""
        self._since: dict[str, tuple[str, str, datetime]] = {}

    def beat(self) -> None:
        """Look at every speaker now and again and again."""
        self.report()
        self.cluster.loop.after(self.cluster.timing.bgp_status, self.beat)

    def report(self) -> None:
        """Write what has changed into the status of each NodeConfig whose agent works."""
        kind = self.cluster.kind("CiliumBGPNodeConfig")
        for found in self.cluster.store.list(_NODE_CONFIGS):
            node = name_of(found)
            if not self.cluster.agent_works(node):
                continue
            status = {"bgpInstances": list(self._instances(found, {h.address: h for h in self.heard_from(node)}))}
            if status != found.get("status"):
                copy = self.cluster.store.edit(kind, found)
                copy["status"] = status
                self.cluster.store.replace(kind, copy)

    def heard_from(self, node: str) -> Iterator[Heard]:
        """What the routers hear from a node. A dead agent says nothing (there is no graceful restart here)."""
        config = self.cluster.store.get(_NODE_CONFIGS, node)
        agent = self.cluster.agent_pod(node)
        if config is None or agent is None or not self.cluster.agent_works(node):
            self._since.pop(node, None)
            return
        identity = config["metadata"]["uid"], agent["metadata"]["uid"]
        if self._since.get(node, ("", ""))[:2] != identity:
            head_start = self.cluster.timing.bgp_connect if self.cluster.booting else timedelta(0)
            self._since[node] = (*identity, self.cluster.clock.now() - head_start)
        ripe = self.cluster.clock.now() - self._since[node][2] >= self.cluster.timing.bgp_connect
        for instance in dig(config, "spec.bgpInstances", []):
            for peer in instance.get("peers") or ():
                address = peer["peerAddress"]
                up = ripe and not {(node, address), ("*", address)} & self.cut
                routes = self._routes(peer, node) if up else {}
                yield Heard(node, instance["name"], instance["localASN"], peer["name"], address, peer.get("peerASN", 0), up, routes)

    def table(self, router: str) -> dict[str, list[str]]:
        """What a router has: prefix -> the nodes that it has it from."""
        found: dict[str, list[str]] = {}
        for node in self.cluster.node_names():
            for heard in self.heard_from(node):
                if heard.address == router:
                    for prefix in sorted(p for prefixes in heard.routes.values() for p in prefixes):
                        found.setdefault(prefix, []).append(node)
        return found

    def routers(self) -> dict[str, dict[str, list[str]]]:
        """The table of every router that some config names."""
        peers = [p for c in self.cluster.store.list(_CONFIGS) for i in dig(c, "spec.bgpInstances", []) for p in i.get("peers") or ()]
        return {address: self.table(address) for address in sorted({peer["peerAddress"] for peer in peers})}

    def _instances(self, config: Obj, heard: dict[str, Heard]) -> Iterator[Obj]:
        for instance in dig(config, "spec.bgpInstances", []):
            peers = [self._peer(peer, heard[peer["peerAddress"]], config) for peer in instance.get("peers") or ()]
            yield {"name": instance["name"], "localASN": instance["localASN"], "peers": peers}

    def _peer(self, peer: Obj, heard: Heard, config: Obj) -> Obj:
        told = {"name": peer["name"], "peerAddress": peer["peerAddress"], "peerASN": peer.get("peerASN", 0)}
        if not heard.up:
            return {**told, "peeringState": "active", "routeCount": []}
        counts = [{"afi": afi, "safi": "unicast", "advertised": len(routes), "received": 0} for afi, routes in heard.routes.items()]
        earlier = [p for i in dig(config, "status.bgpInstances", []) for p in i.get("peers") or () if p["name"] == peer["name"]]
        began = rfc3339(self._since[name_of(config)][2])
        told_before = (p["establishedTime"] for p in earlier if "establishedTime" in p)
        since = next((at for at in told_before if at >= began), rfc3339(self.cluster.clock.now()))  # a new agent begins anew
        return {**told, "peeringState": "established", "establishedTime": since, "routeCount": counts}

    def _routes(self, peer: Obj, node: str) -> dict[str, frozenset[str]]:
        spec = dig(self.cluster.store.get(_PEER_CONFIGS, dig(peer, "peerConfigRef.name", "")), "spec", {})
        return {family["afi"]: frozenset(self._prefixes(family, node)) for family in spec.get("families") or ()}

    def _prefixes(self, family: Obj, node: str) -> Iterator[str]:
        for advertisement in self.cluster.store.list(_ADVERTISEMENTS):
            if matches_selector(family.get("advertisements"), labels_of(advertisement)):
                for entry in dig(advertisement, "spec.advertisements", []):
                    yield from (p for p in self._of(entry, node) if (":" in p) == (family["afi"] == "ipv6"))

    def _of(self, entry: Obj, node: str) -> Iterator[str]:
        if entry["advertisementType"] == "PodCIDR":
            yield self.cluster.pod_cidr(node)
        if entry["advertisementType"] != "Service" or "LoadBalancerIP" not in dig(entry, "service.addresses", []):
            return
        for service in self.cluster.store.list(_SERVICES):
            labels = {**labels_of(service), "io.kubernetes.service.name": name_of(service)}
            labels["io.kubernetes.service.namespace"] = namespace_of(service)
            local = dig(service, "spec.externalTrafficPolicy") == "Local"
            if matches_selector(entry.get("selector"), labels) and (not local or self._has_endpoint(service, node)):
                addresses = [i["ip"] for i in dig(service, "status.loadBalancer.ingress", []) if i.get("ip")]
                yield from (f"{address}/{128 if ':' in address else 32}" for address in addresses)

    def _has_endpoint(self, service: Obj, node: str) -> bool:
        slices = self.cluster.store.list(_SLICES, namespace_of(service))
        mine = [s for s in slices if labels_of(s).get("kubernetes.io/service-name") == name_of(service)]
        return any(e.get("nodeName") == node and e["conditions"]["ready"] for s in mine for e in s.get("endpoints") or ())
