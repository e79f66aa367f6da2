"""Small drawings as SVG, made here so that pages need no script. In: numbers and moments; out: markup with every text escaped.

Colours come from the stylesheet by class, so they follow the reader's theme; what colour says, text says too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from remediator.words import moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remediator.server.service import Series

__all__ = ["bars", "plot"]

_WIDTH, _HEIGHT = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 24
_BESIDE = 26
"""Marks nearer than this share a number."""


def plot(series: Series, marks: Sequence[tuple[datetime, str]]) -> Markup:
    """The points of ``series`` with its limit as a line and ``marks`` as numbered moments. Empty without points."""
    if not series.points or series.limit is None:
        return Markup()
    start, end = series.points[0][0], max(series.points[-1][0], *(at for at, _ in marks), series.points[0][0])
    top = max(*(value for _, value in series.points), series.limit) or 1.0
    low = min(*(value for _, value in series.points), series.limit, 0.0)

    def x(at: datetime) -> float:
        share = (at - start) / (end - start) if end > start else 0.5
        return _LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (1 - (value - low) / (top * 1.08 - low)) * (_HEIGHT - _TOP - _BOTTOM)

    limit = y(series.limit)
    line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in series.points)
    label = f"From {moment(start)} to {moment(end)} UTC, the last value is {series.points[-1][1]:.4g}; the limit is {series.limit:g}."
    parts = [
        Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(_WIDTH, _HEIGHT, label),
        Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, y(low), _WIDTH - _RIGHT, y(low)),
        Markup('<line class="limit" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(_LEFT, limit, _WIDTH - _RIGHT, limit),
        Markup('<text class="limit-text" x="{}" y="{:.1f}" text-anchor="end">{:g}</text>').format(_LEFT - 6, limit + 4, series.limit),
        *(_mark(numbers, at, words) for numbers, at, words in _apart([(x(at), words) for at, words in marks])),
        Markup('<polyline class="line" points="{}"/>').format(line),
        Markup('<text x="{}" y="{}">{}</text>').format(_LEFT, _HEIGHT - 6, moment(start)),
        Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(_WIDTH - _RIGHT, _HEIGHT - 6, moment(end, start)),
        Markup("</svg>"),
    ]
    return Markup().join(parts)


def _apart(marks: Sequence[tuple[float, str]]) -> list[tuple[str, float, str]]:
    """Marks that would lie on one another as one: ``1-4``."""
    groups: list[list[int]] = []
    for number, (at, _) in enumerate(marks):
        if groups and at - marks[groups[-1][0]][0] < _BESIDE:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [
        (f"{group[0] + 1}" + (f"-{group[-1] + 1}" if len(group) > 1 else ""), marks[group[0]][0], "; ".join(marks[one][1] for one in group))
        for group in groups
    ]


def _mark(number: str, at: float, words: str) -> Markup:
    return Markup(
        '<g class="mark"><title>{}</title><line x1="{:.1f}" y1="{}" x2="{:.1f}" y2="{}"/>'
        '<text x="{:.1f}" y="{}" text-anchor="middle">{}</text></g>'
    ).format(words, at, _TOP, at, _HEIGHT - _BOTTOM, at, _TOP - 8, number)


def bars(columns: Sequence[tuple[str, int, int]]) -> Markup:
    """A column a period: its label, how many worked, how many did not."""
    most = max((good + bad for _, good, bad in columns), default=0)
    if not most:
        return Markup()
    wide, high = 44, 90
    parts = [
        Markup('<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(wide * len(columns), high + 34, _told(columns))
    ]
    for number, (label, good, bad) in enumerate(columns):
        left, up, down = number * wide + 8, good / most * high, bad / most * high
        parts += [
            Markup('<rect class="good" x="{}" y="{:.1f}" width="28" height="{:.1f}"/>').format(left, 14 + high - up, up),
            Markup('<rect class="bad" x="{}" y="{:.1f}" width="28" height="{:.1f}"/>').format(left, 14 + high - up - down, down),
            Markup('<text x="{}" y="{:.1f}" text-anchor="middle">{}</text>').format(left + 14, 10 + high - up - down, _count(good, bad)),
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(left + 14, high + 30, label),
        ]
    return Markup().join([*parts, Markup("</svg>")])


def _count(good: int, bad: int) -> str:
    return f"{good}/{good + bad}" if good + bad else ""


def _told(columns: Sequence[tuple[str, int, int]]) -> str:
    return str(escape("; ".join(f"{label}: {good} of {good + bad} worked" for label, good, bad in columns if good + bad)))
