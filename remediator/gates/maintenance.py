"""Windows of the settings in which people work on the cluster and alerts mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Gate, Snapshot
from remediator.model import TriggerKind
from remediator.windows import Edge, open_one, told_of

if TYPE_CHECKING:
    from remediator.model import Verdict


class Maintenance(Gate):
    """Refuses what an alert asks for while a window of the settings' ``maintenance`` is open. A person's run is the work itself."""

    name: ClassVar[str] = "maintenance"
    summary: ClassVar[str] = "no maintenance window is open"

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        windows = case.limits.maintenance
        found = open_one(windows, snapshot.at, Edge.WIDE)
        if found is None:
            return self.allow(snapshot, f"none of {len(windows)} windows is open" if windows else "the settings name no window")
        words = told_of(*found)
        if case.trigger is TriggerKind.MANUAL:
            return self.allow(snapshot, f"{words}; asked for by a person")
        return self.refuse(snapshot, words)
