"""The breaker: too many runs or failures in a window open it, and only a person closes it again. Pure.

In: the live runs that may disturb since it was last reset, and the settings' limits. Out: since when it is open and by which numbers.
It is a matter of the record alone: no flag that could be lost, so a restart changes nothing. Nothing is refused here.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from remediator.model import Noun, RunState
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.model import Outline
    from remediator.settings import Breaker

__all__ = [
    "LOOK_BACK",
    "NOTE",
    "Backlog",
    "Counted",
    "Opened",
    "Past",
    "Reset",
    "Standing",
    "begun",
    "counted",
    "failed",
    "failures_of",
    "opened",
    "standing",
]

NOTE = "breaker"
"""The kind of the log's entries about it."""
LOOK_BACK = timedelta(days=30)
"""Runs further back are forgotten, reset or not."""
_FAILED = frozenset({Reason.STEP_FAILED, Reason.STILL_FIRING, Reason.RELAPSED, Reason.DEADLINE, Reason.CRASHED, Reason.NO_MORE_RUNGS})


class Backlog(StrEnum):
    """What becomes of the episodes that began while it was open and still fire."""

    SKIP = "skip"
    """They are left to people."""
    RESUME = "resume"
    """They may act when Alertmanager repeats them."""


class Reset(Noun, frozen=True, kw_only=True):
    """A person closed it."""

    at: datetime
    by: str
    reason: str
    backlog: Backlog
    opened_at: datetime
    """When it had opened."""


class Counted(Noun, frozen=True, kw_only=True):
    """A live run that may disturb and that began."""

    id: str
    begun_at: datetime
    failed_at: datetime | None = None
    """When it ended, if it acted and that did not help."""


class Past(Noun, frozen=True, kw_only=True):
    """What the breaker is judged by."""

    runs: tuple[Counted, ...] = ()
    reset: Reset | None = None


class Opened(Noun, frozen=True, kw_only=True):
    """It is open."""

    at: datetime
    words: str


class Standing(Noun, frozen=True, kw_only=True):
    """How it stands, for people."""

    open: bool
    since: datetime | None = None
    detail: str = ""
    failures: int
    most_failures: int
    runs: int
    most_runs: int
    within: str
    """The window of both, as ``6h``."""
    reset: Reset | None = None
    """The last one."""


def standing(past: Past, limits: Breaker, now: datetime) -> Standing:
    """Everything about it at ``now``."""
    found, since = opened(past, limits), now - limits.within
    return Standing(
        open=found is not None,
        since=found.at if found else None,
        detail=found.words if found else "",
        failures=sum(end > since for end in failures_of(past)),
        most_failures=limits.failures,
        runs=sum(start > since for start in begun(past)),
        most_runs=limits.runs,
        within=format_duration(limits.within),
        reset=past.reset,
    )


def counted(runs: Iterable[Outline]) -> tuple[Counted, ...]:
    """Those of ``runs`` that count."""
    return tuple(
        Counted(id=run.id, begun_at=run.begun_at, failed_at=run.ended_at if failed(run) else None)
        for run in runs
        if run.disruptive and not run.dry_run and not run.unapproved
    )


def failed(run: Outline) -> bool:
    """Whether it acted and that did not help. A run that a gate or a person stopped is no failure."""
    return run.state is RunState.UNKNOWN or (run.state in (RunState.FAILED, RunState.NOT_HEALED) and run.reason in _FAILED)


def begun(past: Past, *, but: str | None = None) -> list[datetime]:
    """When each run that counts began, since it was last reset."""
    return [run.begun_at for run in past.runs if run.id != but and (past.reset is None or run.begun_at > past.reset.at)]


def failures_of(past: Past, *, but: str | None = None) -> list[datetime]:
    """When each run that counts ended without having helped, since it was last reset."""
    ends = [run.failed_at for run in past.runs if run.id != but]
    return [end for end in ends if end is not None and (past.reset is None or end > past.reset.at)]


def opened(past: Past, limits: Breaker, *, but: str | None = None) -> Opened | None:
    """Since when it is open, and why; None if it is closed. ``but``: a run that does not stand in its own way."""
    starts = _tripped(begun(past, but=but), limits.runs, limits.within)
    failures = _tripped(failures_of(past, but=but), limits.failures, limits.within)
    window = format_duration(limits.within)
    reached = [
        (starts, f"{limits.runs} runs that may disturb began"),
        (failures, f"{limits.failures} runs that may disturb failed or did not heal"),
    ]
    words = [Opened(at=at, words=f"{what} within {window}") for at, what in reached if at is not None]
    return min(words, key=lambda one: one.at, default=None)


def _tripped(moments: Iterable[datetime], most: int, within: timedelta) -> datetime | None:
    """The first moment at which ``most`` of them lie within the time before it."""
    window: deque[datetime] = deque()
    for moment in sorted(moments):
        window.append(moment)
        while window[0] <= moment - within:
            window.popleft()
        if len(window) >= most:
            return moment
    return None
