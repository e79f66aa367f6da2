"""The breaker: after too many runs or failures in a window nothing disturbs any more until a person says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.breaker import Backlog, Past, begun, failures_of, opened
from remediator.clock import iso
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.model import Verdict


class BreakerOpen(Gate):
    """Refuses while the breaker is open, and afterwards the episodes of that time if whoever reset it said ``skip``."""

    name: ClassVar[str] = "breaker_open"
    summary: ClassVar[str] = "the breaker is closed"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.FAILURES})
    only_disruptive: ClassVar[bool] = True

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        past, limits = snapshot.failures, case.limits.breaker
        found = opened(past, limits, but=case.run)
        if found is not None:
            return self.refuse(snapshot, f"open since {iso(found.at)}: {found.words}; to close it: remediator breaker reset")
        if (skipped := _skipped(case, past)) is not None:
            return self.refuse(snapshot, skipped)
        since = snapshot.at - limits.within
        bad = sum(end > since for end in failures_of(past, but=case.run))
        runs = sum(start > since for start in begun(past, but=case.run))
        words = f"{bad} of {limits.failures} failures, {runs} of {limits.runs} runs within {format_duration(limits.within)}"
        return self.allow(snapshot, words)


def _skipped(case: Case, past: Past) -> str | None:
    reset = past.reset
    if reset is None or reset.backlog is not Backlog.SKIP or case.alert is None or case.trigger is TriggerKind.MANUAL:
        return None
    if not reset.opened_at <= case.alert.starts_at <= reset.at:
        return None
    return f"the episode began while the breaker was open, and {reset.by} said to skip those when it was reset at {iso(reset.at)}"
