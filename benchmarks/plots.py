"""Plots: curves of what grows, as SVG, and any SVG as PNG.

In: rows that are points of curves. Out: one field a curve, both axes in doublings, so that in proportion is a straight line as steep as the
dashed one. PNG is drawn by Chromium; where there is none the SVG is kept as it is.
"""

from __future__ import annotations

import math
import shutil
from html import escape
from typing import TYPE_CHECKING

from benchmarks.table import Row, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["curves", "draw"]

_WIDE, _HIGH, _EDGE, _ACROSS = 420, 230, 46, 2


def curves(name: str, rows: Sequence[Row], described: str) -> str:
    """One field for each curve among the rows; empty where there is none."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row.series and row.at and row.measured > 0:
            series.setdefault(row.series, []).append(row)
    fields = [_field(title, points, place) for place, (title, points) in enumerate(series.items()) if len(points) > 1]
    if not fields:
        return ""
    height = 60 + _HIGH * -(-len(fields) // _ACROSS)
    head = f'<text x="10" y="22" font-size="16">{escape(name)}</text><text x="10" y="42" font-size="11">{escape(described)}</text>'
    size = f'width="{_WIDE * _ACROSS}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">\n{head}\n{"".join(fields)}\n</svg>\n'


def _field(title: str, points: Sequence[Row], place: int) -> str:
    left, top = _WIDE * (place % _ACROSS) + _EDGE, 60 + _HIGH * (place // _ACROSS) + 24
    wide, high = _WIDE - _EDGE - 60, _HIGH - 70
    across = [math.log2(point.at or 1) for point in points]
    up = [math.log2(point.measured) for point in points]
    doublings = across[-1] - across[0]
    low, top_value = min(up), max(*up, up[0] + doublings)

    def spot(x: float, y: float) -> str:
        return f"{left + wide * (x - across[0]) / doublings:.1f},{top + high * (1 - (y - low) / (top_value - low)):.1f}"

    line = " ".join(spot(x, y) for x, y in zip(across, up, strict=True))
    proportion = f"{spot(across[0], up[0])} {spot(across[-1], up[0] + doublings)}"
    parts = [
        f'<text x="{left}" y="{top - 8}" font-size="13">{escape(title)} ({escape(points[0].unit)})</text>',
        f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#cbd5e0"/>',
        f'<polyline points="{proportion}" fill="none" stroke="#a0aec0" stroke-dasharray="4 3"/>',
        f'<polyline points="{line}" fill="none" stroke="#2b6cb0" stroke-width="2"/>',
    ]
    for point, x, y in zip(points, across, up, strict=True):
        cx, cy = spot(x, y).split(",")
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="3" fill="#2b6cb0"/>')
        parts.append(f'<text x="{cx}" y="{float(cy) - 7:.1f}" font-size="10" text-anchor="middle">{number(point.measured)}</text>')
        parts.append(f'<text x="{cx}" y="{top + high + 14}" font-size="10" text-anchor="middle">{number(point.at or 0)}</text>')
    return "\n".join(parts)


def draw(plots: Mapping[Path, str]) -> None:
    """Each SVG as ``PATH.png``, or as ``PATH.svg`` where Chromium is not installed."""
    chromium = shutil.which("chromium")
    if chromium is None:
        for path, plot in plots.items():
            path.with_name(f"{path.name}.svg").write_text(plot, encoding="utf-8")
        return
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not every machine that measures has a browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(device_scale_factor=2)
        for path, plot in plots.items():
            page.set_content(f"<body style='margin:0'>{plot}</body>")
            page.locator("svg").screenshot(path=path.with_name(f"{path.name}.png"))
        browser.close()
