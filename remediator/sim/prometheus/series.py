"""Time series as Prometheus keeps them: samples at scrape times, a stale mark where a series ended.

In come scrapes (time and samples); out come instant and range selections. A sample older than five minutes, or before a stale mark, is
never shown.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["LOOKBACK", "LabelMatcher", "Labels", "Point", "Sample", "SeriesStore"]

LOOKBACK = 300.0
Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Sorted pairs, without the name."""


class Sample(NamedTuple):
    """What a target exposes."""

    name: str
    labels: dict[str, str]
    value: float


class Point(NamedTuple):
    """One selected sample."""

    name: str
    labels: Labels
    at: float
    value: float


class LabelMatcher(NamedTuple):
    """One of the four matcher operators; an absent label is the empty string, regular expressions are anchored."""

    label: str
    operator: str
    value: str

    def fits(self, value: str) -> bool:
        """Whether a label's value fits."""
        if self.operator in ("=", "!="):
            return (value == self.value) == (self.operator == "=")
        return bool(re.fullmatch(self.value, value, re.DOTALL)) == (self.operator == "=~")


class _Series:
    """One series and what is kept of it."""

    __slots__ = ("exposed", "labels", "name", "samples")

    def __init__(self, name: str, labels: Labels) -> None:
        self.name = name
        self.labels = labels
        self.exposed: list[tuple[str, ...]] = []
        """As its target writes it, by which it is found again: ``_known``."""
        self.samples: deque[tuple[float, float | None]] = deque()


class SeriesStore:
    """Everything that was scraped, for ``keep`` seconds."""

    def __init__(self, keep: float = 3600.0) -> None:
        self.keep = keep
        self._by_name: dict[str, dict[Labels, _Series]] = {}
        self._known: dict[tuple[str, ...], _Series] = {}
        """By name, labels' names and labels' values as they are exposed, since that is asked hundreds of times a scrape."""
        self._live: dict[_Series, None] = {}
        """Of the last scrape."""
        self._ended: list[_Series] = []
        """Until they are forgotten, or scraped again."""

    def append(self, at: float, samples: Iterable[Sample]) -> None:
        """One scrape of everything; series that are missing from it end here."""
        before, known = at - self.keep, self._known
        live: dict[_Series, None] = {}
        for name, exposed, value in samples:
            key = (name, *exposed, *exposed.values())
            series = known.get(key) or self._series(key, name, exposed)
            kept = series.samples
            kept.append((at, float(value)))
            while kept[0][0] < before:
                kept.popleft()
            live[series] = None
        for series in self._live:
            if series not in live:
                series.samples.append((at, None))
                self._ended.append(series)
        self._live = live
        if self._ended:
            self._ended = [series for series in self._ended if series not in live and not self._forgotten(series, before)]

    def select(self, name: str, matchers: Iterable[LabelMatcher], at: float) -> list[Point]:
        """The newest sample of every fitting series at that time."""
        points = []
        for series in self._fitting(name, tuple(matchers)):
            newest = next(((t, v) for t, v in reversed(series.samples) if t <= at), None)
            if newest and newest[1] is not None and at - newest[0] < LOOKBACK:
                points.append(Point(series.name, series.labels, newest[0], newest[1]))
        return points

    def window(
        self, name: str, matchers: Iterable[LabelMatcher], start: float, end: float
    ) -> list[tuple[str, Labels, list[tuple[float, float]]]]:
        """All samples of every fitting series with start < time <= end."""
        found = []
        for series in self._fitting(name, tuple(matchers)):
            inside = [(t, v) for t, v in series.samples if start < t <= end and v is not None]
            if inside:
                found.append((series.name, series.labels, inside))
        return found

    def label_values(self, label: str) -> list[str]:
        """Every value of a label, of all series that are kept."""
        values = {n if label == "__name__" else dict(ls).get(label, "") for n, series in self._by_name.items() for ls in series}
        return sorted(values - {""})

    def label_names(self) -> list[str]:
        """Every label that any series has."""
        return sorted({"__name__", *(k for series in self._by_name.values() for ls in series for k, _ in ls)})

    def _series(self, key: tuple[str, ...], name: str, exposed: dict[str, str]) -> _Series:
        """That series; it begins here if there was none."""
        labels = tuple(sorted(pair for pair in exposed.items() if pair[1] != ""))
        found = self._by_name.setdefault(name, {}).setdefault(labels, _Series(name, labels))
        found.exposed.append(key)
        self._known[key] = found
        return found

    def _fitting(self, name: str, matchers: tuple[LabelMatcher, ...]) -> Iterator[_Series]:
        for metric in [name] if name else list(self._by_name):
            for labels, series in self._by_name.get(metric, {}).items():
                values = {**dict(labels), "__name__": metric}
                if all(m.fits(values.get(m.label, "")) for m in matchers):
                    yield series

    def _forgotten(self, series: _Series, before: float) -> bool:
        """Whether nothing is left of it, once what is older than that is gone."""
        kept = series.samples
        while kept and kept[0][0] < before:
            kept.popleft()
        if kept:
            return False
        for key in series.exposed:
            del self._known[key]
        named = self._by_name[series.name]
        del named[series.labels]
        if not named:
            del self._by_name[series.name]
        return True
