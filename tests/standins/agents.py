"""The Cilium agents: what each does about its own node, played for all nodes of one control plane by one thread.

An agent lives as long as its pod (``k8s-app=cilium``) is ready and dies with it: another uid is another agent. While it lives it

- keeps the CiliumNode of its node, with the labels of the Node, which is what the operator's selectors look at;
- speaks BGP as CiliumBGPNodeConfig, CiliumBGPPeerConfig and CiliumBGPAdvertisement say, by the host's real ``gobgpd``;
- writes the status of CiliumBGPNodeConfig, read from that gobgpd, every two seconds if it changed (the real one: five);
- keeps a CiliumEndpoint for each pod of its node that has a network of its own;
- exports its sessions and how many routes they carry, if there is an exporter to scrape.

A dead one does none of it: its sessions drop, and what it wrote last stays, as with Cilium (``pkg/bgp/manager/node_status.go`` is the only
writer, and clears the status at the agent's start alone).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from standins.api import Api, ApiError, Object, selects
from standins.fabric import PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from standins.fabric import Fabric, Speaker

_TICK, _STATUS_EVERY = 0.25, 2.0
_PODS = "/api/v1/namespaces/kube-system/pods"
_IPV4 = {"afi": "ipv4", "safi": "unicast"}
_GONE_OR_CHANGED = (404, 409)
Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""


@dataclass
class Snapshot:
    """What all agents see of the cluster in one round, by kind."""

    nodes: dict[str, Object]
    pods: list[Object]
    services: list[Object]
    slices: list[Object]
    cilium_nodes: dict[str, Object]
    endpoints: set[tuple[str, str]]
    node_configs: dict[str, Object]
    peer_configs: dict[str, Object]
    advertisements: list[Object]


@dataclass
class Agent:
    """One of them."""

    node: str
    speaker: Speaker
    pod: str = ""
    """The uid of the pod that it lives in; empty while it is dead."""
    config: Object = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    reported: float = 0.0
    instances: list[Object] = field(default_factory=list)
    """As it reported them last, or would have."""
    series: set[Series] = field(default_factory=set)
    """What it exports."""


class Agents:
    """All of them, from :meth:`start` to :meth:`close`."""

    def __init__(self, kubeconfig: Path, fabric: Fabric, version: str) -> None:
        self._kubeconfig = kubeconfig
        self._cilium, self._bgp = "/apis/cilium.io/v2", f"/apis/cilium.io/{version}"
        self._fabric = fabric
        self._agents: list[Agent] = []
        self._exporter: Any = None
        self._end, self._at_work = threading.Event(), threading.Event()
        self._at_work.set()
        self._thread = threading.Thread(target=self._live, name="agents", daemon=True)
        self.failures: list[Exception] = []
        """What no agent should meet. One round is lost with each."""

    def start(self) -> None:
        """One for each host that the fabric has by now."""
        self._agents = [Agent(name, speaker) for name, speaker in self._fabric.hosts.items()]
        self._thread.start()

    def export_to(self, exporter: Any) -> None:
        """Let ``exporter`` (as of ``plugins.prometheus``) have the agents' metrics from now on; None: nobody scrapes them."""
        for agent in self._agents:
            agent.series = set()
        self._exporter = exporter

    def hang(self) -> None:
        """Do nothing for now, though every pod says Ready: labels are not copied, statuses not written, sessions stay as they are."""
        self._at_work.clear()

    def go_on(self) -> None:
        self._at_work.set()

    def close(self) -> None:
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join(30)

    def _live(self) -> None:
        self._api = Api(self._kubeconfig)
        while not self._end.wait(_TICK):
            if not self._at_work.is_set():
                continue
            try:
                seen = self._look()
            except (OSError, ApiError) as error:
                self.failures.append(error)
                continue
            for agent in self._agents:
                self._turn(agent, seen)
        self._api.close()

    def _turn(self, agent: Agent, seen: Snapshot) -> None:
        try:
            if self._lives(agent, seen):
                self._keep_cilium_node(agent, seen)
                self._keep_endpoints(agent, seen)
                self._speak(agent, seen)
                self._report(agent, seen)
            self._export(agent)
        except ApiError as error:
            if error.code not in _GONE_OR_CHANGED:  # the next round sees what became of it
                self.failures.append(error)
        except Exception as error:  # noqa: BLE001 - a stand-in that ends silently would let every test of it wait in vain
            self.failures.append(error)

    def _look(self) -> Snapshot:
        items = self._api.items
        endpoints = items(f"{self._cilium}/ciliumendpoints")
        return Snapshot(
            nodes=_by_name(items("/api/v1/nodes")),
            pods=items("/api/v1/pods"),
            services=items("/api/v1/services"),
            slices=items("/apis/discovery.k8s.io/v1/endpointslices"),
            cilium_nodes=_by_name(items(f"{self._cilium}/ciliumnodes")),
            endpoints={(one["metadata"]["namespace"], one["metadata"]["name"]) for one in endpoints},
            node_configs=_by_name(items(f"{self._bgp}/ciliumbgpnodeconfigs")),
            peer_configs=_by_name(items(f"{self._bgp}/ciliumbgppeerconfigs")),
            advertisements=items(f"{self._bgp}/ciliumbgpadvertisements"),
        )

    def _lives(self, agent: Agent, seen: Snapshot) -> bool:
        """Die with the pod, and come back, with nothing of what was, in the next."""
        pod = next((uid for uid, node in _ready_agents(seen.pods) if node == agent.node), "")
        if agent.pod and pod != agent.pod:
            agent.speaker.kill()
            agent.config, agent.announced, agent.instances = {}, set(), []
        agent.pod = pod
        return bool(pod) and agent.node in seen.nodes

    def _keep_cilium_node(self, agent: Agent, seen: Snapshot) -> None:
        node, own = seen.nodes[agent.node], seen.cilium_nodes.get(agent.node)
        wanted = dict(node["metadata"].get("labels", {}))
        if own is None:
            self._api.create(f"{self._cilium}/ciliumnodes", _cilium_node(node, wanted))
        elif own["metadata"].get("labels", {}) != wanted:
            gone = dict.fromkeys(own["metadata"].get("labels", {}))
            self._api.patch(f"{self._cilium}/ciliumnodes/{agent.node}", {"metadata": {"labels": {**gone, **wanted}}})

    def _keep_endpoints(self, agent: Agent, seen: Snapshot) -> None:
        for pod in seen.pods:
            spec, name = pod["spec"], (pod["metadata"]["namespace"], pod["metadata"]["name"])
            if spec.get("nodeName") != agent.node or spec.get("hostNetwork") or name in seen.endpoints or not pod["status"].get("podIP"):
                continue
            if "deletionTimestamp" not in pod["metadata"]:
                path = f"{self._cilium}/namespaces/{name[0]}/ciliumendpoints"
                self._api.create(path, _endpoint(pod, _address(seen.nodes[agent.node])))

    def _speak(self, agent: Agent, seen: Snapshot) -> None:
        wanted = seen.node_configs.get(agent.node)
        config = _gobgpd(wanted["spec"], seen.peer_configs, _address(seen.nodes[agent.node])) if wanted else {}
        if config != agent.config or (config and not agent.speaker.running):
            agent.speaker.stop()
            agent.announced = set()
            if config:
                agent.speaker.start(config)
            agent.config, agent.reported, agent.instances = config, 0.0, []
        prefixes = _prefixes(wanted["spec"], seen, agent.node) if wanted else set()
        for prefix in prefixes - agent.announced:
            agent.speaker.announce(prefix)
        for prefix in agent.announced - prefixes:
            agent.speaker.withdraw(prefix)
        agent.announced = prefixes

    def _report(self, agent: Agent, seen: Snapshot) -> None:
        own = seen.node_configs.get(agent.node)
        if own is None or time.monotonic() - agent.reported < _STATUS_EVERY:
            return
        agent.reported = time.monotonic()
        sessions = agent.speaker.sessions()
        agent.instances = [_instance(one, sessions, agent.speaker) for one in own["spec"].get("bgpInstances", ())]
        if own.get("status", {}).get("bgpInstances") != agent.instances:
            status = {"status": {"bgpInstances": agent.instances}}
            self._api.patch(f"{self._bgp}/ciliumbgpnodeconfigs/{agent.node}/status", status)

    def _export(self, agent: Agent) -> None:
        """A session that is no more is not 0 but gone (trap 9), as are all series of an agent that does not answer a scrape."""
        if (exporter := self._exporter) is None:
            return
        values = dict(_series(agent.node, agent.instances)) if agent.pod else {}
        for (name, labels), value in values.items():
            exporter.set(name, dict(labels), value)
        for name, labels in agent.series - values.keys():
            exporter.remove(name, dict(labels))
        agent.series = set(values)


