"""Whether somebody silenced the alert, or another alert inhibits it, since it was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind

if TYPE_CHECKING:
    from remediator.model import Verdict


class Silenced(Gate):
    """Refuses a silenced or inhibited episode: a person, or a bigger alert, asked for quiet."""

    name: ClassVar[str] = "silenced"
    summary: ClassVar[str] = "nobody silenced the alert since it was sent"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.ACTIVE_ALERTS})
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if case.alert is None or case.trigger is TriggerKind.MANUAL:
            return self.allow(snapshot, "asked for by a person")
        muted_by = snapshot.active_alerts.get(case.alert.episode, ())
        return self.refuse(snapshot, f"silenced or inhibited by {', '.join(muted_by)}") if muted_by else self.allow(snapshot)
