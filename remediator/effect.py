"""What came of acting: success, time to heal and false starts, by playbook and by target. Pure.

In: live runs, as the journal has them. Out: for each playbook one Effect over all of its targets, and one for each target after it.
Dry runs and runs that people never said yes to began nothing and are not counted.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from remediator.breaker import failed
from remediator.model import Noun, RunState
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from remediator.model import Run

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


def effects(runs: Iterable[Run]) -> tuple[Effect, ...]:
    """By the playbook's name; within one, all targets together first, then each, those with most failures and false starts in front."""
    by_playbook: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if not run.dry_run and not run.unapproved:
            by_playbook[run.playbook][run.target.key].append(run)
    found: list[Effect] = []
    for playbook, by_target in sorted(by_playbook.items()):
        found.append(_effect(playbook, None, [run for every in by_target.values() for run in every]))
        each = [_effect(playbook, target, every) for target, every in sorted(by_target.items())]
        found.extend(sorted(each, key=lambda one: one.failed + one.false_starts, reverse=True))
    return tuple(found)


def _effect(playbook: str, target: str | None, runs: Sequence[Run]) -> Effect:
    healed = sum(run.state in _WORKED for run in runs)
    still = sum(run.state.open for run in runs)
    false = sum(map(_false_start, runs))
    bad = sum(failed(run) and not _false_start(run) for run in runs)
    took = [(run.ended_at - run.begun_at).total_seconds() for run in runs if run.state is RunState.HEALED and run.ended_at is not None]
    return Effect(
        playbook=playbook,
        target=target,
        runs=len(runs),
        healed=healed,
        failed=bad,
        false_starts=false,
        stopped=len(runs) - healed - still - false - bad,
        open=still,
        success=healed / (healed + bad) if healed + bad else None,
        heal_median=median(took) if took else None,
        heal_longest=max(took, default=None),
    )


def _false_start(run: Run) -> bool:
    return run.reason is Reason.RESOLVED_MEANWHILE and run.state not in _WORKED and not run.state.open
