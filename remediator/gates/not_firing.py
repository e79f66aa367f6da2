"""Whether Alertmanager still holds the episode: an alert that waited in a queue may be over by now."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind

if TYPE_CHECKING:
    from remediator.model import Verdict


class NotFiring(Gate):
    """Refuses if Alertmanager does not report this very episode (fingerprint and startsAt). A person's run needs no symptom."""

    name: ClassVar[str] = "not_firing"
    summary: ClassVar[str] = "Alertmanager still reports the episode as firing"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.ACTIVE_ALERTS})
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if case.alert is None or case.trigger is TriggerKind.MANUAL:
            return self.allow(snapshot, "asked for by a person")
        if case.alert.episode in snapshot.active_alerts:
            return self.allow(snapshot)
        again = [start for fingerprint, start in snapshot.active_alerts if fingerprint == case.alert.fingerprint]
        detail = "it fires again since then, as another episode" if again else "Alertmanager does not report it as active"
        return self.refuse(snapshot, detail)
