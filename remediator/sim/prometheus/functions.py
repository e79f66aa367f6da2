"""What PromQL's functions make of numbers, apart from series and labels.

In come the samples of one window, one value, or the buckets of one histogram; out comes a number, or None where there is no answer.
As in Prometheus (``promql/functions.go``, ``promql/quantile.go``); ``tests/contract/test_promql.py`` asks the real one.
"""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CALENDAR", "EACH", "OVER", "Window", "bucket_quantile", "predicted", "quantile"]


class Window(NamedTuple):
    """The samples of one series between two moments; there is at least one."""

    samples: Sequence[tuple[float, float]]
    start: float
    end: float

    @property
    def values(self) -> list[float]:
        """Without their times."""
        return [value for _, value in self.samples]


# --- over a window ---------------------------------------------------------------------------------------------------


def _grown(values: Sequence[float]) -> float:
    """How much a counter rose; where it fell it began anew at 0."""
    return values[-1] - values[0] + math.fsum(before for before, after in pairwise(values) if after < before)


def _extrapolated(window: Window, *, counter: bool) -> float | None:
    """The change over the whole window: what lies between its ends and the first and last sample goes on as between them."""
    samples, values = window.samples, window.values
    if len(samples) < 2:
        return None
    (first, at_first), (last, _) = samples[0], samples[-1]
    changed = _grown(values) if counter else values[-1] - at_first
    sampled = last - first
    gap = sampled / (len(samples) - 1)
    before, after = first - window.start, window.end - last
    if counter and changed > 0 and at_first >= 0:
        before = min(before, sampled * (at_first / changed))  # no counter was below 0
    covered = sampled + sum(edge if edge < gap * 1.1 else gap / 2 for edge in (before, after))
    return changed * (covered / sampled)


def _rate(window: Window) -> float | None:
    changed = _extrapolated(window, counter=True)
    return None if changed is None else changed / (window.end - window.start)


def _last_two(window: Window, *, counter: bool, per_second: bool) -> float | None:
    if len(window.samples) < 2:
        return None
    (earlier, before), (later, now) = window.samples[-2:]
    changed = now if counter and now < before else now - before
    return changed / (later - earlier) if per_second else changed


def _line(window: Window, at: float) -> tuple[float, float] | None:
    """Slope and value at ``at`` of the line through the samples, by least squares."""
    if len(window.samples) < 2:
        return None
    values = window.values
    if all(value == values[0] for value in values):
        return (0.0, values[0]) if math.isfinite(values[0]) else (math.nan, math.nan)
    times = [time - at for time, _ in window.samples]
    count, sum_x, sum_y = len(times), math.fsum(times), math.fsum(values)
    covariance = math.fsum(x * y for x, y in zip(times, values, strict=True)) - sum_x * sum_y / count
    slope = covariance / (math.fsum(x * x for x in times) - sum_x * sum_x / count)
    return slope, sum_y / count - slope * sum_x / count


def _slope(window: Window) -> float | None:
    line = _line(window, window.samples[0][0])
    return line[0] if line else None


def predicted(window: Window, ahead: float, now: float) -> float | None:
    """``predict_linear``: where the line through the samples is ``ahead`` seconds after ``now``."""
    line = _line(window, now)
    return line[1] + line[0] * ahead if line else None


OVER: dict[str, Callable[[Window], float | None]] = {
    "min_over_time": lambda w: min(w.values),
    "max_over_time": lambda w: max(w.values),
    "avg_over_time": lambda w: math.fsum(w.values) / len(w.values),
    "sum_over_time": lambda w: math.fsum(w.values),
    "count_over_time": lambda w: float(len(w.values)),
    "last_over_time": lambda w: w.values[-1],
    "present_over_time": lambda _: 1.0,
    "stddev_over_time": lambda w: statistics.pstdev(w.values),
    "stdvar_over_time": lambda w: statistics.pvariance(w.values),
    "changes": lambda w: float(sum(a != b for a, b in pairwise(w.values))),
    "resets": lambda w: float(sum(b < a for a, b in pairwise(w.values))),
    "rate": _rate,
    "increase": lambda w: _extrapolated(w, counter=True),
    "delta": lambda w: _extrapolated(w, counter=False),
    "irate": lambda w: _last_two(w, counter=True, per_second=True),
    "idelta": lambda w: _last_two(w, counter=False, per_second=False),
    "deriv": _slope,
}
"""What needs a second sample gives nothing without one."""

# --- of one value ----------------------------------------------------------------------------------------------------


def _logarithm(of: Callable[[float], float]) -> Callable[[float], float]:
    def logarithm(value: float) -> float:
        if value > 0 or math.isnan(value):
            return value if math.isinf(value) else of(value)
        return -math.inf if value == 0 else math.nan

    return logarithm


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


EACH: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "ceil": lambda v: float(math.ceil(v)) if math.isfinite(v) else v,
    "floor": lambda v: float(math.floor(v)) if math.isfinite(v) else v,
    "sqrt": lambda v: math.sqrt(v) if v >= 0 else math.nan,
    "exp": _exp,
    "ln": _logarithm(math.log),
    "log2": _logarithm(math.log2),
    "log10": _logarithm(math.log10),
    "sgn": lambda v: math.copysign(1.0, v) if v else v,
}

CALENDAR: dict[str, Callable[[datetime], int]] = {
    "minute": lambda t: t.minute,
    "hour": lambda t: t.hour,
    "day_of_week": lambda t: t.isoweekday() % 7,
    "day_of_month": lambda t: t.day,
    "month": lambda t: t.month,
    "year": lambda t: t.year,
}
"""Of a time in UTC."""


def _at(of: Callable[[datetime], int]) -> Callable[[float], float]:
    return lambda seconds: float(of(datetime.fromtimestamp(seconds, UTC)))


EACH |= {name: _at(of) for name, of in CALENDAR.items()}

# --- quantiles -------------------------------------------------------------------------------------------------------


def quantile(share: float, values: Sequence[float]) -> float:
    """Of a list of values, between its two nearest."""
    if math.isnan(share) or not values:
        return math.nan
    if share < 0 or share > 1:
        return math.copysign(math.inf, share - 0.5)
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low, high = math.floor(rank), min(len(ordered) - 1, math.floor(rank) + 1)
    weight = rank - low
    return ordered[low] * (1 - weight) + ordered[high] * weight


def bucket_quantile(share: float, buckets: dict[float, float]) -> float:
    """Of a histogram: upper bound -> how many are at most that. NaN where it has no bucket without end, or holds nothing."""
    bounds = sorted(buckets)
    if share < 0 or share > 1:
        return math.copysign(math.inf, share - 0.5)
    if math.isnan(share) or len(bounds) < 2 or bounds[-1] != math.inf:
        return math.nan
    counts: list[float] = []
    for bound in bounds:  # a scrape may have fallen between two of them
        counts.append(max(buckets[bound], counts[-1] if counts else 0.0))
    if not counts[-1]:
        return math.nan
    rank = share * counts[-1]
    index = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(bounds) - 1)
    if index == len(bounds) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    start, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return start + (bounds[index] - start) * ((rank - below) / (counts[index] - below))
