"""Runs the benchmarks: ``python -m benchmarks [NAME ...]``, or ``make bench ARGS='NAME ...'``. Exit status 1 if an aim is missed.

Each prints its table when it is done; raw data and plots are kept in ``benchmarks/results``. ``--compare OLD NEW`` shows two such files
beside one another: those of two commits. All traffic stays on 127.0.0.1; files are temporary.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import compare, keep, read
from benchmarks.table import machine, show

if TYPE_CHECKING:
    from benchmarks.table import Row

NAMES = {
    "startup": "the command line and the daemon, from start to the first answer",
    "reaction": "from the webhook's answer to the first call of the Kubernetes API",
    "memory": "at rest, and after 10,000 and 20,000 alerts",
    "flood": "10,000 alerts in 10 s on 1,000 nodes that a playbook takes: taken, decided, memory",
    "pages": "10,000 alerts within 10 s while a browser watches: event to screen, stalls of the daemon's event loop",
    "cluster": "1,000 nodes and 100,000 pods: memory, calls and CPU at rest, the largest questions",
    "storm": "10,000 alerts in 10 s from two peers, three times in a row: decided, memory, who waits how long",
    "growth": "nodes, pods and alerts, each doubled four times: time and memory",
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
    return run(options.names or [name for name in NAMES if name not in ON_REQUEST])


def run(names: list[str]) -> int:
    described = machine()
    print(described, flush=True)
    missed: list[Row] = []
    found: dict[str, list[Row]] = {}
    for name in names:
        began = time.perf_counter()
        rows = importlib.import_module(f"benchmarks.{name}").rows()
        print(f"\n{name}: {NAMES[name]} ({time.perf_counter() - began:.0f} s)\n{show(rows)}", flush=True)
        missed += [row for row in rows if row.met is False]
        found[name] = rows
    print(f"\nraw data and plots: {keep(found, described)}")
    print(f"\n{len(missed)} aims missed: {', '.join(row.name for row in missed)}" if missed else "\nevery aim is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
