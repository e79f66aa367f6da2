"""How often a playbook may try on one target within each of some windows, from the journal, so that it survives a restart."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from remediator.fields import Duration
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.model import Verdict


class Within(BaseModel):
    """One window: ``{max: 2, within: 6h}``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max: int = Field(ge=1, le=100)
    within: Duration = Field(gt=timedelta(0), le=timedelta(days=7))


class Settings(BaseModel):
    """``attempts: {max: 2, per: target, within: 6h, also: [{max: 5, within: 7d}]}``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max: int = Field(ge=1, le=100)
    per: Literal["target"] = "target"
    within: Duration = Field(gt=timedelta(0), le=timedelta(days=7))
    also: tuple[Within, ...] = Field(
        default=(), max_length=10, exclude_if=lambda also: not also, description="further windows, each with a number"
    )


class AttemptsExhausted(Gate):
    """Refuses once this playbook began as many runs on this target as allowed within one of the windows.

    What nobody approved did not begin.
    """

    name: ClassVar[str] = "attempts_exhausted"
    summary: ClassVar[str] = "the playbook has attempts left on the target"
    key: ClassVar[str | None] = "attempts"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.HISTORY})
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        settings = self.settings(case)
        if settings is None:
            return self.allow(snapshot, "the playbook sets no limit")
        began = [run.begun_at for run in snapshot.history if run.playbook == case.playbook and case.minds(run)]
        windows = [(window, sum(start > snapshot.at - window.within for start in began)) for window in (settings, *settings.also)]
        words = ", ".join(f"{count} of {window.max} attempts within {format_duration(window.within)}" for window, count in windows)
        allowed = all(count < window.max for window, count in windows)
        return self.allow(snapshot, words) if allowed else self.refuse(snapshot, words)
