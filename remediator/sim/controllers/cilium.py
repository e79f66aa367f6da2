"""Cilium as far as the Kubernetes API shows it: agents, their CiliumNodes and CiliumEndpoints, and the operator's taint.

In come pods and nodes; out come CiliumNodes with the node's labels (only while the node's agent works), CiliumEndpoints of running pods,
and the taint ``node.cilium.io/agent-not-ready`` while an agent pod is not Ready and an operator is there to set it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from remediator.sim.controllers.nodes import set_taint
from remediator.sim.objects import clone, dig, is_ready, key_of, labels_of, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["AGENT_TAINT", "AgentController", "AgentFault", "Agents", "OperatorController"]

AGENT_TAINT = "node.cilium.io/agent-not-ready"
AgentFault: TypeAlias = Literal["hung", "crash_loop"]
_PODS, _NODES = ("", "pods"), ("", "nodes")
_CILIUM_NODES = ("cilium.io", "ciliumnodes")


class Agents:
    """What is wrong with the agents."""

    def __init__(self) -> None:
        self.hung: set[str] = set()
        """uids of pods whose agent no longer answers; a new pod is fine."""
        self.looping: set[str] = set()
        """Nodes on which every agent crashes."""
        self.complaints: dict[str, str] = {}
        """Node -> what ``cilium-dbg status --brief`` finds wrong there (``kubernetes: ...``), while the pod is Ready all the same."""

    def fault_of(self, pod: Obj) -> AgentFault | None:
        """What is wrong with the agent in this pod."""
        if dig(pod, "spec.nodeName") in self.looping:
            return "crash_loop"
        return "hung" if pod["metadata"]["uid"] in self.hung else None


class AgentController:
    """What a working agent writes: its CiliumNode and the endpoints of its pods."""

    tables = (_NODES, _PODS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[str]:
        """The node that changed, or the node of a pod that did."""
        if change.table == _NODES:
            return (name_of(change.obj),)
        node = dig(change.obj, "spec.nodeName")
        return (node,) if node else ()

    def reconcile(self, name: str) -> None:
        """Copy the node's labels, publish endpoints; nothing while the agent is not at work."""
        node = self.cluster.store.get(_NODES, name)
        if node is None:
            self._remove_node(name)
        elif self.cluster.agent_works(name) and self.cluster.cilium:
            self._write_node(node)
            for pod in self.cluster.indexes.pods_on(name):
                self._write_endpoint(pod, name)

    def _remove_node(self, name: str) -> None:
        found = self.cluster.store.get(_CILIUM_NODES, name)
        if found is not None:
            self.cluster.store.remove(self.cluster.kind("CiliumNode"), found)

    def _write_node(self, node: Obj) -> None:
        kind, name = self.cluster.kind("CiliumNode"), name_of(node)
        found = self.cluster.store.get(kind, name)
        if found is None:
            self.cluster.store.add(kind, self._new_node(node))
        elif labels_of(found) != labels_of(node):
            copy = self.cluster.store.edit(kind, found)
            copy["metadata"]["labels"] = dict(labels_of(node))
            self.cluster.store.replace(kind, copy)

    def _new_node(self, node: Obj) -> Obj:
        name = name_of(node)
        reference = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        internal = self.cluster.node_address(name)
        cidr = self.cluster.pod_cidr(name)
        addresses = [{"ip": internal, "type": "InternalIP"}, {"ip": cidr.replace("0/24", "1"), "type": "CiliumInternalIP"}]
        spec = {
            "addresses": addresses,
            "bootid": dig(node, "status.nodeInfo.bootID", ""),
            "health": {"ipv4": cidr.replace("0/24", "2")},
            "ipam": {"podCIDRs": [cidr]},
        }
        meta = {"name": name, "labels": clone(labels_of(node)), "ownerReferences": [reference]}
        return {"metadata": meta, "spec": spec, "status": {}}

    def _write_endpoint(self, pod: Obj, node: str) -> None:
        if dig(pod, "spec.hostNetwork") or dig(pod, "status.phase") != "Running" or "deletionTimestamp" in pod["metadata"]:
            return
        kind, (namespace, name) = self.cluster.kind("CiliumEndpoint"), key_of(pod)
        if self.cluster.store.get(kind, name, namespace) is not None:
            return
        reference = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"]}
        meta = {"name": name, "namespace": namespace, "labels": clone(labels_of(pod)), "ownerReferences": [reference]}
        number = 100 + int(pod["metadata"]["uid"][:4], 16) % 4000
        networking = {"addressing": [{"ipv4": dig(pod, "status.podIP")}], "node": self.cluster.node_address(node)}
        status = {"id": number, "identity": {"id": 10_000 + number}, "networking": networking, "state": "ready"}
        self.cluster.store.add(kind, {"metadata": meta, "status": status})


class OperatorController:
    """What the Cilium operator does to nodes: the taint of agents that are not Ready."""

    tables = (_NODES, _PODS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._late: set[str] = set()

    def keys(self, change: Change) -> Iterable[str]:
        """Nodes whose agent changed; all of them after a change to the operator itself."""
        if change.table == _NODES:
            return (name_of(change.obj),) if change.kind != "DELETED" else ()
        if self.cluster.is_operator(change.obj):
            return [name_of(n) for n in self.cluster.store.list(_NODES)]
        node = dig(change.obj, "spec.nodeName")
        return (node,) if node and self.cluster.is_agent(change.obj) else ()

    def reconcile(self, name: str) -> None:
        """Set or take off the taint, after a moment."""
        node = self.cluster.store.get(_NODES, name)
        if node is None or name in self._late or not self.cluster.cilium or self.cluster.booting:
            return
        tainted = any(t.get("key") == AGENT_TAINT for t in dig(node, "spec.taints") or ())
        if tainted != self._wanted(name):
            self._late.add(name)
            self.cluster.loop.after(self.cluster.timing.agent_taint, self._write, name)

    def _wanted(self, name: str) -> bool:
        pod = self.cluster.agent_pod(name)
        return pod is not None and not (is_ready(pod) and "deletionTimestamp" not in pod["metadata"])

    def _write(self, name: str) -> None:
        self._late.discard(name)
        node = self.cluster.store.get(_NODES, name)
        if node is not None and self.cluster.operator_works():
            set_taint(self.cluster, node, AGENT_TAINT, "NoSchedule", present=self._wanted(name), stamped=False)
