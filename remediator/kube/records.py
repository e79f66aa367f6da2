"""Partial records of Kubernetes objects: only the fields that drains, restarts and gates look at, decoded straight from the API's bytes.

In: JSON of one object (whole, as the API sends it). Out: a frozen Struct with helpers that answer questions (``ready``, ``terminating``).
Refused: JSON in which a field that is here has another type; unknown fields are skipped, missing ones have defaults. Never written back:
writes are patches of single fields, so what is not here cannot be lost.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

__all__ = [
    "CiliumEndpoint",
    "CiliumNode",
    "Condition",
    "Container",
    "ContainerStatus",
    "Lease",
    "Meta",
    "Namespace",
    "Node",
    "Object",
    "Owner",
    "Pod",
    "Record",
    "ResourceRule",
    "Taint",
    "Toleration",
]

MIRROR = "kubernetes.io/config.mirror"
REVISION_LABEL = "controller-revision-hash"


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base. ``gc=False``: records hold no cycles, and thousands of them need not be walked by every collection."""


class Owner(Record, frozen=True, kw_only=True):
    """Who made the object; at most one owner is its controller."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(Record, frozen=True, kw_only=True):
    """Who the object is."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[Owner, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    """Set once deletion was asked for; it lies in the future by the grace period."""


class Object(Record, frozen=True, kw_only=True):
    """Any object; the base of all others here."""

    metadata: Meta = Meta()

    @property
    def name(self) -> str:
        """``metadata.name``"""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """``metadata.namespace``, empty for objects outside of namespaces."""
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        """Tells the object from a later one of the same name."""
        return self.metadata.uid

    @property
    def labels(self) -> dict[str, str]:
        """``metadata.labels``"""
        return self.metadata.labels

    @property
    def annotations(self) -> dict[str, str]:
        """``metadata.annotations``"""
        return self.metadata.annotations

    @property
    def terminating(self) -> bool:
        """Deletion was asked for; it may still run."""
        return self.metadata.deletion_timestamp is not None

    @property
    def controller(self) -> Owner | None:
        """The owner that looks after it, or None."""
        return next((owner for owner in self.metadata.owner_references if owner.controller), None)


class Condition(Record, frozen=True, kw_only=True):
    """One condition of a status; ``status`` is True, False or Unknown."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == kind), None)


class Taint(Record, frozen=True, kw_only=True):
    """Keeps pods off a node, or drives them away."""

    key: str = ""
    value: str = ""
    effect: str = ""


class Address(Record, frozen=True, kw_only=True):
    """An address of a node; the type is InternalIP, ExternalIP, Hostname, ..."""

    type: str = ""
    address: str = ""


class NodeSpec(Record, frozen=True, kw_only=True):
    """What is wanted of a node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = msgspec.field(default="", name="providerID")


class NodeStatus(Record, frozen=True, kw_only=True):
    """What the kubelet says of its node."""

    conditions: tuple[Condition, ...] = ()
    addresses: tuple[Address, ...] = ()


class Node(Object, frozen=True, kw_only=True):
    """v1 Node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """The kubelet says so; Unknown (it is silent) counts as no."""
        return self.ready_status == "True"

    @property
    def ready_status(self) -> str:
        """True, False, or Unknown; Unknown also where the condition is missing."""
        found = condition(self.status.conditions, "Ready")
        return found.status if found else "Unknown"

    @property
    def unschedulable(self) -> bool:
        """Cordoned, by whomever."""
        return self.spec.unschedulable

    @property
    def addresses(self) -> tuple[str, ...]:
        """The internal addresses, IPv4 and IPv6."""
        return tuple(a.address for a in self.status.addresses if a.type == "InternalIP")

    def tainted(self, key: str) -> bool:
        """Whether it carries a taint of that key."""
        return any(taint.key == key for taint in self.spec.taints)


class ContainerWaiting(Record, frozen=True, kw_only=True):
    """Why a container does not run yet: CrashLoopBackOff, ImagePullBackOff, ContainerCreating, ..."""

    reason: str = ""
    message: str = ""


class ContainerTerminated(Record, frozen=True, kw_only=True):
    """How a container ended."""

    reason: str = ""
    exit_code: int = 0
    finished_at: datetime | None = None


class ContainerRunning(Record, frozen=True, kw_only=True):
    """Since when a container runs."""

    started_at: datetime | None = None


class ContainerState(Record, frozen=True, kw_only=True):
    """One of the three is set."""

    waiting: ContainerWaiting | None = None
    running: ContainerRunning | None = None
    terminated: ContainerTerminated | None = None


