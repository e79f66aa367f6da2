"""How time and memory grow with nodes, pods and alerts: each doubled four times while the others stay as they are.

Nodes and pods are those of a simulated cluster without Cilium in a process of its own; what grows with them is the reading of a drain's
gates (a dry run by hand), and the daemon's peak of memory. Alerts are decided by a daemon without a cluster to ask, each once. The slope is
how much twice as many cost: 2.0 is in proportion, 1.0 is nothing.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import load
from benchmarks.cluster import gates
from benchmarks.processes import Daemon, SimulatedCluster
from benchmarks.table import Row

__all__ = ["rows"]

NODES = (125, 250, 500, 1_000, 2_000)
PODS = (3_125, 6_250, 12_500, 25_000, 50_000)
ALERTS = (1_250, 2_500, 5_000, 10_000, 20_000)
BASE_NODES, BASE_PODS = 250, 3_125
STEEPEST = 2.2
"""More than in proportion, with room for a machine that does other things too."""
_PATIENCE = 600.0


def rows() -> list[Row]:
    found = []
    for what, sizes, measured in (
        ("nodes", NODES, [_cluster(nodes, BASE_PODS) for nodes in NODES]),
        ("pods", PODS, [_cluster(BASE_NODES, pods) for pods in PODS]),
        ("alerts", ALERTS, _alerts()),
    ):
        for name, unit in (("seconds", "s"), ("memory", "MB")):
            values = [one[name] for one in measured]
            found += _rows(what, sizes, name, unit, values)
    return found


def _rows(what: str, sizes: tuple[int, ...], name: str, unit: str, values: list[float]) -> list[Row]:
    """One a size; the last has the slope over all four doublings."""
    told = {"seconds": {"alerts": "decided after"}.get(what, "gates of a drain"), "memory": "memory at its peak"}[name]
    rows = [Row(name=f"{size:,} {what}: {told}", measured=value, unit=unit) for size, value in zip(sizes[:-1], values[:-1], strict=True)]
    slope = (values[-1] / values[0]) ** (1 / (len(sizes) - 1))
    last = Row(
        name=f"{sizes[-1]:,} {what}: {told}",
        measured=values[-1],
        unit=unit,
        beside=f"{sizes[0]:,}",
        compared=values[0],
        aim=STEEPEST ** (len(sizes) - 1),
        of_ratio=True,
        note=f"twice as many cost {slope:.2f} times as much",
    )
    return [*rows, last]


def _cluster(nodes: int, pods: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        folder = Path(name)
        with SimulatedCluster(folder, nodes=nodes, pods=pods, bare=True) as cluster:
            cluster.wait_until_open(_PATIENCE)
            with Daemon(folder, kubernetes=cluster.url) as daemon:
                daemon.wait_until_ready()
                took = min(gates(daemon, f"node-{number}")["gates"] for number in (2, 3, 4))
                return {"seconds": took, "memory": daemon.memory("VmHWM")}


def _alerts() -> list[dict[str, float]]:
    found = []
    for alerts in ALERTS:
        with tempfile.TemporaryDirectory(prefix="growth-") as folder, Daemon(Path(folder)) as daemon, load.Generator() as generator:
            daemon.wait_until_ready()
            bodies = alerts // load.ALERTS
            generator.prepare(bodies=bodies)
            began = time.perf_counter()
            generator.run(daemon.port, seconds=_PATIENCE, connections=8, requests=bodies)
            daemon.wait_until_decided(_PATIENCE)
            found.append({"seconds": time.perf_counter() - began, "memory": daemon.memory("VmHWM")})
    return found
