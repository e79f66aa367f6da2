"""Whether exactly one BGP configuration selects what is to be shifted (condition cilium.io/ConflictingClusterConfig)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Verdict


class BgpConflict(Gate):
    """Refuses where two configurations select a node: the operator ignores one, and which one would win after a change is a guess."""

    name: ClassVar[str] = "bgp_conflict"
    reason: ClassVar[Reason | None] = Reason.TARGET_AMBIGUOUS
    summary: ClassVar[str] = "no two BGP configurations select the nodes that a BGP shift concerns"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.ROUTES})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        routes = snapshot.routes
        selecting = {config for node in routes.concerned(case.target.kind, case.target.name) for config in node.configs}
        found = [f"{name}: {words}" for name, words in sorted(routes.conflicts.items()) if name in selecting]
        if found:
            return self.refuse(snapshot, f"two BGP configurations select the same node: {'; '.join(found)}")
        return self.allow(snapshot)
