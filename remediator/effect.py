"""What came of acting: success, time to heal and false starts, by playbook and by target. Pure.

In: live runs, as the journal has them. Out: for each playbook one Effect over all of its targets, and one for each target after it.
Dry runs and runs that people never said yes to began nothing and are not counted.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from statistics import median
from typing import TYPE_CHECKING

from remediator.breaker import failed
from remediator.model import Noun, RunState
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.model import Outline

__all__ = ["Effect", "effects"]

_WORKED = (RunState.HEALED, RunState.DONE)


class Effect(Noun, frozen=True, kw_only=True):
    """How the runs of one playbook ended."""

    playbook: str
    target: str | None = None
    """``Kind/[namespace/]name``; None: all targets together."""
    runs: int
    healed: int
    """Or done, where there was nothing to verify."""
    failed: int
    """Failed, not healed, or with an unknown result."""
    false_starts: int
    """Begun, and then the alert ended without it: ``resolved_meanwhile``."""
    stopped: int
    """Ended by people or by a gate."""
    open: int
    success: float | None
    """Healed among healed and failed, 0 to 1; None where neither is."""
    heal_median: float | None
    """Seconds from the beginning of a run to the proof that it healed; None where none did. ``done`` proves nothing and is left out."""
    heal_longest: float | None
    """Seconds, as above."""


def effects(runs: Iterable[Outline]) -> tuple[Effect, ...]:
    """By the playbook's name; within one, all targets together first, then each, those with most failures and false starts in front.

    Of the runs that healed the seconds are kept, of the others numbers alone.
    """
    by_playbook: dict[str, dict[str, _Sum]] = defaultdict(lambda: defaultdict(_Sum))
    for run in runs:
        if not run.dry_run and not run.unapproved:
            by_playbook[run.playbook][run.target.key].add(run)
    found: list[Effect] = []
    for playbook, by_target in sorted(by_playbook.items()):
        whole = _Sum()
        for one in by_target.values():
            whole.take(one)
        found.append(whole.effect(playbook, None))
        each = [one.effect(playbook, target) for target, one in sorted(by_target.items())]
        found.extend(sorted(each, key=lambda one: one.failed + one.false_starts, reverse=True))
    return tuple(found)


class _Sum:
    """Runs, added up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.took = array("d")

    def add(self, run: Outline) -> None:
        """One run."""
        self.counts[_ending(run)] += 1
        if run.state is RunState.HEALED and run.ended_at is not None:
            self.took.append((run.ended_at - run.begun_at).total_seconds())

    def take(self, other: _Sum) -> None:
        """What another one added up."""
        self.counts += other.counts
        self.took += other.took

    def effect(self, playbook: str, target: str | None) -> Effect:
        """All of it."""
        counts, took = self.counts, self.took
        healed, bad = counts["healed"], counts["failed"]
        return Effect(
            playbook=playbook,
            target=target,
            runs=counts.total(),
            healed=healed,
            failed=bad,
            false_starts=counts["false_starts"],
            stopped=counts["stopped"],
            open=counts["open"],
            success=healed / (healed + bad) if healed + bad else None,
            heal_median=median(took) if took else None,
            heal_longest=max(took, default=None),
        )


def _ending(run: Outline) -> str:
    """The field of Effect that counts it."""
    if run.state in _WORKED:
        return "healed"
    if run.state.open:
        return "open"
    if run.reason is Reason.RESOLVED_MEANWHILE:
        return "false_starts"
    return "failed" if failed(run) else "stopped"
