"""How many disruptive runs may begin within an hour, in all (settings ``limits``), and of one playbook on any target."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.fields import Duration
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.model import Verdict

_HOUR = timedelta(hours=1)


class Settings(BaseModel):
    """``rate: {max: 2, within: 1h}``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max: int = Field(ge=1, le=1000)
    within: Duration = Field(gt=timedelta(0), le=timedelta(days=1))


class RateLimited(Gate):
    """Refuses once as many disruptive runs began as allowed. Dry runs and live runs are counted apart."""

    name: ClassVar[str] = "rate_limited"
    summary: ClassVar[str] = "few enough disruptive runs began within the last hour"
    key: ClassVar[str | None] = "rate"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.RECENT_RUNS})
    only_disruptive: ClassVar[bool] = True
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        counted = [run for run in snapshot.recent_runs if run.disruptive and case.minds(run)]
        hour = sum(run.begun_at > snapshot.at - _HOUR for run in counted)
        words = f"{hour} disruptive runs began within 1h; disruptive_per_hour is {case.limits.disruptive_per_hour}"
        if hour >= case.limits.disruptive_per_hour:
            return self.refuse(snapshot, words)
        settings = self.settings(case)
        if settings is None:
            return self.allow(snapshot, words)
        mine = sum(run.playbook == case.playbook and run.begun_at > snapshot.at - settings.within for run in counted)
        more = f"{mine} of {settings.max} runs of {case.playbook} within {format_duration(settings.within)}"
        return self.allow(snapshot, f"{more}; {words}") if mine < settings.max else self.refuse(snapshot, more)
