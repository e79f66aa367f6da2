"""How long people and Kubernetes wait: the command line's first answers, and the daemon from its start until it is ready."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import Daemon, program
from benchmarks.table import Row

__all__ = ["rows"]

TIMES = 10
STARTS = 3
AIM_MS = 150


def rows() -> list[Row]:
    bare, bare_cpu = _times([sys.executable, "-c", "pass"])
    found = []
    for words in ("--help", "version"):
        times, cpu = _times([program("remediator"), words])
        name = f"remediator {words}"
        found += [
            _row(f"{name}, best of {TIMES}", min(times), min(bare), aim=AIM_MS),
            _row(f"{name}, median", statistics.median(times), statistics.median(bare)),
            _row(f"{name}, CPU time", min(cpu), min(bare_cpu)),
        ]
    return found + _daemon()


def _row(name: str, measured: float, bare: float, aim: float | None = None) -> Row:
    return Row(name=name, measured=measured, unit="ms", beside="python -c pass", compared=bare, aim=aim)


def _daemon() -> list[Row]:
    imports = min(_times([sys.executable, "-c", "import remediator.daemon, remediator.kube.connection"], times=STARTS)[0])
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        first, *again = [_start(Path(folder)) for _ in range(1 + STARTS)]
    stop = statistics.median(stopped for _, stopped in (first, *again))
    beside = {"unit": "ms", "beside": "its imports alone", "compared": imports}
    return [
        Row(name="serve to ready, new journal", measured=first[0], **beside),
        Row(name=f"serve to ready again, best of {STARTS}", measured=min(ready for ready, _ in again), **beside),
        Row(name="SIGTERM to the end, median", measured=stop, unit="ms"),
    ]


def _start(folder: Path) -> tuple[float, float]:
    """Milliseconds from the process's start until it is ready, and from SIGTERM to its end."""
    with Daemon(folder) as daemon:
        ready = daemon.wait_until_ready()
        return ready * 1000, daemon.stop() * 1000


def _times(command: list[str], times: int = TIMES) -> tuple[list[float], list[float]]:
    """Milliseconds of each run: from start to end, and of CPU time, which no other process disturbs much."""
    walls, cpus = [], []
    for _ in range(times):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
        walls.append((time.perf_counter() - began) * 1000)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
    return walls, cpus
