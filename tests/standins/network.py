"""One control plane, the stand-ins on it and the fabric under it, as a test sees and handles them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from standins import objects
from standins.agents import Agents
from standins.api import Api, Object

if TYPE_CHECKING:
    from standins.cilium_operator import CiliumOperator
    from standins.fabric import Fabric

SPEAKERS = ("node-2", "node-3", "node-4")
"""Who speaks when nobody has changed anything."""
_PATIENCE = 90.0


class Network:
    """``plane``: what ``plugins.controlplane`` runs. ``operator``: None where the real one runs."""

    def __init__(self, plane: Any, fabric: Fabric, version: str, operator: CiliumOperator | None) -> None:
        self.plane, self.fabric, self.version, self.operator = plane, fabric, version, operator
        self.api = Api(plane.kubeconfig)
        self.bgp = f"/apis/cilium.io/{version}"
        self.agents = Agents(plane.of("cilium"), fabric, version)
        self._first: dict[str, Object] = {}

    def open(self) -> None:
        """Install Cilium as its chart would, give three nodes the label, and wait until the router hears of one service from each."""
        nodes = self.api.items("/api/v1/nodes")
        addresses = {node["metadata"]["name"]: _address(node) for node in nodes}
        self.fabric.open(addresses, asn=objects.ASN)
        if self.operator:
            self.operator.start()
        self.apply(*objects.cilium(), *objects.bgp(self.version, objects.BY_DRAIN_LABEL), objects.service("web"))
        self.agents.start()
        for name in SPEAKERS:
            self.label(name, "bgp", "enabled")
        self.until("every speaker announces", self._all_speak)
        self.until("no node is tainted", lambda: not any(self.shape(name)["taints"] for name in self.nodes()))
        self._first = {name: self.shape(name) for name in self.nodes()}

    def reset(self) -> None:
        """As after :meth:`open`, whatever a test did to nodes, agents, services and the cluster config."""
        for name, first in self._first.items():
            now = self.shape(name)
            metadata = {key: {**dict.fromkeys(now[key]), **first[key]} for key in ("labels", "annotations")}
            if now != first:
                spec = {"unschedulable": first["unschedulable"] or None, "taints": first["taints"] or None}
                self.api.patch(f"/api/v1/nodes/{name}", {"metadata": metadata, "spec": spec})
            self.agent(name, ready=True)
            self.fabric.mend(name)
        self.agents.go_on()
        self.agents.export_to(None)
        self.select(objects.BY_DRAIN_LABEL)
        for thing in self.api.items("/api/v1/services?labelSelector=bgp%3Dtrue"):
            if thing["metadata"]["name"] != "web":
                self.api.delete(f"/api/v1/namespaces/{thing['metadata']['namespace']}/services/{thing['metadata']['name']}")
        self.until("every speaker announces again", self._all_speak)
        self.until("the nodes are as they were", lambda: {name: self.shape(name) for name in self.nodes()} == self._first)

    def close(self) -> None:
        self.agents.close()
        if self.operator:
            self.operator.close()
        self.api.close()

    @property
    def failures(self) -> list[Exception]:
        """What went wrong inside the stand-ins, so that no test passes on a broken one."""
        return [*self.agents.failures, *(self.operator.failures if self.operator else ())]

    def nodes(self) -> list[str]:
        return sorted(self.fabric.hosts)

    def apply(self, *things: Object) -> None:
        """``kubectl apply``, all at once."""
        self.plane.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(things)}))

    def label(self, node: str, key: str, value: str | None) -> None:
        """A person's hand on a node."""
        self.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {key: value}}})

    def agent(self, node: str, *, ready: bool) -> None:
        """Let the agent of a node hang, or be well again: kubelet's probe says so, and the stand-in acts on it."""
        pods = f"/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcilium&fieldSelector=spec.nodeName%3D{node}"
        for pod in self.api.items(pods):
            path = f"/api/v1/namespaces/kube-system/pods/{pod['metadata']['name']}/status"
            conditions = [{"type": kind, "status": "True" if ready else "False"} for kind in ("ContainersReady", "Ready")]
            self.api.patch(path, {"status": {"conditions": conditions}}, "strategic-merge")

    def select(self, selector: Object) -> None:
        """Change which nodes the cluster config selects."""
        change = [{"op": "replace", "path": "/spec/nodeSelector", "value": selector}]
        self.api.patch(f"{self.bgp}/ciliumbgpclusterconfigs/{objects.CONFIG}", change, "json")

    def vip(self, name: str, namespace: str = "default") -> str:
        """The address of a service as a prefix; empty while it has none."""
        found = self.api.get(f"/api/v1/namespaces/{namespace}/services/{name}") or {}
        given = found.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        return f"{given[0]['ip']}/32" if given else ""

    def announcers(self, prefix: str) -> set[str]:
        """The nodes that the router's own table has as a way to ``prefix``."""
        names = {_address(node): node["metadata"]["name"] for node in self.api.items("/api/v1/nodes")}
        return {names[address] for address in self.fabric.table().get(prefix, ())}

    def session(self, node: str) -> str:
        """How the router sees its session with ``node``."""
        found = self.api.get(f"/api/v1/nodes/{node}")
        return str(self.fabric.router.sessions()[_address(found or {})]["state"])

    def node_config(self, node: str) -> Object | None:
        return self.api.get(f"{self.bgp}/ciliumbgpnodeconfigs/{node}")

    def reported(self, node: str) -> list[tuple[str, int]]:
        """Of each peer what the node's agent wrote last: state and routes advertised."""
        instances = (self.node_config(node) or {}).get("status", {}).get("bgpInstances", ())
        return [(peer["peeringState"], peer["routeCount"][0]["advertised"]) for one in instances for peer in one["peers"]]

    def shape(self, node: str) -> Object:
        """All of a node that people and we write: labels, annotations, taints, unschedulable."""
        found = self.api.get(f"/api/v1/nodes/{node}") or {}
        metadata, spec = found["metadata"], found["spec"]
        return {
            "labels": metadata.get("labels", {}),
            "annotations": metadata.get("annotations", {}),
            "taints": spec.get("taints", []),
            "unschedulable": spec.get("unschedulable", False),
        }

    def until(self, what: str, look: Any, *, seconds: float = _PATIENCE) -> Any:
        """The first truthy result of ``look``; otherwise how everything stands."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert not self.failures, self.failures
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{self._story()}"
            time.sleep(0.25)  # most looks start a gobgp, which is not free
        return found

    def _all_speak(self) -> bool:
        """The router hears of the one service from the three, and their agents have written so."""
        heard = self.announcers(self.vip("web")) == set(SPEAKERS)
        return heard and all(self.reported(name) == [("established", 1)] for name in SPEAKERS)

    def _story(self) -> str:
        reported = {name: self.reported(name) for name in self.nodes()}
        return json.dumps({"table": {k: sorted(v) for k, v in self.fabric.table().items()}, "reported": reported}, indent=1)


def _address(node: Object) -> str:
    return next(str(one["address"]) for one in node["status"]["addresses"] if one["type"] == "InternalIP")
