"""The mode in force: ``observe`` records what would be done, ``suggest`` asks people first, ``auto`` acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Gate, Snapshot
from remediator.model import Mode, TriggerKind

if TYPE_CHECKING:
    from remediator.model import Verdict


class ObserveOnly(Gate):
    """Refuses what the mode does not allow. A person who triggers a run has said yes by that; a dry run changes nothing anyway.

    Neither does a playbook that only looks and tells.
    """

    name: ClassVar[str] = "observe_only"
    summary: ClassVar[str] = "the mode in force lets this trigger act, or people said yes"
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        by_hand, begun = case.trigger is TriggerKind.MANUAL, case.run is not None
        if case.mode == Mode.AUTO:
            return self.allow(snapshot, "mode auto")
        if case.dry_run and (by_hand or begun):
            return self.allow(snapshot, f"mode {case.mode}: a dry run changes nothing")
        if case.mode == Mode.OBSERVE:
            return self.refuse(snapshot, "mode observe: nothing is done; what would be done is recorded")
        if case.looks:
            return self.allow(snapshot, "mode suggest: nothing is changed, so nobody is asked")
        if begun and not by_hand and not case.approved:
            return self.refuse(snapshot, "mode suggest: nobody said yes to this run")
        yes = "people said yes" if case.approved else "a person asked for it" if by_hand else "people are asked first"
        return self.allow(snapshot, f"mode suggest: {yes}")
