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


class SeriesStore:
    """Everything that was scraped, for ``keep`` seconds."""

    def __init__(self, keep: float = 3600.0) -> None:
        self.keep = keep
        self._by_name: dict[str, dict[Labels, deque[tuple[float, float | None]]]] = {}
        self._live: set[tuple[str, Labels]] = set()

    def append(self, at: float, samples: Iterable[Sample]) -> None:
        """One scrape of everything; series that are missing from it end here."""
        seen: set[tuple[str, Labels]] = set()
        for name, exposed, value in samples:
            labels = tuple(sorted(exposed.items()))
            if "" in exposed.values():
                labels = tuple(pair for pair in labels if pair[1] != "")
            self._series(name, labels).append((at, float(value)))
            seen.add((name, labels))
        for name, labels in self._live - seen:
            self._series(name, labels).append((at, None))
        self._live = seen
        self._forget(at - self.keep)

    def select(self, name: str, matchers: Iterable[LabelMatcher], at: float) -> list[Point]:
        """The newest sample of every fitting series at that time."""
        points = []
        for found, labels, samples in self._fitting(name, tuple(matchers)):
            newest = next(((t, v) for t, v in reversed(samples) if t <= at), None)
            if newest and newest[1] is not None and at - newest[0] < LOOKBACK:
                points.append(Point(found, labels, newest[0], newest[1]))
        return points

    def window(
        self, name: str, matchers: Iterable[LabelMatcher], start: float, end: float
    ) -> list[tuple[str, Labels, list[tuple[float, float]]]]:
        """All samples of every fitting series with start < time <= end."""
        found = []
        for metric, labels, samples in self._fitting(name, tuple(matchers)):
            inside = [(t, v) for t, v in samples if start < t <= end and v is not None]
            if inside:
                found.append((metric, labels, inside))
        return found

    def label_values(self, label: str) -> list[str]:
        """Every value of a label, of all series that are kept."""
        values = {n if label == "__name__" else dict(ls).get(label, "") for n, series in self._by_name.items() for ls in series}
        return sorted(values - {""})

    def label_names(self) -> list[str]:
        """Every label that any series has."""
        return sorted({"__name__", *(k for series in self._by_name.values() for ls in series for k, _ in ls)})

    def _series(self, name: str, labels: Labels) -> deque[tuple[float, float | None]]:
        series = self._by_name.setdefault(name, {})
        found = series.get(labels)
        if found is None:
            found = series[labels] = deque()
        return found

    def _fitting(self, name: str, matchers: tuple[LabelMatcher, ...]) -> Iterator[tuple[str, Labels, deque[tuple[float, float | None]]]]:
        for metric in [name] if name else list(self._by_name):
            for labels, samples in self._by_name.get(metric, {}).items():
                values = {**dict(labels), "__name__": metric}
                if all(m.fits(values.get(m.label, "")) for m in matchers):
                    yield metric, labels, samples

    def _forget(self, before: float) -> None:
        for name, series in list(self._by_name.items()):
            for labels, samples in list(series.items()):
                while samples and samples[0][0] < before:
                    samples.popleft()
                if not samples:
                    del series[labels]
            if not series:
                del self._by_name[name]
