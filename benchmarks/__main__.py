"""Runs the benchmarks: ``python -m benchmarks [NAME ...]``, or ``make bench ARGS='NAME ...'``. Exit status 1 if an aim is missed.

Each prints its table when it is done, and at the end stands one table of all; raw data, that table and plots are kept in
``benchmarks/results``. ``--commits OLD NEW`` measures two commits in turns, ``--compare OLD NEW`` shows two files of raw data beside one
another. All traffic stays on 127.0.0.1; files are temporary.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import commits
from benchmarks.quick import shrink
from benchmarks.results import FOLDER, Kept, compare, read
from benchmarks.table import Row, machine, show, show_all

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = {
    "startup": "the command line and the daemon, from start to the first answer",
    "reaction": "from the webhook's answer to the first call of the Kubernetes API, idle and under load",
    "memory": "at rest, and after 10,000 and 20,000 alerts",
    "flood": "10,000 alerts in 10 s on 1,000 nodes that a playbook takes: taken, decided, memory",
    "pages": "10,000 alerts within 10 s while a browser watches: event to screen, stalls of the daemon's event loop",
    "cluster": "1,000 nodes and 100,000 pods: memory, calls and CPU at rest, the largest questions",
    "storm": "10,000 alerts in 10 s from two peers, three times in a row: decided, memory, who waits how long",
    "growth": "nodes, pods, alerts, open runs and history, each doubled four times: time and memory",
    "soak": "weeks of incidents on a clock that leaps: whether anything grows",
    "drain": "draining a node, beside kubectl drain on a real control plane",
    "history": "a million entries on SQLite and PostgreSQL: lists, start, verifying, pruning, export, import",
    "verify": "journal verify, entries a second",
    "backtest": "100,000 alerts of a month replayed through the shipped playbooks",
    "listing": "5,000 pods: how long the event loop stands still",
    "attribution": "who is to blame in 10,000 generated clusters, beside blaming the target of the alert",
    "scenarios": "every incident of the simulated cluster, beside a policy that restarts and then drains",
    "intake": "webhooks a second, to the disk, beside bare servers",
}


ON_REQUEST = ("soak",)
"""Only if they are named: half an hour each."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a benchmark; all if none is given")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="of two runs: what changed from the first to the second")
    parser.add_argument("--commits", nargs=2, metavar="COMMIT", help="measure these two in turns, with the benchmarks of this tree")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="of --commits: how often each is measured (default 2)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, about ten minutes in all")
    parser.add_argument("--results", type=Path, default=FOLDER, metavar="FOLDER", help="where to keep raw data, table and plots")
    parser.add_argument("--list", action="store_true", help="say which there are")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:<12}{what}" for name, what in NAMES.items()))
        return 0
    if options.compare:
        (old, before), (new, after) = map(read, options.compare)
        print(f"before  {old}\nafter   {new}\n\n{compare(before, after)}")
        return 0
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    names = options.names or [name for name in NAMES if name not in ON_REQUEST]
    if options.commits:
        return commits.measure(*options.commits, names, rounds=options.rounds, quick=options.quick, folder=options.results)
    return run(names, quick=options.quick, folder=options.results)


def run(names: Sequence[str], *, quick: bool, folder: Path) -> int:
    """All of them, whatever becomes of each; what is measured is kept as soon as it is there."""
    described = machine() + ("; quick sizes" if quick else "")
    print(described, flush=True)
    kept = Kept(described, folder)
    for name in names:
        began = time.perf_counter()
        rows = _measured(name, quick=quick)
        print(f"\n{name}: {NAMES[name]} ({time.perf_counter() - began:.0f} s)\n{show(rows)}", flush=True)
        kept.add(name, rows)
    print(f"\n{kept.machine}\n\n{show_all(kept.rows)}\n\nraw data, table and plots: {kept.finish()}")
    missed = [f"{name}: {row.name}" for name, rows in kept.rows.items() for row in rows if row.met is False]
    print(f"\n{len(missed)} aims missed: {', '.join(missed)}" if missed else "\nevery aim is met")
    return 1 if missed else 0


def _measured(name: str, *, quick: bool) -> list[Row]:
    """One benchmark's rows; a single one that says so where it could not be measured, so that the others still are."""
    try:
        module = importlib.import_module(f"benchmarks.{name}")
        if quick:
            shrink(name, module)
        return list(module.rows())
    except Exception as error:  # noqa: BLE001 - one that fails must not cost what the others found
        traceback.print_exc()
        return [Row(name="NOT MEASURED", measured=1, unit="failure", aim=0, note=f"{type(error).__name__}: {error}"[:200])]


if __name__ == "__main__":
    sys.exit(main())