class ContainerStatus(Record, frozen=True, kw_only=True):
    """What the kubelet says of one container."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()

    @property
    def waiting(self) -> str:
        """The reason that it waits for, empty if it does not."""
        return self.state.waiting.reason if self.state.waiting else ""


class Container(Record, frozen=True, kw_only=True):
    """What is wanted of one container."""

    name: str = ""
    image: str = ""


class Volume(Record, frozen=True, kw_only=True):
    """A volume of a pod, as far as losing it matters."""

    name: str = ""
    empty_dir: dict[str, Any] | None = None
    persistent_volume_claim: dict[str, Any] | None = None
    ephemeral: dict[str, Any] | None = None

    @property
    def local(self) -> bool:
        """Its content goes with the pod."""
        return self.empty_dir is not None


class Toleration(Record, frozen=True, kw_only=True):
    """A taint that a pod puts up with; an empty key or effect fits every one."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class PodSpec(Record, frozen=True, kw_only=True):
    """What is wanted of a pod."""

    node_name: str = ""
    priority: int = 0
    host_network: bool = False
    termination_grace_period_seconds: int = 30
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    tolerations: tuple[Toleration, ...] = ()


class PodStatus(Record, frozen=True, kw_only=True):
    """What the kubelet says of its pod."""

    phase: str = ""
    reason: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    start_time: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Object, frozen=True, kw_only=True):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def node_name(self) -> str:
        """Where it runs, empty if it is not scheduled."""
        return self.spec.node_name

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed or Unknown."""
        return self.status.phase

    @property
    def ready(self) -> bool:
        """Serves now: its condition says so and it is not on its way out."""
        found = condition(self.status.conditions, "Ready")
        return found is not None and found.status == "True" and not self.terminating

    @property
    def ready_since(self) -> datetime | None:
        """When it became ready; None while it is not."""
        found = condition(self.status.conditions, "Ready")
        return found.last_transition_time if found and self.ready else None

    @property
    def finished(self) -> bool:
        """Ran to its end."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def mirror(self) -> bool:
        """A static pod's image in the API; the kubelet runs it from a file, so it cannot be evicted."""
        return MIRROR in self.annotations

    @property
    def restarts(self) -> int:
        """How often its containers were restarted, init containers included."""
        return sum(status.restart_count for status in self.statuses)

    @property
    def statuses(self) -> tuple[ContainerStatus, ...]:
        """Of all containers, init containers first."""
        return self.status.init_container_statuses + self.status.container_statuses

    @property
    def waiting(self) -> tuple[str, ...]:
        """The reasons that its containers wait for, as CrashLoopBackOff."""
        return tuple(status.waiting for status in self.statuses if status.waiting)

    @property
    def crash_looping(self) -> bool:
        """The kubelet waits longer and longer before it tries a container of it again."""
        return "CrashLoopBackOff" in self.waiting

    @property
    def revision(self) -> str:
        """The ControllerRevision's hash that it was made from, for pods of DaemonSets and StatefulSets."""
        return self.labels.get(REVISION_LABEL, "")


class LeaseSpec(Record, frozen=True, kw_only=True):
    """Who holds it and until when."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: datetime | None = None
    renew_time: datetime | None = None
    lease_transitions: int = 0


class Lease(Object, frozen=True, kw_only=True):
    """coordination.k8s.io/v1 Lease."""

    spec: LeaseSpec = LeaseSpec()


class NamespaceStatus(Record, frozen=True, kw_only=True):
    """Active or Terminating."""

    phase: str = ""


class Namespace(Object, frozen=True, kw_only=True):
    """v1 Namespace."""

    status: NamespaceStatus = NamespaceStatus()


class ResourceRule(Record, frozen=True, kw_only=True):
    """authorization.k8s.io/v1 ResourceRule: what an account may do. ``*`` stands for all, ``*/scale`` for that of all resources."""

    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()

    def allows(self, verb: str, group: str, resource: str, name: str = "") -> bool:
        """As RBAC reads it (plugin/pkg/auth/authorizer/rbac); without a ``name`` whether it does so for all objects."""
        _, slash, subresource = resource.partition("/")
        return (
            not {"*", verb}.isdisjoint(self.verbs)
            and not {"*", group}.isdisjoint(self.api_groups)
            and not {"*", resource, f"*{slash}{subresource}"}.isdisjoint(self.resources)
            and (not self.resource_names or (bool(name) and name in self.resource_names))
        )


class CiliumNode(Object, frozen=True, kw_only=True):
    """cilium.io/v2 CiliumNode: the agent's view of its node; only its presence and labels matter so far."""


class CiliumEndpointStatus(Record, frozen=True, kw_only=True):
    """``state`` is ready, regenerating, waiting-for-identity, not-ready, disconnecting, invalid, ..."""

    id: int = 0
    state: str = ""
    networking: dict[str, Any] | None = None


class CiliumEndpoint(Object, frozen=True, kw_only=True):
    """cilium.io/v2 CiliumEndpoint: one pod as the agent sees it."""

    status: CiliumEndpointStatus = CiliumEndpointStatus()

    @property
    def node_address(self) -> str:
        """The address of the node that it is on (``status.networking.node``)."""
        return str((self.status.networking or {}).get("node", ""))
