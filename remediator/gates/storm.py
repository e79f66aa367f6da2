"""An alert storm: so many episodes begin at once that one cause is likelier than many, and treating each by itself would do harm."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from remediator.clock import iso
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.model import TriggerKind
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from remediator.model import Verdict


class Weather(NamedTuple):
    """How it stands at the moment that is asked about."""

    now: int
    """Things that episodes within the window are about."""
    raging: bool
    ended: datetime | None
    """When the last storm had ended."""


class Storm(Gate):
    """Refuses alerts during a storm and for the cooldown after it. A storm ends when less than half as many episodes are within the window.

    A person's run is allowed: it is the person who has found the one cause.
    """

    name: ClassVar[str] = "storm"
    summary: ClassVar[str] = "no alert storm is on, nor just over"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.EPISODES})
    only_disruptive: ClassVar[bool] = True

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if case.trigger is TriggerKind.MANUAL:
            return self.allow(snapshot, "asked for by a person")
        limits = case.limits.storm
        weather = watch(snapshot.episodes, snapshot.at, most=limits.episodes, within=limits.within)
        words = f"{weather.now} things in trouble since {format_duration(limits.within)} ago; {limits.episodes} are a storm"
        if weather.raging:
            return self.refuse(snapshot, f"{words}, which goes on until there are fewer than {_calm(limits.episodes)}")
        if weather.ended is not None and snapshot.at < weather.ended + limits.cooldown:
            free = weather.ended + limits.cooldown
            return self.refuse(snapshot, f"{words}; the last ended {iso(weather.ended)}, its cooldown ends {iso(free)}")
        return self.allow(snapshot, words)


def watch(begun: Sequence[tuple[datetime, str]], at: datetime, *, most: int, within: timedelta) -> Weather:
    """How the window sees what began: in when it begins, out when the window has passed. Pure. ``begun``: in order of time, each once."""
    begun = begun[: bisect_right(begun, at, key=itemgetter(0))]
    now = len({subject for _, subject in begun[bisect_right(begun, at - within, key=itemgetter(0)) :]})
    if now >= most or len(begun) < most:
        return Weather(now, now >= most, None)
    return _walk(begun, at, most, within)


def _walk(begun: Sequence[tuple[datetime, str]], at: datetime, most: int, within: timedelta) -> Weather:
    """Through all of it: whether it rages depends on what was before."""
    inside: Counter[str] = Counter()
    raging, ended = False, None
    for moment, step, subject in _steps(begun, at, within):
        inside[subject] += step
        if not inside[subject]:
            del inside[subject]
        if not raging and len(inside) >= most:
            raging = True
        elif raging and len(inside) < _calm(most):
            raging, ended = False, moment
    return Weather(len(inside), raging, ended)


def _steps(begun: Sequence[tuple[datetime, str]], at: datetime, within: timedelta) -> Iterator[tuple[datetime, int, str]]:
    """Beginnings before ends of the same moment, so that a storm is not missed by a hair."""
    ends = ((start + within, -1, subject) for start, subject in begun if start + within <= at)
    yield from merge(((start, 1, subject) for start, subject in begun), ends, key=lambda move: (move[0], -move[1]))


def _calm(most: int) -> int:
    return (most + 1) // 2
