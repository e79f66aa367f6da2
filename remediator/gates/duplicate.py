"""One restart for one firing of one alert, from the journal: whatever the cooldown says, and whatever was forgotten in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind

if TYPE_CHECKING:
    from remediator.model import Verdict


class Duplicate(Gate):
    """Refuses if this episode (fingerprint and startsAt) led to a run on the target before. A person may ask again."""

    name: ClassVar[str] = "duplicate"
    summary: ClassVar[str] = "this episode has led to no run on the target before"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.HISTORY})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if case.alert is None or case.trigger is TriggerKind.MANUAL:
            return self.allow(snapshot, "asked for by a person")
        for run in snapshot.history:
            same = run.alert is not None and run.alert.episode == case.alert.episode
            if same and run.id != case.run and run.dry_run == case.dry_run:
                return self.refuse(snapshot, f"the episode led to run {run.id} of {run.playbook}, which ended as {run.state}")
        return self.allow(snapshot)
