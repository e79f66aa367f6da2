"""What every benchmark hands in, and how it is printed: one row a measurement, with what it is compared to and the aim it has."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Row", "columns", "machine", "number", "show", "show_all"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement. ``ratio`` is measured / compared; ``aim`` is about the ratio if ``of_ratio``, else about the measurement."""

    name: str
    measured: float
    unit: str
    beside: str = ""
    """What was measured beside it, in the same run."""
    compared: float | None = None
    aim: float | None = None
    of_ratio: bool = False
    at_least: bool = False
    """Whether the aim is a least value; else it is the most."""
    note: str = ""
    series: str = ""
    """Of which curve it is a point, where there is one."""
    at: float | None = None
    """Where on it."""

    @property
    def ratio(self) -> float | None:
        return self.measured / self.compared if self.compared else None

    @property
    def judged(self) -> float | None:
        """The number that the aim is about."""
        return self.ratio if self.of_ratio else self.measured

    @property
    def met(self) -> bool | None:
        """None if there is no aim."""
        if self.aim is None or self.judged is None:
            return None
        return self.judged >= self.aim if self.at_least else self.judged <= self.aim

    @property
    def verdict(self) -> str:
        """``met``, or by how much it is missed."""
        if self.met is None or self.aim is None or self.judged is None:
            return ""
        if self.met:
            return "met"
        if not self.aim:
            return f"MISSED: {number(self.judged)}"
        return f"MISSED by {abs(self.judged / self.aim - 1):.0%}"

    def cells(self) -> tuple[str, ...]:
        unit = "" if self.of_ratio else f" {self.unit}"
        aim = "" if self.aim is None else f"{'>=' if self.at_least else '<='} {number(self.aim)}{unit}"
        beside = f"{self.beside}: {number(self.compared)} {self.unit}" if self.compared is not None else self.beside
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.name, f"{number(self.measured)} {self.unit}", beside, ratio, aim, self.verdict, self.note


def number(value: float) -> str:
    """At most three digits that count; whole numbers as they are."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show(rows: list[Row]) -> str:
    """A table, in columns as wide as they must be."""
    return columns([("what", "measured", "beside", "ratio", "aim", "", ""), *(row.cells() for row in rows)])


def show_all(found: Mapping[str, Sequence[Row]]) -> str:
    """One table of all benchmarks. Of a curve only its ends stand there: the last point is compared to the first."""
    rows = [(name, row) for name, those in found.items() for row in those if not row.series or row.compared is not None]
    return columns([("benchmark", "what", "measured", "beside", "ratio", "aim", "", ""), *((name, *row.cells()) for name, row in rows)])


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of as many cells each, below one another."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def machine() -> str:
    """Where it was measured: cores, memory, Python, and how busy the machine was before."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}; load before: {load:.1f}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
