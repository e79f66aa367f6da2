"""Whether Cilium's operator is there to finish what a restart begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.cilium import judge
from remediator.cilium.picture import OPERATOR_SELECTOR
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class OperatorDown(Gate):
    """Refuses while the Cilium operator has no available replica: the taint of a restarted agent would stay, and with it the node empty."""

    name: ClassVar[str] = "operator_down"
    summary: ClassVar[str] = "the Cilium operator has an available replica"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.CILIUM})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        del case
        operators = snapshot.cilium.operators
        if not operators:
            return self.allow(snapshot, f"no Deployment with {OPERATOR_SELECTOR} is there, so there is nothing to judge")
        words = judge.no_operator(operators)
        return self.refuse(snapshot, words) if words else self.allow(snapshot)
