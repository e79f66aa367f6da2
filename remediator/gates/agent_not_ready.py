"""Whether the node can take a restart, and the cluster can bear one more agent that is down for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.cilium import judge
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class AgentNotReady(Gate):
    """Refuses on a node that is not Ready, and while as many agents of other nodes are down as nodes may be disturbed.

    The target is one more of these. Its own agent may be down: that is the reason.
    """

    name: ClassVar[str] = "agent_not_ready"
    summary: ClassVar[str] = "the target node is Ready and few enough agents of other nodes are down"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.TARGET, Fact.CILIUM})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        node, agents = snapshot.target, snapshot.cilium.agents
        found = [judge.node_not_ready(node), judge.under_pressure(node)] if node is not None and case.target.kind == "Node" else []
        limit = max(1, case.most_disturbed(judge.wanted(agents)))
        found += [judge.others_down(agents, case.target.name, limit=limit), judge.cannot_be_pulled(agents)]
        words = "; ".join(part for part in found if part)
        return (
            self.refuse(snapshot, words)
            if words
            else self.allow(snapshot, f"{len(agents.pods)} agents, fewer than {limit} of other nodes down")
        )
