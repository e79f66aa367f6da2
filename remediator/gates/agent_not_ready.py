"""Whether the node can take a restart, and the cluster can bear one more agent that is down for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.cilium import judge
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class AgentNotReady(Gate):
    """Refuses on a node that is not Ready, and while agents of other nodes are down. The target's own agent may be: that is the reason."""

    name: ClassVar[str] = "agent_not_ready"
    summary: ClassVar[str] = "the target node is Ready and no agent of another node is down"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.TARGET, Fact.CILIUM})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        node, agents = snapshot.target, snapshot.cilium.agents
        found = [judge.node_not_ready(node), judge.under_pressure(node)] if node is not None and case.target.kind == "Node" else []
        found += [judge.others_down(agents, case.target.name), judge.cannot_be_pulled(agents)]
        words = "; ".join(part for part in found if part)
        return self.refuse(snapshot, words) if words else self.allow(snapshot, f"{len(agents.pods)} agents, none of another node is down")
