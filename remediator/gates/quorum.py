"""The control plane's quorum: etcd stands still when half of its members are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.cluster.model import Cluster
    from remediator.model import Verdict


class Quorum(Gate):
    """Refuses to disturb a member while a second one is worked on, or where losing it on top of those that are down would lose the quorum.

    A target that is down already does not count twice. A member that is the only one has no quorum to endanger: nothing that this program
    does stops a static pod.
    """

    name: ClassVar[str] = "quorum"
    summary: ClassVar[str] = "the control plane keeps its quorum without the target"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.CLUSTER, Fact.OPEN_RUNS})
    only_disruptive: ClassVar[bool] = True

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        cluster = snapshot.cluster
        members, what = _members(cluster)
        if case.target.kind != "Node" or case.target.name not in members:
            return self.allow(snapshot, f"the target is none of {len(members)} {what}")
        others = members - {case.target.name}
        busy = [run for run in snapshot.open_runs if run.disruptive and case.minds(run)]
        worked_on = sorted(run.target.name for run in busy if run.target.kind == "Node" and run.target.name in others)
        if worked_on:
            return self.refuse(snapshot, f"a run is open on {worked_on[0]}, another of {len(members)} {what}; one at a time")
        down = sorted(_down(cluster) & others)
        left, needed = len(others) - len(down), len(members) // 2 + 1
        words = f"{left} of {len(members)} {what} would be left, {needed} are needed; down besides the target: {', '.join(down) or 'none'}"
        return self.allow(snapshot, words) if left >= needed or not others else self.refuse(snapshot, words)


def _members(cluster: Cluster) -> tuple[set[str], str]:
    """Nodes with a member of etcd; where etcd runs elsewhere, the nodes that are labelled as control plane."""
    etcd = {pod.node for pod in cluster.etcd if pod.mirror and pod.node}
    if etcd:
        return etcd, "etcd members"
    return {node.name for node in cluster.nodes if node.control_plane}, "control plane nodes"


def _down(cluster: Cluster) -> set[str]:
    """Nodes that are not Ready or on their way out, and those whose member is not ready."""
    nodes = {node.name for node in cluster.nodes if node.ready != "True" or node.leaving}
    return nodes | {pod.node for pod in cluster.etcd if pod.mirror and not pod.ready}
