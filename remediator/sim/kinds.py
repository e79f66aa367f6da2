"""The table of kinds that the simulated API serves, and custom ones added to it at run time.

In comes a path's group, version and plural; out comes a ``Resource`` that says how the API treats it. Unknown ones are None.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remediator.sim.objects import Obj

__all__ = ["BUILTIN", "Kinds", "Resource", "resource_of_crd"]

_FIELDS = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class Resource:
    """One kind of object and how the API treats it."""

    group: str
    version: str
    """The one that objects are stored in."""
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    """All served ones, preferred first."""
    custom: bool = False
    counts_generation: bool = True
    update_needs_version: bool = False
    """A PUT without resourceVersion is refused."""
    create_on_update: bool = False
    """A PUT of an absent object creates it."""
    returns_deleted: bool = False
    """DELETE answers with the object instead of a Status."""
    name_rule: str = "subdomain"
    fields: dict[str, str] = field(default_factory=dict)
    """Further field selectors: path -> value where it is absent."""
    shared_with: str = ""
    """The group whose table holds the objects, if it is not this one's (events.k8s.io)."""

    @property
    def served(self) -> tuple[str, ...]:
        """Every version that answers."""
        return self.versions or (self.version,)

    @property
    def table(self) -> tuple[str, str]:
        """The key of the table that holds its objects."""
        return ("" if self.shared_with == "core" else self.group), self.plural

    @property
    def qualified(self) -> str:
        """``daemonsets.apps``, as messages name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """``DaemonSet.apps``, as messages name a kind."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def has_status(self) -> bool:
        """Whether status is written only through its subresource."""
        return "status" in self.subresources

    def api_version(self, version: str = "") -> str:
        """``apps/v1``."""
        version = version or self.version
        return f"{self.group}/{version}" if self.group else version

    def in_version(self, version: str) -> Resource:
        """The same resource as seen through another served version."""
        return self if version == self.version else replace(self, version=version, versions=self.served)


def _core(kind: str, plural: str, *short: str, **more: object) -> Resource:
    return Resource("", "v1", kind, plural, short_names=short, **more)  # type: ignore[arg-type] # keyword pass-through to the dataclass


def _apps(kind: str, plural: str, *short: str, **more: object) -> Resource:
    return Resource("apps", "v1", kind, plural, short_names=short, **more)  # type: ignore[arg-type] # keyword pass-through to the dataclass


def _cilium(kind: str, *short: str, **more: object) -> Resource:
    return Resource("cilium.io", "v2", kind, kind.lower() + "s", short_names=short, custom=True, update_needs_version=True, **more)  # type: ignore[arg-type] # keyword pass-through to the dataclass


def _bgp(kind: str, *short: str, status: bool = True, **more: object) -> Resource:
    subresources = ("status",) if status else ()
    more = {"categories": ("cilium", "ciliumbgp"), "versions": ("v2", "v2alpha1"), "subresources": subresources, **more}
    return _cilium(kind, *short, namespaced=False, **more)


