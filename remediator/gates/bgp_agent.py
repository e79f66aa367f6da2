"""Whether the agents that would have to carry a BGP shift out are at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Verdict


class BgpAgent(Gate):
    """Refuses if an agent that is to withdraw something is not Ready: it would not see the change, and its routers would hear nothing."""

    name: ClassVar[str] = "bgp_agent"
    reason: ClassVar[Reason | None] = Reason.AGENT_NOT_READY
    summary: ClassVar[str] = "the agents that would have to carry the BGP shift out are Ready"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.ROUTES})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        concerned = snapshot.routes.concerned(case.target.kind, case.target.name)
        down = [f"{node.name}: {node.agent}" for node in concerned if not node.agent_ready]
        if down:
            return self.refuse(snapshot, f"nobody would carry the change out: {'; '.join(down)}")
        return self.allow(snapshot, f"{len(concerned)} agents would carry it out")
