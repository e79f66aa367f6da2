"""The nouns of BGP, frozen: nodes that speak, their sessions, the prefixes that they announce. What gates and reports judge by.

A node counts as a speaker of a prefix only if its agent is Ready, its session is established and not stale, and it advertises at least as
many routes as its configuration asks for. The status of a dead agent stays as it was, so the status alone proves nothing.
"""

from __future__ import annotations

from enum import StrEnum

from remediator.model import Noun

__all__ = ["Family", "Metrics", "Node", "Prefix", "PrefixKind", "Routes", "Session"]


class Family(Noun, frozen=True, kw_only=True):
    """One address family of a session."""

    afi: str = "ipv4"
    safi: str = "unicast"
    advertised: int | None = None
    """Routes that the node says it advertises; None if nobody says."""
    wanted: int = 0
    """Prefixes that the configuration asks for, as far as this version understands it; an aggregate counts as one."""

    @property
    def trouble(self) -> str:
        """What is missing; empty if nothing."""
        if self.advertised is None or self.advertised >= self.wanted:
            return ""
        return f"it advertises {self.advertised} of {self.wanted} {self.afi} prefixes"


class Session(Noun, frozen=True, kw_only=True):
    """One node's session with one peer."""

    instance: str
    local_asn: int = 0
    peer: str
    address: str
    asn: int = 0
    config: str = ""
    """The CiliumBGPPeerConfig; empty for a CiliumBGPPeeringPolicy."""
    state: str = "unknown"
    """``established`` and so on, as the agent reported it last."""
    families: tuple[Family, ...] = ()
    stale: str = ""
    """Why the state cannot be believed; empty if it can."""
    graceful: bool = False
    """Whether the peer keeps the routes for a while when the agent restarts."""
    connect_retry_seconds: int = 120
    hold_seconds: int = 90
    """After so long the peer has forgotten the routes: the hold time, or the restart time where graceful restart is on."""

    @property
    def works(self) -> bool:
        """Established, and that is not just old news."""
        return self.state == "established" and not self.stale

    @property
    def key(self) -> str:
        """Which session it is, for people and for comparisons."""
        return f"{self.instance}/{self.peer}"

    @property
    def trouble(self) -> str:
        """Why the node does not count as announcing to this peer; empty if it does."""
        if not self.works:
            return self.stale or f"the session is {self.state}"
        return next((family.trouble for family in self.families if family.trouble), "")

    @property
    def advertised(self) -> int:
        """Routes over all families."""
        return sum(family.advertised or 0 for family in self.families)


class Node(Noun, frozen=True, kw_only=True):
    """One node: what selects it and what it says."""

    name: str
    zone: str = ""
    agent_ready: bool = False
    agent: str = ""
    """What is wrong with its agent; empty if nothing."""
    configs: tuple[str, ...] = ()
    """Which configurations select it now, by its CiliumNode's labels."""
    configured: bool = False
    """Whether the operator wrote a CiliumBGPNodeConfig for it (or a CiliumBGPPeeringPolicy selects it)."""
    unschedulable: bool = False
    withdrawn_by: str = ""
    """The run that took it out of BGP, while its mark is there."""
    sessions: tuple[Session, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies defaults
    """Of the CiliumNode."""
    lag: str = ""
    """What has not followed yet: labels that the agent has still to copy, a NodeConfig that the operator has still to write or delete."""

    @property
    def speaks(self) -> bool:
        """Whether it announces anything that counts."""
        return any(not session.trouble for session in self.sessions)


class PrefixKind(StrEnum):
    """What a prefix belongs to."""

    SERVICE = "service"
    POD_CIDR = "pod_cidr"


class Prefix(Noun, frozen=True, kw_only=True):
    """One announced prefix, and the nodes that count as speakers of it."""

    prefix: str
    kind: PrefixKind
    of: str
    """``namespace/name`` of the service, or the node of the pods."""
    policy: str = ""
    """``externalTrafficPolicy`` of a service. With Local only nodes with a ready endpoint of their own announce it."""
    speakers: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - msgspec copies defaults
    """Node -> addresses of the peers that it announces it to."""
    perhaps: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - msgspec copies defaults
    """The same for sessions that work and carry fewer routes than they are to: nobody can tell whether this prefix is among them, the
    more so as agents write their counts every 5 s only. Such a node is none that stays, and one that may take the prefix away."""
    pods: int = 0
    """Of a pod CIDR: pods that are reached through it and would move in a drain."""


class Metrics(StrEnum):
    """What Prometheus could add."""

    READ = "read"
    ABSENT = "absent"
    """No Prometheus is set, or it has no metric of BGP at all."""
    UNREADABLE = "unreadable"


class Routes(Noun, frozen=True, kw_only=True):
    """Who announces what, as one moment shows it."""

    version: str = ""
    """Of the API group cilium.io that serves BGP here; empty if it serves none."""
    nodes: tuple[Node, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    metrics: Metrics = Metrics.ABSENT
    metrics_detail: str = ""
    operator: str = ""
    """What is wrong with the Cilium operator; empty if nothing."""
    conflicts: dict[str, str] = {}  # noqa: RUF012 - msgspec copies defaults
    """Configuration -> what its conditions say is wrong with it."""
    pools: tuple[str, ...] = ()
    """CiliumLoadBalancerIPPools, for a look only: to change one takes addresses away from services."""
    l2_policies: tuple[str, ...] = ()
    """CiliumL2AnnouncementPolicies, for a look only."""
    notes: tuple[str, ...] = ()
    """What this version does not understand of the configuration."""

    def node(self, name: str) -> Node | None:
        """The node of that name, if Cilium knows it."""
        return next((node for node in self.nodes if node.name == name), None)

    def announced_by(self, node: str) -> tuple[Prefix, ...]:
        """What that node counts as a speaker of."""
        return tuple(prefix for prefix in self.prefixes if node in prefix.speakers)

    def concerned(self, kind: str, name: str) -> tuple[Node, ...]:
        """Nodes that have to carry a shift of that object out: the node itself, those with a session by a CiliumBGPPeerConfig, else all.

        A node that no configuration selects has nothing to carry out.
        """
        if kind == "Node":
            return tuple(node for node in self.nodes if node.name == name and (node.configured or node.configs))
        if kind == "CiliumBGPPeerConfig":
            return tuple(node for node in self.nodes if any(session.config == name for session in node.sessions))
        return tuple(node for node in self.nodes if node.sessions)