def _by_name(items: Iterable[Object]) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in items}


def _ready_agents(pods: Iterable[Object]) -> Iterable[tuple[str, str]]:
    for pod in pods:
        ours = pod["metadata"]["namespace"] == "kube-system" and pod["metadata"].get("labels", {}).get("k8s-app") == "cilium"
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
        if ours and ready and "deletionTimestamp" not in pod["metadata"]:
            yield pod["metadata"]["uid"], pod["spec"]["nodeName"]


def _address(node: Object) -> str:
    return next(str(one["address"]) for one in node["status"]["addresses"] if one["type"] == "InternalIP")


def _cilium_node(node: Object, labels: dict[str, str]) -> Object:
    name, number = node["metadata"]["name"], node["metadata"]["name"].rsplit("-", 1)[1]
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "spec": {"addresses": [{"type": "InternalIP", "ip": _address(node)}], "ipam": {"podCIDRs": [f"10.244.{number}.0/24"]}},
    }


def _endpoint(pod: Object, node: str) -> Object:
    metadata = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEndpoint",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "ownerReferences": [owner]},
        "status": {
            "id": int(metadata["uid"][:4], 16) + 1,
            "state": "ready",
            "networking": {"node": node, "addressing": [{"ipv4": pod["status"]["podIP"]}]},
        },
    }


