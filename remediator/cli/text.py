"""Text for terminals: neutral characters, ages, tables."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from remediator.neutral import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

__all__ = ["age", "clip", "safe", "span", "table"]


def clip(text: str, limit: int) -> str:
    """``text``, cut to ``limit`` characters with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def span(duration: timedelta) -> str:
    """A duration in at most two units, as kubectl shows ages: ``90s``, ``5m30s``, ``3h``, ``4d2h``, ``2y10d``."""
    seconds = max(0, int(duration.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    for limit, big, small in (
        (seconds < 120, (seconds, "s"), (0, "")),
        (minutes < 10, (minutes, "m"), (seconds % 60, "s")),
        (minutes < 180, (minutes, "m"), (0, "")),
        (hours < 8, (hours, "h"), (minutes % 60, "m")),
        (hours < 48, (hours, "h"), (0, "")),
        (days < 8, (days, "d"), (hours % 24, "h")),
        (days < 730, (days, "d"), (0, "")),
    ):
        if limit:
            return f"{big[0]}{big[1]}" + (f"{small[0]}{small[1]}" if small[0] else "")
    return f"{days // 365}y" + (f"{days % 365}d" if days % 365 else "")


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago ``moment`` was, or ``in 5m`` for one to come; ``-`` for none. A clock 5 s apart counts as the same."""
    if moment is None:
        return "-"
    passed = now - moment
    return f"in {span(-passed)}" if passed.total_seconds() < -5 else span(passed)


def _width(text: str) -> int:
    """Columns that a terminal gives ``text``: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as kubectl sets them: upper-case headers, left-aligned, two spaces between, no lines; ends with a newline."""
    lines = [tuple(headers), *(tuple(safe(cell) or "-" for cell in row) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