_POD_FIELDS = {
    "spec.nodeName": "",
    "spec.restartPolicy": "Always",
    "spec.schedulerName": "",
    "spec.serviceAccountName": "",
    "spec.hostNetwork": "false",
    "status.phase": "",
    "status.podIP": "",
    "status.nominatedNodeName": "",
}
_EVENT_FIELDS = {
    **{f"involvedObject.{f}": "" for f in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")},
    "reason": "",
    "reportingComponent": "",
    "source": "",
    "type": "",
}
_PLAIN = {"counts_generation": False}

BUILTIN: tuple[Resource, ...] = (
    _core("Node", "nodes", "no", namespaced=False, subresources=("status",), fields={"spec.unschedulable": "false"}, **_PLAIN),
    _core(
        "Pod",
        "pods",
        "po",
        subresources=("status", "eviction", "binding", "exec", "log"),
        categories=("all",),
        returns_deleted=True,
        fields=_POD_FIELDS,
    ),
    _core(
        "Namespace",
        "namespaces",
        "ns",
        namespaced=False,
        subresources=("status", "finalize"),
        name_rule="label",
        fields={"status.phase": ""},
        **_PLAIN,
    ),
    _core("Event", "events", "ev", create_on_update=True, fields=_EVENT_FIELDS, **_PLAIN),
    _core("Service", "services", "svc", subresources=("status",), categories=("all",), returns_deleted=True, name_rule="label", **_PLAIN),
    _core("ConfigMap", "configmaps", "cm", **_PLAIN),
    _core("Secret", "secrets", fields={"type": ""}, **_PLAIN),
    _core("PersistentVolumeClaim", "persistentvolumeclaims", "pvc", returns_deleted=True, **_PLAIN),
    _core("PersistentVolume", "persistentvolumes", "pv", namespaced=False, subresources=("status",), returns_deleted=True, **_PLAIN),
    _core("ServiceAccount", "serviceaccounts", "sa", returns_deleted=True, **_PLAIN),
    _apps("DaemonSet", "daemonsets", "ds", subresources=("status",), categories=("all",)),
    _apps("Deployment", "deployments", "deploy", subresources=("status",), categories=("all",)),
    _apps("ReplicaSet", "replicasets", "rs", subresources=("status",), categories=("all",), fields={"status.replicas": ""}),
    _apps("StatefulSet", "statefulsets", "sts", subresources=("status",), categories=("all",)),
    _apps("ControllerRevision", "controllerrevisions", **_PLAIN),
    Resource("batch", "v1", "Job", "jobs", subresources=("status",), categories=("all",), fields={"status.successful": "0"}),
    Resource("coordination.k8s.io", "v1", "Lease", "leases", create_on_update=True, update_needs_version=True, counts_generation=False),
    Resource(
        "events.k8s.io", "v1", "Event", "events", short_names=("ev",), create_on_update=True, counts_generation=False, shared_with="core"
    ),
    Resource(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        short_names=("pdb",),
        subresources=("status",),
        update_needs_version=True,
    ),
    Resource(
        "storage.k8s.io",
        "v1",
        "StorageClass",
        "storageclasses",
        namespaced=False,
        short_names=("sc",),
        returns_deleted=True,
        counts_generation=False,
    ),
    Resource(
        "storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", namespaced=False, returns_deleted=True, counts_generation=False
    ),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short_names=("crd",),
        subresources=("status",),
    ),
    _cilium("CiliumNode", "cn", "ciliumn", namespaced=False, subresources=("status",), categories=("cilium",)),
    _cilium("CiliumEndpoint", "cep", "ciliumep", categories=("cilium",)),
    _bgp("CiliumBGPClusterConfig", "cbgpcluster"),
    _bgp("CiliumBGPPeerConfig", "cbgppeer"),
    _bgp("CiliumBGPAdvertisement", "cbgpadvert", status=False),
    _bgp("CiliumBGPNodeConfig", "cbgpnode"),
    _bgp("CiliumBGPNodeConfigOverride", "cbgpnodeoverride", status=False),
    _bgp("CiliumLoadBalancerIPPool", "ippool", "ippools", "lbippool", "lbippools", categories=("cilium",)),
    Resource(
        "cilium.io",
        "v2alpha1",
        "CiliumL2AnnouncementPolicy",
        "ciliuml2announcementpolicies",
        namespaced=False,
        short_names=("l2announcement",),
        categories=("cilium",),
        subresources=("status",),
        custom=True,
        update_needs_version=True,
    ),
    Resource(
        "cilium.io",
        "v2alpha1",
        "CiliumBGPPeeringPolicy",
        "ciliumbgppeeringpolicies",
        namespaced=False,
        short_names=("bgpp",),
        categories=("cilium", "ciliumbgp"),
        custom=True,
        update_needs_version=True,
    ),
    Resource(
        "cilium.io",
        "v2",
        "CiliumEgressGatewayPolicy",
        "ciliumegressgatewaypolicies",
        namespaced=False,
        short_names=("cegp",),
        categories=("cilium", "ciliumpolicy"),
        custom=True,
        update_needs_version=True,
    ),
    *(
        Resource(
            "gateway.networking.k8s.io",
            "v1",
            kind,
            plural,
            short_names=short,
            categories=("gateway-api",),
            subresources=("status",),
            versions=("v1", "v1beta1"),
            custom=True,
            update_needs_version=True,
        )
        for kind, plural, short in (("Gateway", "gateways", ("gtw",)), ("HTTPRoute", "httproutes", ()))
    ),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
)


class Kinds:
    """What is served now: the built-in kinds and the custom ones that were defined since."""

    def __init__(self) -> None:
        self._resources: dict[tuple[str, str], Resource] = {}
        for resource in BUILTIN:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Serve one more resource, or replace its definition."""
        self._resources[resource.group, resource.plural] = resource

    def remove(self, group: str, plural: str) -> None:
        """Stop serving it."""
        self._resources.pop((group, plural), None)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource behind a path, seen through that version."""
        resource = self._resources.get((group, plural))
        return resource.in_version(version) if resource and version in resource.served else None

    def by_kind(self, kind: str, group: str | None = None) -> Resource | None:
        """The first resource of that kind, in any group unless one is named."""
        return next((r for r in self._resources.values() if r.kind == kind and group in (None, r.group)), None)

    def all(self) -> tuple[Resource, ...]:
        """In the order in which they were added."""
        return tuple(self._resources.values())

    def is_built_in(self, group: str) -> bool:
        """Whether the group is the API server's own; paths below it are answered a little differently."""
        return any(r.group == group and not r.custom for r in self._resources.values())

    def serves(self, group: str, version: str) -> bool:
        """Whether there is any resource below that path."""
        return any(r.group == group and version in r.served for r in self._resources.values())

    def groups(self) -> dict[str, list[str]]:
        """Group -> served versions, preferred first."""
        found: dict[str, list[str]] = {}
        for resource in self._resources.values():
            versions = found.setdefault(resource.group, [])
            versions.extend(v for v in resource.served if v not in versions)
        return found


def resource_of_crd(crd: Obj) -> Resource:
    """What a CustomResourceDefinition asks to be served. Its schema is not enforced."""
    spec, names = crd["spec"], crd["spec"]["names"]
    served = [v for v in spec["versions"] if v.get("served", True)]
    stored = next((v for v in served if v.get("storage")), served[0])
    return Resource(
        spec["group"],
        stored["name"],
        names["kind"],
        names["plural"],
        namespaced=spec.get("scope") == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(s for s in ("status", "scale") if s in (stored.get("subresources") or {})),
        versions=tuple(v["name"] for v in served),
        custom=True,
        update_needs_version=True,
    )


def supported_fields(resource: Resource) -> dict[str, str]:
    """Every field selector that the resource takes, with the value of an absent field."""
    return {**dict.fromkeys(_FIELDS, ""), **resource.fields}