def _gobgpd(spec: Object, peer_configs: dict[str, Object], address: str) -> Object:
    """gobgpd's config for the first instance of a node's config; a host of these tests has one."""
    (instance, *_) = spec["bgpInstances"]
    return {
        "global": {"config": {"as": instance["localASN"], "router-id": instance.get("routerID", address), "port": -1}},
        "neighbors": [_neighbor(peer, _peer_config(peer, peer_configs)) for peer in instance.get("peers", ())],
    }


def _neighbor(peer: Object, config: Object) -> Object:
    timers = config.get("timers", {})
    return {
        "config": {"neighbor-address": peer["peerAddress"], "peer-as": peer["peerASN"]},
        "transport": {"config": {"remote-port": config.get("transport", {}).get("peerPort", 179)}},
        "timers": {
            "config": {
                "connect-retry": timers.get("connectRetryTimeSeconds", 120),
                "hold-time": timers.get("holdTimeSeconds", 90),
                "keepalive-interval": timers.get("keepAliveTimeSeconds", 30),
            }
        },
    }


def _peer_config(peer: Object, peer_configs: dict[str, Object]) -> Object:
    named = peer_configs.get(peer.get("peerConfigRef", {}).get("name", ""))
    return dict(named["spec"]) if named else {}


def _prefixes(spec: Object, seen: Snapshot, node: str) -> set[str]:
    """What the node has to announce: for each family of each peer the advertisements that its selector takes."""
    found: set[str] = set()
    for peer in spec["bgpInstances"][0].get("peers", ()):
        for family in _peer_config(peer, seen.peer_configs).get("families", ()):
            for one in seen.advertisements:
                if family["afi"] == "ipv4" and selects(family.get("advertisements"), one["metadata"].get("labels", {})):
                    found |= _advertised(one["spec"]["advertisements"], seen, node)
    return found


def _advertised(parts: Iterable[Object], seen: Snapshot, node: str) -> set[str]:
    found: set[str] = set()
    for part in parts:
        if part["advertisementType"] == "PodCIDR":
            found |= set(seen.cilium_nodes.get(node, {}).get("spec", {}).get("ipam", {}).get("podCIDRs", ()))
        elif part["advertisementType"] == "Service" and "LoadBalancerIP" in part["service"]["addresses"]:
            found |= {
                vip for service in seen.services if selects(part.get("selector"), _labels(service)) for vip in _vips(service, seen, node)
            }
    return found


def _labels(service: Object) -> dict[str, str]:
    metadata = service["metadata"]
    known = {"io.kubernetes.service.name": metadata["name"], "io.kubernetes.service.namespace": metadata["namespace"]}
    return {**metadata.get("labels", {}), **known}


def _vips(service: Object, seen: Snapshot, node: str) -> set[str]:
    if service["spec"].get("externalTrafficPolicy") == "Local" and not _served_on(service, seen, node):
        return set()
    given = service["status"].get("loadBalancer", {}).get("ingress", ())
    return {f"{one['ip']}/32" for one in given if "ip" in one}


def _served_on(service: Object, seen: Snapshot, node: str) -> bool:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    ours = (
        one
        for one in seen.slices
        if one["metadata"]["namespace"] == namespace and one["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name
    )
    ends = (end for one in ours for end in one.get("endpoints") or ())
    return any(end.get("nodeName") == node and end.get("conditions", {}).get("ready", True) for end in ends)


def _instance(spec: Object, sessions: dict[str, Object], speaker: Speaker) -> Object:
    peers = [_peer(peer, sessions.get(peer["peerAddress"]), speaker) for peer in spec.get("peers", ())]
    return {"name": spec["name"], "localASN": spec["localASN"], "peers": peers}


def _peer(spec: Object, session: Object | None, speaker: Speaker) -> Object:
    state = session["state"] if session else "unknown"
    count = speaker.advertised(spec["peerAddress"]) if state == "established" else 0
    status = {
        "name": spec["name"],
        "peerAddress": spec["peerAddress"],
        "peerASN": spec["peerASN"],
        "peeringState": state,
        "routeCount": [{**_IPV4, "advertised": count, "received": 0}],
    }
    if session and state == "established":
        status["establishedTime"] = datetime.fromtimestamp(session["since"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status["timers"] = {"appliedHoldTimeSeconds": session["hold"], "appliedKeepaliveSeconds": session["keepalive"]}
    return status


def _series(node: str, instances: Iterable[Object]) -> Iterator[tuple[Series, int]]:
    """With the label ``node``, which Cilium's ServiceMonitor adds, and the neighbor as the agent names it, with its port."""
    for instance in instances:
        for peer in instance["peers"]:
            neighbor = {"neighbor": f"{peer['peerAddress']}:{PORT}", "neighbor_asn": str(peer["peerASN"])}
            labels = {"node": node, "vrouter": str(instance["localASN"]), **neighbor}
            up = peer["peeringState"] == "established"
            yield ("cilium_bgp_control_plane_session_state", tuple(labels.items())), int(up)
            if up:
                counted = {**labels, **_IPV4}
                yield ("cilium_bgp_control_plane_advertised_routes", tuple(counted.items())), peer["routeCount"][0]["advertised"]
