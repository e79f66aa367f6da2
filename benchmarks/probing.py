"""Somebody who looks: asks a daemon for some paths again and again while it is under load, from a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from benchmarks.processes import Daemon

__all__ = ["Onlooker"]

_PAUSE = 0.1
_PATIENCE = 30.0


class Onlooker:
    """As ``with``: from its beginning to its end, each path in turn. ``slowest`` and ``part`` are milliseconds."""

    def __init__(self, daemon: Daemon, *paths: str) -> None:
        self.failed: dict[str, int] = dict.fromkeys(paths, 0)
        """How often there was no answer, or one that says that something is wrong."""
        self.oldest = 0.0
        """Seconds: the greatest age of the oldest undecided delivery that was seen."""
        self._daemon = daemon
        self._took: dict[str, list[float]] = {path: [] for path in paths}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="onlooker")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def slowest(self, path: str) -> float:
        return max(self._took[path], default=0.0)

    def part(self, path: str, part: float) -> float:
        """What this part of the answers did not exceed."""
        took = sorted(self._took[path])
        return took[min(len(took) - 1, int(len(took) * part))] if took else 0.0

    def count(self, path: str) -> int:
        return len(self._took[path])

    def _look(self) -> None:
        while not self._ended.wait(_PAUSE):
            for path, took in self._took.items():
                began = time.perf_counter()
                try:
                    self._daemon.call("GET", path, seconds=_PATIENCE)
                except OSError:
                    self.failed[path] += 1
                took.append((time.perf_counter() - began) * 1000)
