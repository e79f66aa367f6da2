"""What a scenario is.

In comes a running simulation; out comes a broken one. The truth is what a perfect operator would know; the product is never shown it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remediator.sim.alerting.rules import Rule
    from remediator.sim.simulation import Simulation

__all__ = ["ANYTHING", "Act", "May", "MustNot", "Scenario", "Truth"]


class Act(StrEnum):
    """What is done to a cluster, as its API server sees it."""

    RESTART_AGENT = "restart agent"
    """A Cilium agent's pod is deleted; the target is its node."""
    CORDON = "cordon"
    UNCORDON = "uncordon"
    EVICT = "evict"
    """A pod leaves its node through the eviction API; the target is the node."""
    DELETE_POD = "delete pod"
    """Any other pod is deleted, past all budgets; the target is its node."""
    WITHDRAW = "withdraw"
    """A node is labelled so that BGP configurations let go of it."""
    ANNOUNCE = "announce"
    """The opposite."""
    TAINT = "taint"
    ROLLOUT = "rollout"
    """A workload's template changes; the target is the workload."""
    OTHER = "other"
    """Whatever else changes an object that is not of the one who changes it."""

    @property
    def disruptive(self) -> bool:
        """Whether it takes something away from somebody."""
        return self not in (Act.UNCORDON, Act.ANNOUNCE)


@dataclass(frozen=True)
class May:
    """Something that is right to do."""

    act: Act
    target: str
    """``Kind/[namespace/]name``, with ``*`` for anything."""
    most: int = 0
    """How often; 0 for any number."""
    after: timedelta = timedelta(0)
    """From then on, counted from the moment in which it breaks."""


@dataclass(frozen=True)
class MustNot:
    """Something that is wrong to do, however harmless it looks. What disturbs and is not allowed is wrong without being named."""

    act: Act | None
    """None for anything."""
    target: str
    because: str


ANYTHING = MustNot(None, "*", "nothing that remediator can do would help")


@dataclass(frozen=True)
class Truth:
    """What is really wrong."""

    target: str
    """The culprit, as ``Kind/[namespace/]name``; empty where no object is to blame, so that none may be touched."""
    cause: str
    """In one sentence."""
    cure: str
    """What is right, in one sentence."""
    alerts: tuple[str, ...]
    """The alerts that it raises; none where a person asks (``Scenario.asks``)."""
    playbook: str = ""
    """The shipped playbook that should take it."""
    may: tuple[May, ...] = ()
    must_not: tuple[MustNot, ...] = ()
    healable: bool = True
    """Whether the shipped playbooks can heal it."""
    says: tuple[str, ...] = ()
    """Reason codes that have to stand in the record: why nothing was done, or not at once."""


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
    demo: bool = True
    """Whether there is something to see for a person, in a cluster of five nodes with the demo's settings."""
    nodes: int = 5
    rules: tuple[Rule, ...] = ()
    """Alerting rules beside the usual ones."""
    breaks: timedelta = timedelta(0)
    """When it breaks, counted from ``play``; what comes before is how things stood."""
    lasts: timedelta = timedelta(minutes=30)
    """How long to look on, at most, counted from ``play``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the daemon's settings file that differ from the usual ones."""
    receiver: Mapping[str, Any] = field(default_factory=dict)
    """What differs in the Alertmanager's receiver (fields of ``alerting.Receiver``)."""
    own_node: str = ""
    """The node that carries the daemon; empty: none of the cluster."""
    clock_is_off: tuple[tuple[timedelta, timedelta], ...] = ()
    """(from when on, by how much) the daemon's own clock is wrong."""
