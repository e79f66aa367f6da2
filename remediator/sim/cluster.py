"""The simulated cluster as a Python object: what is in it, what is wrong with it, and what was asked of its API.

In come a clock and a seed; out come objects, faults and the request log. It serves tests and scenarios; the product sees only HTTP.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from remediator.errors import UsageError
from remediator.sim import bootstrap, crowd, status
from remediator.sim.calls import Logged, RequestLog
from remediator.sim.controllers import (
    AgentController,
    BgpAgents,
    BgpOperator,
    BudgetController,
    ControlLoop,
    DaemonSetController,
    DeploymentController,
    EndpointController,
    GarbageCollector,
    JobController,
    Jobs,
    Kubelets,
    LeaderElection,
    NamespaceController,
    NodeController,
    OperatorController,
    ReplicaSetController,
    Scheduler,
    StatefulSetController,
)
from remediator.sim.controllers.cilium import Agents
from remediator.sim.convert import outward
from remediator.sim.defaults import complete, copy_zone
from remediator.sim.faults import Fault, Faults
from remediator.sim.indexes import Indexes
from remediator.sim.kinds import Kinds, Resource
from remediator.sim.network import Network
from remediator.sim.objects import Obj, clone, dig, encode, is_ready, labels_of, name_of, namespace_of, set_condition
from remediator.sim.registry import Options, Registry
from remediator.sim.store import Store
from remediator.sim.watching import Watches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.clock import Clock
    from remediator.sim.controllers.cilium import AgentFault

__all__ = ["Cluster", "Timing"]

_NOISE = ("leases", "events")


@dataclass
class Timing:
    """How long things take, on the simulated clock."""

    pod_start: timedelta = timedelta(seconds=2)
    """From bound to running."""
    agent_start: timedelta = timedelta(seconds=5)
    """From running to ready, for Cilium agents."""
    pod_stop: timedelta = timedelta(seconds=1)
    """From deleted to gone, at most the grace period."""
    taint: timedelta = timedelta(milliseconds=200)
    """From cordon to its taint."""
    agent_taint: timedelta = timedelta(seconds=2)
    """From agent not ready (or ready again) to the operator's taint (or its end)."""
    node_grace: timedelta = timedelta(seconds=40)
    """From a kubelet's last word to the node being Unknown."""
    crash_backoff: timedelta = timedelta(seconds=10)
    """First pause between two crashes; it doubles."""
    heartbeat: timedelta = timedelta(seconds=10)
    """Between two renewals of a node's lease."""
    bgp_operator: timedelta = timedelta(milliseconds=100)
    """From a label to the CiliumBGPNodeConfig that follows from it (seen with Cilium's operator)."""
    bgp_status: timedelta = timedelta(seconds=5)
    """Between two looks of an agent at its sessions."""
    bgp_connect: timedelta = timedelta(seconds=2)
    """From a speaker's start to an established session."""


