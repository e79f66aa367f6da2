"""Two commits measured in turns in one run, A B A B, so that what else the machine does hits both alike.

Each is unpacked into a folder of its own; the benchmarks are those of this tree for both, so that only the product differs. Out: a table of
the medians, and the ratio of the second to the first, the median over the rounds. What a commit cannot run is told as not measured.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import ROOT
from benchmarks.results import read
from benchmarks.table import Row, columns, machine, number

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["measure", "table"]

Found = dict[tuple[str, str], Row]
"""(benchmark, name of the row) -> the row."""


def measure(old: str, new: str, names: Sequence[str], *, rounds: int, quick: bool, folder: Path) -> int:
    """Print the table and keep it with the raw data in ``folder``. Exit status 1 if something could not be measured."""
    before = machine()
    print(before, flush=True)
    with tempfile.TemporaryDirectory(prefix="commits-") as home:
        trees = {name: _tree(commit, Path(home) / name) for name, commit in (("old", old), ("new", new))}
        found: dict[str, list[Found]] = {name: [] for name in trees}
        for turn in range(rounds):
            for name, tree in trees.items():
                print(f"round {turn + 1} of {rounds}: {old if name == 'old' else new}", flush=True)
                found[name].append(_run(tree, names, Path(home) / f"{name}-{turn}", quick=quick))
    told = table(found["old"], found["new"], old, new)
    print(f"\n{told}")
    _keep(folder, f"{before}\n\n{told}\n", found, (old, new))
    return int(any(what == "NOT MEASURED" for rounds_ in found.values() for one in rounds_ for _, what in one))


def _tree(commit: str, folder: Path) -> Path:
    """The commit's files, with this tree's benchmarks."""
    folder.mkdir()
    packed = subprocess.run(["git", "archive", "--format=tar", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=120)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True, timeout=120)
    shutil.rmtree(folder / "benchmarks", ignore_errors=True)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("results", "__pycache__"))
    return folder


def _run(tree: Path, names: Sequence[str], results: Path, *, quick: bool) -> Found:
    """One turn in a process of its own; its daemons, too, take their modules from ``tree``. An aim that is missed is no failure here."""
    command = [sys.executable, "-m", "benchmarks", "--results", str(results), *(["--quick"] if quick else []), *names]
    with (tree / "log").open("ab") as log:
        done = subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, stdout=log, stderr=log, check=False)
    kept = sorted(results.glob("*.json"))
    if not kept:
        raise RuntimeError(f"nothing was measured, status {done.returncode}:\n{(tree / 'log').read_text(errors='replace')[-2000:]}")
    return {(name, row.name): row for name, rows in read(kept[-1])[1].items() for row in rows}


def table(old: Sequence[Found], new: Sequence[Found], *commits: str) -> str:
    """Medians over the rounds, of what both have in each; ratios are those of the turns that stood beside one another."""
    lines = [("what", *commits, "ratio", "ratios of the rounds", "")]
    for key, row in old[0].items():
        if not all(key in one for one in (*old, *new)):
            continue
        values = [[one[key].measured for one in rounds] for rounds in (old, new)]
        ratios = [after / before for before, after in zip(*values, strict=True) if before]
        medians = [f"{number(statistics.median(one))} {row.unit}" for one in values]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        lines.append((": ".join(key), *medians, ratio, " ".join(f"{one:.2f}" for one in ratios), row.note[:60]))
    return columns(lines)


def _keep(folder: Path, told: str, found: dict[str, list[Found]], commits: tuple[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-commits.json"
    rows = {name: [[(*key, row.measured, row.unit) for key, row in one.items()] for one in rounds] for name, rounds in found.items()}
    path.write_text(json.dumps({"commits": commits, "rounds": rows}, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".txt").write_text(told, encoding="utf-8")
    print(f"\nraw data and table: {path}")
