"""Whether our own account in the cluster may do all that the playbook would."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class MissingRight(Gate):
    """Refuses a playbook that would stop half-way, because a verb that it needs is not granted."""

    name: ClassVar[str] = "missing_right"
    summary: ClassVar[str] = "the daemon's account has every right that the playbook needs"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.RIGHTS})
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        del case
        missing = snapshot.missing_rights
        return self.refuse(snapshot, f"our account may not {missing}") if missing else self.allow(snapshot)
