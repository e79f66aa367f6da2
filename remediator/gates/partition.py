"""A partition, or a view of ours that cannot be trusted: from here both sides look as if the other were dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.cluster.model import Cluster, Network, View
    from remediator.model import Target, Verdict

_SHARE = 0.3
_AT_LEAST = 2
"""One node that nobody reaches is a node that is broken."""
_BLIND = 0.5
"""Of all targets of Prometheus: when so many cannot be scraped, it is Prometheus that cannot reach them."""


class Partition(Gate):
    """Refuses while 30 % of the nodes, and at least 2, are out of reach for the API server or for most agents, or half of all scrapes fail.

    The views are independent, and all must say that all is well: the kubelets' leases, what the agents say of one another, whom the daemon
    reaches itself. An API server that takes no write, and a Prometheus that is set and does not answer or has old data, are unreadable.
    """

    name: ClassVar[str] = "partition"
    summary: ClassVar[str] = "neither the API server nor the agents see a partition, and Prometheus sees its targets"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.CLUSTER, Fact.NETWORK, Fact.VIEW})
    only_disruptive: ClassVar[bool] = True

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        cluster, network = snapshot.cluster, snapshot.network
        most = max(_AT_LEAST, _SHARE * len(cluster.nodes))
        views = [_kubelets(cluster, most), _itself(snapshot.view, case.target)]
        views += [_agents(network, most), _scrapes(network)] if network is not None else []
        words = "; ".join(words for _, words in views) + ("" if network is not None else "; the settings name no prometheus.url to ask")
        suspect = any(bad for bad, _ in views)
        return self.refuse(snapshot, words) if suspect else self.allow(snapshot, words)


def _kubelets(cluster: Cluster, most: float) -> tuple[bool, str]:
    """Ready becomes Unknown when the kubelet's lease was not renewed for 40 s (node-monitor-grace-period)."""
    silent = sum(node.ready == "Unknown" for node in cluster.nodes)
    return silent >= most, f"{silent} of {len(cluster.nodes)} kubelets are silent"


def _itself(view: View, target: Target) -> tuple[bool, str]:
    """The daemon on the small side of a cut sees it here, whatever it is told. The target may be out of reach."""
    others = [name for name in view.asked if target.kind != "Node" or name != target.name]
    if not others:
        return False, view.detail or "there is no other node to reach"
    reached = len(set(others).intersection(view.reached))
    return 2 * reached <= len(others), f"this daemon reaches {reached} of {len(others)} other nodes itself"


def _agents(network: Network, most: float) -> tuple[bool, str]:
    """Most agents, not the worst: a node that is cut off alone reaches nobody, and all others miss one node."""
    if not network.unreachable:
        return False, "no agent tells whom it reaches"
    missing = sum(count >= most for count in network.unreachable)
    return 2 * missing > len(network.unreachable), f"{missing} of {len(network.unreachable)} agents do not reach {most:g} nodes or more"


def _scrapes(network: Network) -> tuple[bool, str]:
    blind = network.targets == 0 or network.down >= max(_AT_LEAST, _BLIND * network.targets)
    return blind, f"{network.down} of {network.targets} scrapes fail"
