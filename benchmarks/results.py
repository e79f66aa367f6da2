"""What is kept of a run of the benchmarks: one file of raw data with the machine and the commit, one table, and one plot a benchmark.

In: rows by benchmark. Out: ``FOLDER/NAME.json``, ``FOLDER/NAME.txt`` and ``FOLDER/NAME-BENCHMARK.png``, where NAME is time and commit; SVG
where there is no Chromium to draw PNG. Another file's rows stand beside these with ``compare``: what is in both, and what differs.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from benchmarks.plots import curves, draw
from benchmarks.processes import ROOT
from benchmarks.table import Row, columns, machine, number, show_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["FOLDER", "Kept", "compare", "read"]

FOLDER = ROOT / "benchmarks" / "results"
_WIDTH, _LINE, _NAMES, _BARS = 900, 24, 420, 300


class Kept:
    """One run of the benchmarks. ``described``: the machine and its load before the first of them."""

    def __init__(self, described: str, folder: Path) -> None:
        self.machine = described
        self.rows: dict[str, list[Row]] = {}
        self._commit = _commit()
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self._commit}.json"

    def add(self, name: str, rows: list[Row]) -> None:
        """What a benchmark found: on disk at once, so that one that is interrupted later costs nothing."""
        self.rows[name] = rows
        data = {
            "commit": self._commit,
            "machine": self.machine,
            "machine_after": machine(),
            "rows": {name: [asdict(row) for row in those] for name, those in self.rows.items()},
        }
        self.path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def finish(self) -> Path:
        """Write the table and the plots; the path of the raw data."""
        self.path.with_suffix(".txt").write_text(f"{self.machine}\n\n{show_all(self.rows)}\n", encoding="utf-8")
        plots = {name: curves(name, rows, self.machine) or _plot(name, rows, self.machine) for name, rows in self.rows.items()}
        draw({self.path.with_name(f"{self.path.stem}-{name}"): plot for name, plot in plots.items()})
        return self.path


def read(path: Path) -> tuple[str, dict[str, list[Row]]]:
    """Commit and machine in words, and the rows by benchmark."""
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = {name: [Row(**row) for row in those] for name, those in data["rows"].items()}
    return f"{path.name}: commit {data['commit']}, {data['machine']}", rows


def compare(before: Mapping[str, Sequence[Row]], after: Mapping[str, Sequence[Row]]) -> str:
    """A table of what was measured both times."""
    lines = [("what", "before", "after", "after/before", "ratio before", "ratio after")]
    for name in (name for name in before if name in after):
        now = {row.name: row for row in after[name]}
        for row in (row for row in before[name] if row.name in now):
            new = now[row.name]
            change = f"{new.measured / row.measured:.2f}" if row.measured else ""
            shown = (f"{number(row.measured)} {row.unit}", f"{number(new.measured)} {new.unit}")
            lines.append((f"{name}: {row.name}", *shown, change, *(f"{one.ratio:.2f}" if one.ratio else "" for one in (row, new))))
    return columns(lines)


def _commit() -> str:
    """Short, with ``-dirty`` where files differ from it; ``unknown`` outside of a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    return told.stdout.strip() or "unknown"


def _plot(name: str, rows: Sequence[Row], described: str) -> str:
    """A bar a row, with what it was compared to below it, both as parts of the larger one, the aim as a line."""
    parts = []
    for place, row in enumerate(rows):
        y = 60 + place * 2 * _LINE
        most = max(abs(row.measured), abs(row.compared or 0), abs(row.aim or 0) if not row.of_ratio else 0) or 1
        parts.append(_text(10, y + 14, row.name))
        parts += _bar(y, row.measured / most, f"{number(row.measured)} {row.unit}", "#2b6cb0" if row.met is not False else "#c53030")
        if row.compared is not None:
            parts += _bar(y + _LINE - 4, row.compared / most, f"{row.beside}: {number(row.compared)}", "#a0aec0")
        if row.aim is not None and not row.of_ratio:
            x = _NAMES + _BARS * row.aim / most
            parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{y}" y2="{y + 18}" stroke="#1a202c" stroke-dasharray="3 2"/>')
    head = [_text(10, 22, f"{name}", size=16), _text(10, 42, described, size=11)]
    height = 70 + 2 * _LINE * len(rows)
    body = "\n".join([*head, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif">\n{body}\n</svg>\n'


def _bar(y: int, part: float, words: str, colour: str) -> list[Any]:
    wide = max(1.0, _BARS * abs(part))
    bar = f'<rect x="{_NAMES}" y="{y + 2}" width="{wide:.0f}" height="14" fill="{colour}"/>'
    return [bar, _text(_NAMES + wide + 6, y + 14, words, size=11)]


def _text(x: float, y: float, words: str, size: int = 13) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}">{escape(words)}</text>'
