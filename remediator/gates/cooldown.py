"""Time to let the last run on the same target take effect, from the journal, so that it survives a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, RootModel

from remediator.clock import iso
from remediator.fields import Duration
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind
from remediator.units import format_duration

if TYPE_CHECKING:
    from pydantic import BaseModel

    from remediator.model import Verdict


class Settings(RootModel[Duration]):
    """``cooldown: 30m``"""

    model_config = ConfigDict(frozen=True)


class Cooldown(Gate):
    """Refuses while the last run of this playbook on this target ended less than the cooldown ago.

    One that nobody approved did nothing: it keeps people from being asked again at once, and does not stand in a person's way.
    """

    name: ClassVar[str] = "cooldown"
    summary: ClassVar[str] = "enough time has passed since this playbook last ran on the target"
    key: ClassVar[str | None] = "cooldown"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.HISTORY})
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        settings = self.settings(case)
        if settings is None:
            return self.allow(snapshot, "the playbook sets no cooldown")
        ended = [
            run.ended_at
            for run in snapshot.history
            if run.playbook == case.playbook and run.dry_run == case.dry_run and run.id != case.run and run.ended_at is not None
            if case.trigger is TriggerKind.ALERT or not run.unapproved
        ]
        if not ended:
            return self.allow(snapshot)
        free = max(ended) + settings.root
        if free <= snapshot.at:
            return self.allow(snapshot)
        return self.refuse(snapshot, f"the last run ended {iso(max(ended))}; cooldown of {format_duration(settings.root)} ends {iso(free)}")
