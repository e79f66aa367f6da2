"""Nodes, and the pods that the cluster itself hangs on, as plain values. Nothing comes in, nothing is asked, nothing is refused."""

from __future__ import annotations

from datetime import datetime, timedelta

from remediator.model import Noun

__all__ = ["AGENT_TAINT", "LEAVING", "Cluster", "Lease", "Network", "Node", "Own", "Pod", "Symptom", "View"]

AGENT_TAINT = "node.cilium.io/agent-not-ready"
"""Set by Cilium's operator while the agent of a node is not ready (operator/watchers/node_taint.go)."""
LEAVING = ("ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption", "node.kubernetes.io/out-of-service")
"""Taints of nodes that somebody takes away: cluster autoscaler (a candidate is not yet one), Karpenter from 1.0 and before, a person."""
_BGP_DRAIN = "remediator.dev/bgp-drain"
_ROLES = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


class Node(Noun, frozen=True, kw_only=True):
    """A node, as far as it matters whether it is in order and what it carries."""

    name: str
    labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies defaults
    taints: tuple[str, ...] = ()
    """Their keys."""
    ready: str = "True"
    """True, False, or Unknown where the kubelet is silent."""
    cordoned: bool = False
    leaving: bool = False
    """Its deletion was asked for."""
    addresses: tuple[str, ...] = ()
    """The internal ones."""
    sessions_down: tuple[str, ...] = ()
    """Its BGP sessions that are not established, as ``tor1 is idle``."""
    had_agent: bool = False
    """Cilium once said that the network of this node is up, so an agent belongs there."""

    @property
    def zone(self) -> str:
        """The failure domain, empty if nobody says."""
        return self.labels.get("topology.kubernetes.io/zone", "")

    @property
    def control_plane(self) -> bool:
        """Whether it is labelled so."""
        return any(role in self.labels for role in _ROLES)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What disturbs it by its own record, whoever caused that."""
        found = [f"Ready is {self.ready}"] if self.ready != "True" else []
        found += ["cordoned"] if self.cordoned else []
        found += ["being deleted"] if self.leaving else []
        found += [f"taint {key}" for key in self.taints if key in (AGENT_TAINT, *LEAVING)]
        found += [f"BGP session {words}" for words in self.sessions_down]
        found += ["BGP withdrawn"] if self.labels.get(_BGP_DRAIN) == "true" else []
        return tuple(found)


class Pod(Noun, frozen=True, kw_only=True):
    """A pod, as far as it matters where it runs and whether it works."""

    name: str
    namespace: str
    node: str = ""
    app: str = ""
    ready: bool = True
    """Ready, and not on its way out."""
    mirror: bool = False
    """A static pod, as the kubelet shows it to the API server."""


class Cluster(Noun, frozen=True, kw_only=True):
    """One moment."""

    nodes: tuple[Node, ...]
    agents: tuple[Pod, ...] = ()
    """Of Cilium."""
    etcd: tuple[Pod, ...] = ()
    needed: tuple[Pod, ...] = ()
    """What this daemon and everybody else depend on: DNS, Prometheus, Alertmanager, the API server; ``app`` says which."""
    api: str = ""
    """The host under which this daemon reaches the API server: often a service's address, sometimes that of one node."""

    def node(self, name: str) -> Node | None:
        """By its name."""
        return next((node for node in self.nodes if node.name == name), None)


class Own(Noun, frozen=True, kw_only=True):
    """Where this daemon runs, as its pod was told (deploy/kustomize/base/deployment.yaml); all empty outside of a cluster."""

    node: str = ""
    namespace: str = ""
    pod: str = ""


class View(Noun, frozen=True, kw_only=True):
    """Which nodes the daemon reaches itself, without anybody in between."""

    asked: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    detail: str = ""
    """Why nobody was asked."""


class Lease(Noun, frozen=True, kw_only=True):
    """Who holds the lease on the target, and until when."""

    holder: str = ""
    renewed: datetime | None = None
    lasts: timedelta | None = None


class Symptom(Noun, frozen=True, kw_only=True):
    """What the playbook's own expression gives now."""

    query: str
    values: tuple[float, ...] = ()
    stale: str = ""
    """Why the answer cannot be trusted: Prometheus's data are too old."""


class Network(Noun, frozen=True, kw_only=True):
    """What Prometheus says of who reaches whom; a view that does not come from the API server."""

    unreachable: tuple[float, ...] = ()
    """For each agent that tells, how many nodes it does not reach."""
    targets: int = 0
    """Targets that Prometheus scrapes."""
    down: int = 0
    """Those that it could not scrape last time."""
