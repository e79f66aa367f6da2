"""When episodes began and what each is about, in memory: what storms are told by, without a question to the disk for each delivery.

In: alerts as they arrive, and once what the journal has from before. Out: beginnings in order of time. Bounded in time and in number.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from remediator.model import AlertStatus, to_milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.model import Alert, Begun

__all__ = ["LOOK_BACK", "Beginning", "Beginnings"]

LOOK_BACK = timedelta(hours=4)
"""Longer than the longest window and cooldown of a storm, and as long again for one that goes on."""
_MOST = 20_000
_SUBJECTS = ("target_node", "node", "instance", "service", "pod")
"""Labels that name what an alert is about, the surest first."""

Beginning: TypeAlias = tuple[datetime, str]
"""The moment, and the subject: five alerts on one node are one thing that is wrong."""


class Beginnings:
    """The latest beginnings, each once. One per daemon."""

    def __init__(self) -> None:
        self._sorted: list[Beginning] = []
        self._known: set[Beginning] = set()
        self.complete = False
        """Whether what the journal has from before this process is in it."""

    def arrived(self, alerts: Iterable[Alert], now: datetime) -> None:
        """Alerts of one delivery: all of them count before the first of them may act."""
        for alert in alerts:
            if alert.status is AlertStatus.FIRING:
                self._put(alert, now)
        self._forget(now)

    def recall(self, episodes: Iterable[Begun], now: datetime) -> None:
        """What the journal has of the time before; once is enough."""
        for episode in episodes:
            self._put(episode, now)
        self._forget(now)
        self.complete = True

    def until(self, now: datetime) -> tuple[Beginning, ...]:
        """Those of the last hours, in order of time. One that lies in the future, by somebody's clock, begins now."""
        late = bisect_left(self._sorted, now, key=itemgetter(0))
        early = bisect_left(self._sorted, now - LOOK_BACK, key=itemgetter(0))
        ahead = sorted((now, subject) for _, subject in self._sorted[late:])
        return (*self._sorted[early:late], *ahead)

    def _put(self, one: Alert | Begun, now: datetime) -> None:
        subject = next((value for label in _SUBJECTS if (value := one.labels.get(label))), one.fingerprint)
        beginning = (to_milliseconds(one.starts_at), subject)
        if one.starts_at >= now - LOOK_BACK and beginning not in self._known:
            self._known.add(beginning)
            insort(self._sorted, beginning)

    def _forget(self, now: datetime) -> None:
        old = bisect_left(self._sorted, now - LOOK_BACK, key=itemgetter(0))
        surplus = max(old, len(self._sorted) - _MOST)
        self._known.difference_update(self._sorted[:surplus])
        del self._sorted[:surplus]
