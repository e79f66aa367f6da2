"""What a scenario is.

In comes a running simulation; out comes a broken one. The truth is what a perfect operator would know; the product is never shown it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remediator.sim.simulation import Simulation

__all__ = ["Scenario", "Truth"]


@dataclass(frozen=True)
class Truth:
    """What is really wrong."""

    target: str
    """The culprit, as ``Kind/[namespace/]name``; empty where no object is to blame, so that none may be touched."""
    cause: str
    """In one sentence."""
    cure: str
    """What would heal it, in one sentence."""
    alerts: tuple[str, ...]
    """The alerts that it raises; none where a person asks (``Scenario.asks``)."""
    playbook: str = ""
    """The shipped playbook that should take it."""


@dataclass(frozen=True)
class Scenario:
    """One incident."""

    name: str
    summary: str
    broken: str
    """What is broken, in a sentence for the one who watches."""
    truth: Truth
    play: Callable[[Simulation], Awaitable[None]]
    """Break it."""
    healed: Callable[[Simulation], bool]
    """Whether it is whole again, judged from the cluster's own state."""
    asks: str = ""
    """Why a person runs the truth's playbook on its target, where no alert does; with alerts, they are posted first."""
