"""The mode in force: ``observe`` records, ``suggest`` lets a person decide, ``auto`` acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Gate, Snapshot
from remediator.model import Mode, TriggerKind

if TYPE_CHECKING:
    from remediator.model import Verdict


class ObserveOnly(Gate):
    """Refuses what the mode does not allow. A person who triggers a run is the decision that ``suggest`` waits for."""

    name: ClassVar[str] = "observe_only"
    summary: ClassVar[str] = "the mode in force lets this trigger act"
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        by_hand = case.trigger is TriggerKind.MANUAL
        if case.mode is Mode.AUTO or (case.mode is Mode.SUGGEST and by_hand):
            return self.allow(snapshot, f"mode {case.mode}")
        if case.mode is Mode.SUGGEST:
            command = f"remediator run {case.playbook} --target {case.target.key}"
            return self.refuse(snapshot, f"mode suggest: a person decides; to act: {command}")
        return self.refuse(snapshot, "mode observe: nothing is ever done")
