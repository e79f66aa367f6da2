"""Whether another BGP shift is still on its way, whoever began it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Verdict


class BgpShift(Gate):
    """Refuses while labels are not copied or NodeConfigs not written or deleted: until then nobody knows who will be left."""

    name: ClassVar[str] = "bgp_shift"
    reason: ClassVar[Reason | None] = Reason.CONCURRENCY
    summary: ClassVar[str] = "no other BGP shift is under way"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.ROUTES})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        del case
        behind = [f"{node.name}: {node.lag}" for node in snapshot.routes.nodes if node.lag]
        return self.refuse(snapshot, f"another BGP shift is under way: {'; '.join(behind)}") if behind else self.allow(snapshot)
