"""The kinds of Kubernetes objects that this program touches, and where the API keeps them.

In: a kind's name as people write it, or a kind with a name and a namespace. Out: a ``Kind``, or the path of a request.
Refused: names that no object can have (empty, ``..``, ``a/b``, ``a?b``), since a path made of them would address something else:
``DELETE /api/v1/nodes/`` is the whole collection, ``DELETE /api/v1/nodes/a#b`` is node ``a``.
"""

from __future__ import annotations

import difflib
import re
from typing import Final

import msgspec

from remediator.errors import UsageError

__all__ = [
    "BGP_ADVERTISEMENT",
    "BGP_CLUSTER_CONFIG",
    "BGP_NODE_CONFIG",
    "BGP_NODE_OVERRIDE",
    "BGP_PEERING_POLICY",
    "BGP_PEER_CONFIG",
    "CILIUM_ENDPOINT",
    "CILIUM_NODE",
    "CONFIG_MAP",
    "CONTROLLER_REVISION",
    "DAEMONSET",
    "DEPLOYMENT",
    "ENDPOINT_SLICE",
    "EVENT",
    "GATEWAY",
    "HTTP_ROUTE",
    "JOB",
    "L2_POLICY",
    "LB_POOL",
    "LEASE",
    "NAMESPACE",
    "NODE",
    "PDB",
    "PERSISTENT_VOLUME",
    "PERSISTENT_VOLUME_CLAIM",
    "POD",
    "REPLICASET",
    "SERVICE",
    "STATEFULSET",
    "STORAGE_CLASS",
    "VOLUME_ATTACHMENT",
    "Kind",
    "by_name",
    "known",
    "possible_name",
]


class Kind(msgspec.Struct, frozen=True):
    """One kind of object: its group (``""`` for the core), version, name, plural as in paths, and whether it lives in namespaces."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    older: str = ""
    """The version that serves it where ``version`` is not known yet; reads fall back to it."""

    @property
    def api_version(self) -> str:
        """``v1``, ``apps/v1``: as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """``pods``, ``daemonsets.apps``: as RBAC and kubectl name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def before(self) -> Kind | None:
        """The same kind in its older version, or None if there is none to fall back to."""
        return Kind(self.group, self.older, self.kind, self.plural, self.namespaced) if self.older else None

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The request path; without a name that of the collection, without a namespace that of all namespaces."""
        parts = ["", "apis", self.group] if self.group else ["", "api"]
        parts.append(self.version)
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)

    def __str__(self) -> str:
        return self.kind


NODE: Final = Kind("", "v1", "Node", "nodes", namespaced=False)
NAMESPACE: Final = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
POD: Final = Kind("", "v1", "Pod", "pods")
SERVICE: Final = Kind("", "v1", "Service", "services")
CONFIG_MAP: Final = Kind("", "v1", "ConfigMap", "configmaps")
PERSISTENT_VOLUME: Final = Kind("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False)
PERSISTENT_VOLUME_CLAIM: Final = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DAEMONSET: Final = Kind("apps", "v1", "DaemonSet", "daemonsets")
DEPLOYMENT: Final = Kind("apps", "v1", "Deployment", "deployments")
STATEFULSET: Final = Kind("apps", "v1", "StatefulSet", "statefulsets")
REPLICASET: Final = Kind("apps", "v1", "ReplicaSet", "replicasets")
CONTROLLER_REVISION: Final = Kind("apps", "v1", "ControllerRevision", "controllerrevisions")
JOB: Final = Kind("batch", "v1", "Job", "jobs")
LEASE: Final = Kind("coordination.k8s.io", "v1", "Lease", "leases")
ENDPOINT_SLICE: Final = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
EVENT: Final = Kind("events.k8s.io", "v1", "Event", "events")
PDB: Final = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
STORAGE_CLASS: Final = Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
VOLUME_ATTACHMENT: Final = Kind("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", namespaced=False)
CILIUM_NODE: Final = Kind("cilium.io", "v2", "CiliumNode", "ciliumnodes", namespaced=False)
CILIUM_ENDPOINT: Final = Kind("cilium.io", "v2", "CiliumEndpoint", "ciliumendpoints")
BGP_ADVERTISEMENT: Final = Kind("cilium.io", "v2", "CiliumBGPAdvertisement", "ciliumbgpadvertisements", namespaced=False, older="v2alpha1")
BGP_CLUSTER_CONFIG: Final = Kind("cilium.io", "v2", "CiliumBGPClusterConfig", "ciliumbgpclusterconfigs", namespaced=False, older="v2alpha1")
BGP_NODE_CONFIG: Final = Kind("cilium.io", "v2", "CiliumBGPNodeConfig", "ciliumbgpnodeconfigs", namespaced=False, older="v2alpha1")
BGP_NODE_OVERRIDE: Final = Kind(
    "cilium.io", "v2", "CiliumBGPNodeConfigOverride", "ciliumbgpnodeconfigoverrides", namespaced=False, older="v2alpha1"
)
BGP_PEER_CONFIG: Final = Kind("cilium.io", "v2", "CiliumBGPPeerConfig", "ciliumbgppeerconfigs", namespaced=False, older="v2alpha1")
BGP_PEERING_POLICY: Final = Kind("cilium.io", "v2alpha1", "CiliumBGPPeeringPolicy", "ciliumbgppeeringpolicies", namespaced=False)
L2_POLICY: Final = Kind("cilium.io", "v2alpha1", "CiliumL2AnnouncementPolicy", "ciliuml2announcementpolicies", namespaced=False)
LB_POOL: Final = Kind("cilium.io", "v2", "CiliumLoadBalancerIPPool", "ciliumloadbalancerippools", namespaced=False, older="v2alpha1")
EGRESS_POLICY: Final = Kind("cilium.io", "v2", "CiliumEgressGatewayPolicy", "ciliumegressgatewaypolicies", namespaced=False)
GATEWAY: Final = Kind("gateway.networking.k8s.io", "v1", "Gateway", "gateways")
HTTP_ROUTE: Final = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")

_KNOWN: Final = tuple(thing for thing in list(globals().values()) if isinstance(thing, Kind))
_BY_WORD: Final = {word.lower(): kind for kind in _KNOWN for word in (kind.kind, kind.plural)}
# The characters of DNS names, and of RBAC's "system:node": none that means anything in a URL ("/", "%", "?", "#", ...).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")


def known() -> tuple[Kind, ...]:
    """Every kind that ``by_name`` knows."""
    return _KNOWN


def by_name(name: str) -> Kind:
    """The kind that people call ``Node``, ``node`` or ``nodes``. Raises UsageError with the nearest known name."""
    kind = _BY_WORD.get(name.lower())
    if kind is not None:
        return kind
    near = difflib.get_close_matches(name.lower(), _BY_WORD, n=1)
    hint = f"did you mean {_BY_WORD[near[0]].kind}?" if near else "known are " + ", ".join(sorted(kind.kind for kind in _KNOWN))
    raise UsageError(f'unknown kind "{name}"; {hint}')


def possible_name(name: str) -> bool:
    """Whether an object or a namespace could have this name at all, so that it is safe in a path."""
    return _NAME.fullmatch(name) is not None
