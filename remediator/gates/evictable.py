"""Whether anything on a node that is to be emptied forbids that for good, asked before a step ahead of the drain changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Verdict


class Evictable(Gate):
    """Refuses if a pod of the target may not be evicted, or never can be. Brought by actions that empty nodes.

    A drain that waits for nothing would leave undone whatever its rung did before it: a node without routes whose pods still run.
    """

    name: ClassVar[str] = "evictable"
    reason: ClassVar[Reason | None] = Reason.PDB
    summary: ClassVar[str] = "every pod of the node may be evicted, and no budget forbids it for good"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.HINDRANCES})
    always: ClassVar[bool] = False
    only_disruptive: ClassVar[bool] = True
    by_parameters: ClassVar[bool] = True
    until_begun: ClassVar[bool] = True

    def needs(self, case: Case) -> frozenset[Fact]:
        """Only nodes have pods that would have to go."""
        return super().needs(case) if case.target.kind == "Node" else frozenset()

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate. The reason is that of the first hindrance; the detail has all of them."""
        if case.target.kind != "Node":
            return self.allow(snapshot, "the target is no node")
        found = snapshot.hindrances
        if not found:
            return self.allow(snapshot, "every pod may go, sooner or later")
        return self.refuse(snapshot, "; ".join(f"{one.reason}: {one.detail}" for one in found), found[0].reason)
