"""Sizes with which the whole of the benchmarks takes about ten minutes: ``python -m benchmarks --quick``.

In: the module of a benchmark. Out: the same with smaller numbers in its constants. What is measured, and beside what, stays the same; aims
are those of the full size and easier to meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["QUICK", "shrink"]

QUICK: dict[str, dict[str, Any]] = {
    "startup": {"TIMES": 5, "STARTS": 1},
    "reaction": {"LOOKS": 60, "CHANGES": 10},
    "memory": {"ALERTS": 2_000},
    "flood": {"NODES": 200, "ALERTS": 2_000},
    "pages": {"NODES": 200, "ALERTS": 2_000},
    "cluster": {"SIZE": "200:10000", "REST": 20.0, "SETTLE": 5.0},
    "storm": {"NODES": 200, "ALERTS": 1_000, "STORMS": 2},
    "growth": {
        "NODES": (125, 250),
        "PODS": (3_125, 6_250),
        "ALERTS": (1_250, 2_500),
        "OPEN": (25, 50),
        "PAST": (12_500, 25_000),
        "JUDGEMENTS": 20,
    },
    "history": {"RUNS": 100_000},
    "verify": {"DELIVERIES": 2_500},
    "backtest": {"ALERTS": 10_000},
    "listing": {"REPEAT": 2},
    "attribution": {"CASES": 1_000},
    "scenarios": {"EVERY": 6},
    "intake": {"ROUNDS": 2, "SECONDS": 1.0},
}
"""Benchmark -> constant -> its smaller value. Not named here: ``drain``, which is as long as the pods need to stop, and ``soak``."""


def shrink(name: str, module: ModuleType) -> None:
    """Set the smaller values. Raises AttributeError for a constant that the module has not."""
    for constant, value in QUICK.get(name, {}).items():
        getattr(module, constant)
        setattr(module, constant, value)
