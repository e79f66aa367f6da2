"""How much of each budget is left for the next eviction, and how long to leave a budget or a pod alone after a refusal.

In: budgets as watched, pods under way. Out: yes or no, and pauses. Never a pause of zero (kubernetes/kops#18641), always a jittered one.
Whoever looks here before an eviction is sent seldom gets a 429, and a budget that is freed is used at once.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from remediator.drain.budgets import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.drain.result import Moving
    from remediator.kube.workloads import PodDisruptionBudget

__all__ = ["Pressure", "headroom", "pause"]

_FIRST = 0.5
_LONGEST = 10.0
_TRUSTED = 3
"""After so many refusals in a row a change of the budget no longer ends the pause: its status says yes and its answers say no."""


def pause(tries: int, *, at_least: float = 0.0) -> timedelta:
    """After the ``tries``-th refusal in a row: between the half and the whole of 0.5 s, 1 s, 2 s ... 10 s, on top of what was asked for."""
    whole = min(_LONGEST, _FIRST * 2 ** min(max(tries, 1) - 1, 10))
    return timedelta(seconds=at_least + random.uniform(whole / 2, whole))  # noqa: S311 - spreads load, guards nothing


def headroom(budget: PodDisruptionBudget, moving: Iterable[Moving]) -> int:
    """Disruptions that the budget still allows, less those that were granted or asked for and do not show in its status yet."""
    status = budget.status
    if status.observed_generation < budget.metadata.generation:
        return 0
    granted = status.disrupted_pods or {}
    key = key_of(budget)
    unseen = 0
    for one in moving:
        asked = one.asked.get(key)
        if asked is None or one.pod.name in granted:
            continue
        left = one.outcome.over or one.pod.terminating
        unseen += one.in_flight or not left or asked == budget.metadata.resource_version
    return status.disruptions_allowed - unseen


class Pressure:
    """Remembers which budgets refused."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, datetime, str]] = {}
        self._said: dict[str, str] = {}

    def refused(self, key: str, version: str, now: datetime, words: str = "") -> None:
        """The budget answered 429 with ``words``, as it stood at ``version``."""
        tries = self._refused.get(key, (0, now, ""))[0] + 1
        self._refused[key] = (tries, now + pause(tries), version)
        self._said[key] = words

    def said(self, key: str) -> str:
        """What the API server said when the budget refused last; empty if it allowed one since."""
        return self._said.get(key, "") if key in self._refused else ""

    def granted(self, key: str) -> None:
        """It allowed one."""
        self._refused.pop(key, None)

    def open(self, budget: PodDisruptionBudget, now: datetime) -> bool:
        """Whether it may be asked now."""
        tries, until, version = self._refused.get(key_of(budget), (0, now, ""))
        changed = version != budget.metadata.resource_version and tries <= _TRUSTED
        return now >= until or changed

    def next(self, budgets: Mapping[str, PodDisruptionBudget]) -> datetime | None:
        """When the first of the pauses ends."""
        return min((until for key, (_, until, _) in self._refused.items() if key in budgets), default=None)
