"""Marks by which people and other tools forbid acting on a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from remediator.cluster.marks import forbidden, marks
from remediator.cluster.model import LEAVING
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict

CLAIMS = (
    "karpenter.sh/do-not-disrupt",
    "cluster.x-k8s.io/delete-machine",
    "machine.openshift.io/delete-machine",
    "machine.openshift.io/cluster-api-delete-machine",
)
"""Karpenter's word of a person (docs, concepts/disruption), and marks of machines that are to be deleted, where they are put on nodes."""


class Protected(Gate):
    """Refuses a target that is marked as protected, or whose namespace is, or that other tools are at work on or must leave alone.

    Those are medik8s, the cluster autoscaler, Karpenter, and whoever deletes machines; the last three mark nodes.
    """

    name: ClassVar[str] = "protected"
    summary: ClassVar[str] = "neither the target nor its namespace is marked as protected, and no other tool claims it"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.TARGET, Fact.NAMESPACE})

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        for kind, thing in ((case.target.kind, snapshot.target), ("Namespace", snapshot.namespace)):
            if mark := forbidden(thing):
                return self.refuse(snapshot, f"{kind} carries {mark}")
        if case.target.kind == "Node" and (claim := _claimed(snapshot.target)):
            return self.refuse(snapshot, f"Node {claim}: another tool is at work on it, or must be left to it")
        return self.allow(snapshot)


def _claimed(node: dict[str, Any] | None) -> str:
    """The first sign that a node is another tool's business, in words."""
    found = marks(node)
    for key in CLAIMS:
        if key in found and found[key].lower() != "false":
            return f"carries {key}={found[key]}"
    keys = [str(taint.get("key", "")) for taint in ((node or {}).get("spec") or {}).get("taints") or ()]
    return next((f"is tainted {key}" for key in keys if key in LEAVING), "")
