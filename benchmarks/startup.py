"""How long people and Kubernetes wait: the command line's first answers, and the daemon from its start until it is ready."""

from __future__ import annotations

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
    bare = _times([sys.executable, "-c", "pass"])
    found = []
    for words in ("--help", "version"):
        times = _times([program("remediator"), words])
        found += [
            _row(f"remediator {words}, best of {TIMES}", min(times), min(bare), aim=AIM_MS),
            _row(f"remediator {words}, median", statistics.median(times), statistics.median(bare)),
        ]
    return found + _daemon()


def _row(name: str, measured: float, bare: float, aim: float | None = None) -> Row:
    return Row(name=name, measured=measured, unit="ms", beside="python -c pass", compared=bare, aim=aim)


def _daemon() -> list[Row]:
    imports = min(_times([sys.executable, "-c", "import remediator.daemon, remediator.kube.connection"], times=STARTS))
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


def _times(command: list[str], times: int = TIMES) -> list[float]:
    """Milliseconds from start to end, of each run."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
        found.append((time.perf_counter() - began) * 1000)
    return found
