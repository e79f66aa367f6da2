"""Whether what is to be restarted restarts by itself already."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.cilium import judge
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class CrashLooping(Gate):
    """Refuses while a container of the node's agent crashes again and again; for another target than a Node, of the operator."""

    name: ClassVar[str] = "crash_looping"
    summary: ClassVar[str] = "what is to be restarted does not crash by itself again and again"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.CILIUM})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        cilium = snapshot.cilium
        pods = cilium.agents.on(case.target.name) if case.target.kind == "Node" else cilium.operator_pods
        words = judge.crash_loop(pods, snapshot.at)
        return self.refuse(snapshot, words) if words else self.allow(snapshot)
