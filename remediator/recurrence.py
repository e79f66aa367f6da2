"""What was restarted again and again: the report that says where a restart hides a fault. Pure.

In: what live runs did, as the journal has it. Out: one Recurrence for each target and action, the most frequent first.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING

from remediator.model import Done, Noun

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Recurrence", "recurrences"]


class Recurrence(Noun, frozen=True, kw_only=True):
    """One thing that was restarted more than once."""

    target: str
    """``Kind/[namespace/]name``"""
    action: str
    times: int
    first: datetime
    last: datetime
    healed: int
    """How often its run was proved healed: the symptom ended, and came back later."""
    each: tuple[Done, ...]
    """Oldest first."""


def recurrences(done: Iterable[Done], *, at_least: int) -> tuple[Recurrence, ...]:
    """Those that were done ``at_least`` so often; of equal ones the latest first."""
    same: dict[tuple[str, str], list[Done]] = defaultdict(list)
    for one in done:
        same[one.target, one.action].append(one)
    found = [_recurrence(*key, sorted(every, key=lambda one: one.at)) for key, every in same.items() if len(every) >= at_least]
    return tuple(sorted(found, key=lambda one: (one.times, one.last), reverse=True))


def _recurrence(target: str, action: str, every: list[Done]) -> Recurrence:
    return Recurrence(
        target=target,
        action=action,
        times=len(every),
        first=every[0].at,
        last=every[-1].at,
        healed=sum(one.state == "healed" for one in every),
        each=tuple(every),
    )
