"""Memory and CPU at rest, and memory after 10,000 and 20,000 alerts that nobody had seen before."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import load
from benchmarks.processes import Daemon
from benchmarks.table import Row

__all__ = ["rows"]

AIM_MB = 150
ALERTS = 10_000
FLAT = 0.1
"""Growth that still counts as flat: a tenth of what it was at rest."""
REST = 5.0
LONGEST_WAIT = 120.0


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="memory-") as folder, Daemon(Path(folder)) as daemon:
        daemon.wait_until_ready()
        time.sleep(2)
        began, before = time.perf_counter(), daemon.cpu()
        time.sleep(REST)
        cpu = (daemon.cpu() - before) / (time.perf_counter() - began)
        rest = daemon.memory()
        with load.Generator() as generator:
            first, second = _after(daemon, generator, 0), _after(daemon, generator, 1)
        peak = f"peak {daemon.memory('VmHWM'):.0f} MB"
    flat = {"unit": "MB", "aim": 1 + FLAT, "of_ratio": True}
    return [
        Row(name="memory at rest (RSS), new journal", measured=rest, unit="MB", aim=AIM_MB),
        Row(name="CPU at rest", measured=cpu * 100, unit="% of a core"),
        Row(name=f"memory after {ALERTS:,} alerts", measured=first, beside="at rest", compared=rest, **flat),
        Row(name=f"memory after {2 * ALERTS:,} alerts", measured=second, beside=f"after {ALERTS:,}", compared=first, **flat, note=peak),
    ]


def _after(daemon: Daemon, generator: load.Generator, turn: int) -> float:
    """MB once another 10,000 alerts are decided."""
    count = ALERTS // load.ALERTS
    generator.prepare(first=turn * count, bodies=count)
    answered = generator.run(daemon.port, seconds=120, connections=8, requests=count)
    if answered["statuses"] != {"200": count}:
        raise RuntimeError(f"not all were taken: {answered['statuses']}")
    daemon.wait_until_decided(LONGEST_WAIT)
    if daemon.undecided():
        raise RuntimeError(f"{daemon.undecided()} deliveries are not decided after {LONGEST_WAIT:g} s")
    time.sleep(1)
    return daemon.memory()
