"""Whether the target is the one node that explains what is seen between nodes: the node that an alert names is often a victim of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.attribution import Kind
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind

if TYPE_CHECKING:
    from remediator.model import Verdict


class NoCulprit(Gate):
    """Refuses unless the pairs blame the target. Who names a node by hand is refused only if they blame another one, or no node at all."""

    name: ClassVar[str] = "no_culprit"
    summary: ClassVar[str] = "what is seen between the nodes blames the target, where the playbook asks for the culprit"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.FINDING})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        found, target = snapshot.finding, case.target
        if found.node is not None and target.kind == "Node" and found.node == target.name:
            return self.allow(snapshot, f"{found.words}; confidence {found.confidence:g}")
        if found.node is not None:
            return self.refuse(snapshot, f"{found.node} is to blame, not {target.name}: {found.words}")
        if found.kind is Kind.NOBODY and case.trigger is TriggerKind.MANUAL:
            return self.allow(snapshot, f"asked for by a person; no other node is to blame: {found.words}")
        return self.refuse(snapshot, f"{found.kind}: {found.words}")