@dataclass
class Cluster:
    """Objects, controllers and faults of one simulated cluster."""

    clock: Clock
    nodes: int = 5
    seed: int = 0
    timing: Timing = field(default_factory=Timing)
    history: int = 2000
    """Changes that each resource's log keeps for watches and old versions."""
    cilium: bool = True
    """Whether Cilium is installed; without it the cluster is bare, as the real test bed starts."""
    pods: int = 0
    """How many further pods are there from the start (see ``crowd``)."""

    def __post_init__(self) -> None:
        self.store = Store(self.clock, seed=self.seed, history=self.history)
        self.kinds = Kinds()
        self.registry = Registry(self.store, self.kinds)
        self.indexes = Indexes(self.store)
        self.faults = Faults()
        self.request_log = RequestLog()
        self.watches = Watches()
        self.network = Network(self, self.seed)
        self.agents = Agents()
        self.jobs = Jobs()
        self.logs: dict[tuple[str, str], list[str]] = {}
        """(uid of a pod, container) -> lines that it wrote."""
        self.bgp = BgpAgents(self)
        self.stuck_budgets: set[tuple[str, str]] = set()
        self.booting = False
        self.loop = ControlLoop(self.store, self.clock)
        self.kubelets = Kubelets(self)
        self.node_controller = NodeController(self)
        self._dead_kubelets: set[str] = set()
        self._addresses: dict[str, int] = {}
        self._tables = {r.table: r for r in self.kinds.all() if not r.shared_with}
        self._add_controllers()
        for resource in self.kinds.all():
            self.store.table(resource)

    def _add_controllers(self) -> None:
        for controller in (
            Scheduler(self),
            self.kubelets,
            DaemonSetController(self),
            DeploymentController(self),
            ReplicaSetController(self),
            StatefulSetController(self),
            JobController(self),
            self.node_controller,
            GarbageCollector(self),
            NamespaceController(self),
            BudgetController(self),
            AgentController(self),
            OperatorController(self),
            EndpointController(self),
            BgpOperator(self),
            LeaderElection(self),
        ):
            self.loop.add(controller)

    def start(self) -> None:
        """Fill the cluster and let it run in the current event loop. Everything is up when it returns."""
        self.booting = True
        for obj in bootstrap.objects(self.nodes, cilium=self.cilium, now=self.clock.now()):
            self.create(obj)
        crowd.fill(self, self.pods)
        self.loop.drain()
        self.bgp.report()
        self.booting = False
        self.loop.start()
        self.node_controller.heartbeat()
        self.bgp.beat()

    async def stop(self) -> None:
        """Let nothing move any more."""
        self.watches.signal("end")
        await self.loop.stop()

    # --- objects -----------------------------------------------------------------------------------------------------

    def kind(self, name: str) -> Resource:
        """The resource of a kind. Raises UsageError for an unknown one."""
        found = self.kinds.by_kind(name)
        if found is None:
            raise UsageError(f"the simulated cluster serves no kind {name}")
        return found

    def resource_of(self, table: tuple[str, str]) -> Resource | None:
        """The resource whose objects a table holds."""
        return self._tables.get(table) or next((r for r in self.kinds.all() if r.table == table and not r.shared_with), None)

    def get(self, kind: str, name: str, namespace: str = "") -> Obj | None:
        """A copy of the object, None if there is none."""
        found = self.store.get(self.kind(kind), name, namespace)
        return clone(found) if found is not None else None

    def objects(self, kind: str, namespace: str = "") -> list[Obj]:
        """Copies of all objects of a kind."""
        return [clone(obj) for obj in self.store.list(self.kind(kind), namespace)]

    def create(self, obj: Obj, *, manager: str = "simulation") -> Obj:
        """Create an object as a client would (apiVersion and kind set), with its status if it has one. Raises ApiError."""
        group, _, version = str(obj["apiVersion"]).rpartition("/")
        resource = next((r for r in self.kinds.all() if (r.group, r.kind) == (group, obj["kind"])), None)
        if resource is None:
            raise UsageError(f"the simulated cluster serves no {obj['apiVersion']} {obj['kind']}")
        namespace = str(obj["metadata"].get("namespace", "default")) if resource.namespaced else ""
        made = self.registry.create(resource.in_version(version), namespace, obj, Options(manager=manager))
        if resource.has_status and "status" in obj and resource.kind != "Node":
            copy = self.store.edit(resource, made)
            copy["status"] = clone(obj["status"])
            made = self.store.replace(resource, copy)
        return made

    def create_pod(self, pod: Obj) -> Obj:
        """Store a pod made by a controller."""
        kind = self.kind("Pod")
        if not pod["metadata"].get("name"):
            pod["metadata"]["name"] = self.store.new_name(pod["metadata"]["generateName"])
        pod |= {"apiVersion": "v1", "kind": "Pod"}
        complete(kind, pod, self.store)
        return self.store.add(kind, pod)

    def bind(self, pod: Obj, node: str) -> None:
        """Put a pod on a node."""
        kind = self.kind("Pod")
        copy = self.store.edit(kind, pod)
        copy["spec"]["nodeName"] = node
        set_condition(copy, "PodScheduled", "True", self.clock.now(), lastProbeTime=None)
        copy["status"]["conditions"][0].pop("reason", None)
        copy["status"]["conditions"][0].pop("message", None)
        copy_zone(copy, self.store)
        self.store.replace(kind, copy)

    def read(self, resource: Resource, name: str, namespace: str = "") -> Obj:
        """The object as a client of that version sees it. Raises ApiError 404."""
        found = self.store.get(resource, name, namespace)
        if found is None:
            raise status.not_found(resource, name)
        return outward(resource, found)

    def exists(self, uid: str) -> bool:
        """Whether any object has that uid."""
        return any(obj["metadata"]["uid"] == uid for table in self.store.tables() for obj in table.objects.values())

    def state_hash(self, ignore: Iterable[str] = _NOISE) -> str:
        """A digest over every object, resourceVersions included; ``ignore`` names plurals that change by themselves."""
        digest = hashlib.sha256()
        for table in sorted(self.store.tables(), key=lambda t: t.name):
            if table.name[1] not in ignore:
                for key in table.ordered():
                    digest.update(encode([table.name, key, table.objects[key]]))
        return digest.hexdigest()

    # --- nodes and agents --------------------------------------------------------------------------------------------

    def node_names(self) -> list[str]:
        """In numeric order."""
        return sorted((name_of(n) for n in self.store.list(("", "nodes"))), key=lambda name: (len(name), name))

    def node_zones(self) -> dict[str, str]:
        """Node -> its zone; empty where it has none."""
        return {name_of(n): str(labels_of(n).get("topology.kubernetes.io/zone", "")) for n in self.store.list(("", "nodes"))}

    def node_address(self, name: str) -> str:
        """The node's InternalIP, empty if it has none."""
        addresses = dig(self.store.get(("", "nodes"), name), "status.addresses") or ()
        return next((str(a["address"]) for a in addresses if a.get("type") == "InternalIP"), "")

    def pod_cidr(self, name: str) -> str:
        """The node's pod network."""
        return str(dig(self.store.get(("", "nodes"), name), "spec.podCIDR") or "10.244.255.0/24")

    def next_pod_address(self, node: str) -> str:
        """A pod address that was not given out before (until 240 were)."""
        count = self._addresses[node] = self._addresses.get(node, 0) % 240 + 1
        return self.pod_cidr(node).replace("0/24", str(count + 9))

    def is_agent(self, pod: Obj) -> bool:
        """Whether it is a Cilium agent."""
        return namespace_of(pod) == "kube-system" and labels_of(pod).get("k8s-app") == "cilium"

    def is_operator(self, pod: Obj) -> bool:
        """Whether it is a Cilium operator."""
        return namespace_of(pod) == "kube-system" and labels_of(pod).get("name") == "cilium-operator"

    def agent_pod(self, node: str) -> Obj | None:
        """The agent pod of a node, the newest if one is still terminating."""
        pods = [p for p in self.indexes.pods_on(node) if self.is_agent(p)]
        return max(pods, key=lambda p: ("deletionTimestamp" not in p["metadata"], int(p["metadata"]["resourceVersion"])), default=None)

    def agent_works(self, node: str) -> bool:
        """Whether an agent runs on the node and answers."""
        pod = self.agent_pod(node)
        return pod is not None and is_ready(pod) and self.agents.fault_of(pod) is None and self.kubelet_alive(node)

    def operator_works(self) -> bool:
        """Whether an operator is ready."""
        pods = self.store.list(("", "pods"), "kube-system")
        return any(self.is_operator(p) and is_ready(p) and self.kubelet_alive(p["spec"]["nodeName"]) for p in pods)

    def kubelet_alive(self, node: str) -> bool:
        """Whether the node's kubelet works."""
        return node not in self._dead_kubelets

    # --- faults ------------------------------------------------------------------------------------------------------

    def fail(
        self,
        *,
        verb: str = "*",
        path: str = ".*",
        status: int | None = 500,
        count: int | None = 1,
        reason: str = "",
        message: str = "injected fault",
        retry_after: int | None = None,
        text: str | None = None,
        delay: timedelta = timedelta(0),
    ) -> Fault:
        """Let requests fail; see ``Fault``."""
        fault = Fault(verb, path, status, reason, message, count, delay, retry_after=retry_after, text=text)
        return self.faults.add(fault)

    def slow(
        self, delay: timedelta, *, verb: str = "*", path: str = ".*", count: int | None = 1, when: Literal["before", "after"] = "before"
    ) -> Fault:
        """Let requests wait before they take effect (never, if the client leaves meanwhile), or their answers after that."""
        before = when == "before"
        nothing = timedelta(0)
        return self.faults.add(Fault(verb, path, None, count=count, delay=delay if before else nothing, hold=nothing if before else delay))

    def drop(self, *, verb: str = "*", path: str = ".*", count: int | None = 1, when: Literal["before", "after"] = "before") -> Fault:
        """Close connections without an answer, before or after the request took effect."""
        return self.faults.add(Fault(verb, path, None, count=count, drop=when))

    def expire_watches(self, kind: str = "") -> int:
        """End open watches with the ERROR event 410. Returns how many."""
        return self.watches.signal(status.expired("The resourceVersion for the provided watch is too old."), kind)

    def drop_watches(self, kind: str = "") -> int:
        """Cut the connections of open watches. Returns how many."""
        return self.watches.signal("drop", kind)

    def kill_agent(self, node: str, how: AgentFault = "hung") -> Obj:
        """Break the agent of a node.

        ``hung``: it stops answering until its pod is replaced. ``crash_loop``: it and every agent after it on this node crashes until
        ``heal_agent``. Returns the pod. Raises UsageError if the node has no agent.
        """
        pod = self.agent_pod(node)
        if pod is None:
            raise UsageError(f"there is no Cilium agent on {node}")
        if how == "crash_loop":
            self.agents.looping.add(node)
            self.kubelets.crash(pod)
        else:
            self.agents.hung.add(pod["metadata"]["uid"])
            self.kubelets.set_ready(pod, ready=False)
        copy: Obj = clone(pod)
        return copy

    def heal_agent(self, node: str) -> None:
        """Take back what is wrong with the node's agent; it becomes ready by itself."""
        self.agents.looping.discard(node)
        pod = self.agent_pod(node)
        if pod is not None and pod["metadata"]["uid"] in self.agents.hung:
            self.agents.hung.discard(pod["metadata"]["uid"])
            self.kubelets.set_ready(pod, ready=True)

    def stop_kubelet(self, node: str) -> None:
        """Let a kubelet die: nothing starts or stops on the node, later it is NotReady and tainted."""
        self._dead_kubelets.add(node)
        self.node_controller.silent(node)

    def start_kubelet(self, node: str) -> None:
        """Let it work again."""
        self._dead_kubelets.discard(node)
        self.node_controller.back(node)
        self.kubelets.wake(node)

    def partition(self, *nodes: str) -> None:
        """Cut nodes off from all others and from the API server; among themselves they go on."""
        self.network.partition(nodes)
        for node in nodes:
            self.stop_kubelet(node)

    def hold_budget(self, name: str, namespace: str = "default") -> None:
        """Let a PodDisruptionBudget never yield, whatever it says."""
        self.stuck_budgets.add((namespace, name))

    def release_budget(self, name: str, namespace: str = "default") -> None:
        """Take that back."""
        self.stuck_budgets.discard((namespace, name))

    def heal(self) -> None:
        """Take back every fault."""
        self.faults.clear()
        self.stuck_budgets.clear()
        self.network.heal()
        self.bgp.cut.clear()
        self.bgp.lossy.clear()
        self.agents.complaints.clear()
        for node in self.node_names():
            self.heal_agent(node)
            if not self.kubelet_alive(node):
                self.start_kubelet(node)

    def writes(self) -> list[Logged]:
        """The requests of clients that changed the cluster, oldest first."""
        return self.request_log.writes()
