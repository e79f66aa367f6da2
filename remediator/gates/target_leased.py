"""The lease on a node by which tools that work on nodes keep out of one another's way (the convention of medik8s)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.clock import iso
from remediator.cluster.lease import HOLDER, valid
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class TargetLeased(Gate):
    """Refuses a node whose lease another tool holds. Before a run disturbs the node it takes the lease itself (cluster/leases.py)."""

    name: ClassVar[str] = "target_leased"
    summary: ClassVar[str] = "no other tool holds the lease on the node"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.LEASE})
    only_disruptive: ClassVar[bool] = True

    def needs(self, case: Case) -> frozenset[Fact]:
        """Only nodes have such a lease."""
        return super().needs(case) if case.target.kind == "Node" else frozenset()

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if case.target.kind != "Node":
            return self.allow(snapshot, "only nodes have such a lease")
        lease = snapshot.lease
        if lease is None or not lease.holder:
            return self.allow(snapshot, "nobody holds it")
        if lease.renewed is None or lease.lasts is None:
            return self.refuse(snapshot, f"{lease.holder} holds it, and it does not say until when")
        until = lease.renewed + lease.lasts
        words = f"{lease.holder} renewed it {iso(lease.renewed)}, until {iso(until)}"
        if lease.holder == HOLDER:
            return self.allow(snapshot, words)
        if not valid(lease.renewed, lease.lasts, snapshot.at):
            ahead = ", which is in the future, so it does not count" if lease.renewed > snapshot.at else ""
            return self.allow(snapshot, f"{words}{ahead}")
        return self.refuse(snapshot, words)
