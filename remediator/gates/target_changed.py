"""Whether the target is still the object that was decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Verdict


class TargetChanged(Gate):
    """Refuses if the target is gone, is being deleted, or is another object of the same name (its uid differs)."""

    name: ClassVar[str] = "target_changed"
    summary: ClassVar[str] = "the target exists and is the object that was decided on"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.TARGET})
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if snapshot.target is None:
            return self.refuse(snapshot, f"{case.target.key} does not exist", Reason.TARGET_MISSING)
        metadata = snapshot.target["metadata"]
        if case.target.uid and metadata["uid"] != case.target.uid:
            return self.refuse(snapshot, f"{case.target.key} has uid {metadata['uid']}, decided on {case.target.uid}")
        if metadata.get("deletionTimestamp"):
            return self.refuse(snapshot, f"{case.target.key} is being deleted since {metadata['deletionTimestamp']}")
        return self.allow(snapshot)
