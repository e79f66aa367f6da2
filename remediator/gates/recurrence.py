"""Whether the same restart was done too often already: what has to be repeated does not heal, it hides a fault."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.clock import iso
from remediator.fields import Duration
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.model import Verdict


class Settings(BaseModel):
    """``recurrence: {stop_at: 3, within: 7d}``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stop_at: int = Field(default=3, ge=2, le=100, description="the how manieth within the time is not done any more")
    within: Duration = Field(default=timedelta(days=7), gt=timedelta(0), le=timedelta(days=7))


class Recurrence(Gate):
    """Refuses the nth time that one of the case's actions would be done to the target within the window, whichever playbooks did it before.

    Dry runs restart nothing, so they are never counted, and are refused as a live run would be.
    """

    name: ClassVar[str] = "recurrence"
    reason: ClassVar[Reason | None] = Reason.ATTEMPTS_EXHAUSTED
    summary: ClassVar[str] = "the same restart was not done to the target again and again"
    key: ClassVar[str | None] = "recurrence"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.RESTARTS})
    always: ClassVar[bool] = False
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        settings = self.settings(case) or Settings()
        since = snapshot.at - settings.within
        restarts = snapshot.restarts
        window = format_duration(settings.within)
        most = 0
        for action in case.actions:
            done = [one for one in restarts if one.action == action and one.at > since]
            most = max(most, len(done))
            if len(done) + 1 >= settings.stop_at:
                before = ", ".join(f"{iso(one.at)} {one.state}" for one in done)
                words = f"{action} was done {len(done)} times within {window} ({before}); look for the cause, and do not do it once more"
                return self.refuse(snapshot, f"a restart hides a fault here: {words}")
        return self.allow(snapshot, f"done {most} times within {window}; number {settings.stop_at} would be refused")
