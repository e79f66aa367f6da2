"""The symptom itself, asked of Prometheus again: whether the playbook's own expression is still true, on data that are fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, RootModel

from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind
from remediator.playbook.scope import TextTemplate
from remediator.reasons import Reason

if TYPE_CHECKING:
    from pydantic import BaseModel

    from remediator.model import Verdict


class Settings(RootModel[TextTemplate]):
    """``still_true: 'rate(x{node="${target.name}"}[5m]) > 3'``; it may name ``target`` and ``cilium``. True if it gives a sample."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class StaleMetric(Gate):
    """Refuses an alert whose playbook's ``still_true`` is not true any more (``not_firing``), or that Prometheus has no fresh data for.

    An alert can fire because a scrape died: then what is old or missing is no symptom. A person's run needs none.
    """

    name: ClassVar[str] = "stale_metric"
    summary: ClassVar[str] = "the playbook's own expression is still true, on fresh data"
    key: ClassVar[str | None] = "still_true"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.STILL_TRUE})
    on_undo: ClassVar[bool] = False

    def needs(self, case: Case) -> frozenset[Fact]:
        """Asked only where a playbook has an expression and an alert wants it to act."""
        return self.reads if self.settings(case) is not None and case.trigger is not TriggerKind.MANUAL else frozenset()

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if self.settings(case) is None:
            return self.allow(snapshot, "the playbook sets no expression")
        if case.trigger is TriggerKind.MANUAL:
            return self.allow(snapshot, "asked for by a person")
        symptom = snapshot.symptom
        if symptom.stale:
            return self.refuse(snapshot, symptom.stale)
        if not symptom.values:
            return self.refuse(snapshot, f"{symptom.query} gives nothing any more", Reason.NOT_FIRING)
        return self.allow(snapshot, f"{symptom.query} gives {', '.join(f'{value:g}' for value in symptom.values[:3])}")
