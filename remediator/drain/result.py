"""What became of each pod of a drain, and the words for it. In: states. Out: records and sentences; nothing is called."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from remediator.drain.classify import label
from remediator.model import Noun
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remediator.drain.classify import Sorted
    from remediator.kube.records import Pod

__all__ = ["Moving", "Outcome", "PodResult", "reason_of", "summary"]


class Outcome(StrEnum):
    """How one pod ended, or how it stands while the drain goes on."""

    LEFT = "left"
    """Not tried, or tried and to be tried again."""
    LEAVING = "leaving"
    """Its eviction was accepted, and it is not gone yet."""
    EVICTED = "evicted"
    GONE = "gone"
    """It went without our doing."""
    BLOCKED_BY_PDB = "blocked_by_pdb"
    MULTI_PDB = "multi_pdb"
    STUCK_TERMINATING = "stuck_terminating"
    FORBIDDEN = "forbidden"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def over(self) -> bool:
        """Nothing more is done for the pod."""
        return self in (Outcome.EVICTED, Outcome.GONE, Outcome.SKIPPED)

    @property
    def lost(self) -> bool:
        """The drain cannot succeed any more."""
        return self in (Outcome.MULTI_PDB, Outcome.STUCK_TERMINATING, Outcome.FORBIDDEN, Outcome.FAILED)


class PodResult(Noun, frozen=True, kw_only=True):
    """One line of the result."""

    pod: str
    outcome: Outcome
    detail: str = ""


@dataclass(eq=False)
class Moving:
    """One pod on its way off the node."""

    sorted: Sorted
    outcome: Outcome = Outcome.LEFT
    words: str = ""
    ours: bool = False
    """Whether we evicted it."""
    tries: int = 0
    busy: int = 0
    """How often the server failed when it was asked."""
    not_before: datetime | None = None
    """It is not tried again before this."""
    leaving_since: datetime | None = None
    in_flight: bool = False
    asked: dict[str, str] = field(default_factory=dict)
    """Budget -> its resourceVersion when the eviction that uses it up was sent."""

    @property
    def pod(self) -> Pod:
        """As it was last seen."""
        return self.sorted.pod

    @property
    def label(self) -> str:
        """``namespace/name``"""
        return label(self.sorted.pod)

    def result(self) -> PodResult:
        """For the record."""
        return PodResult(pod=self.label, outcome=self.outcome, detail=self.words)


def reason_of(moving: Iterable[Moving]) -> Reason | None:
    """The closest reason code for a drain that did not get through."""
    outcomes = {one.outcome for one in moving}
    if outcomes & {Outcome.MULTI_PDB, Outcome.BLOCKED_BY_PDB}:
        return Reason.PDB
    if outcomes & {Outcome.FORBIDDEN, Outcome.FAILED}:
        return None
    return Reason.DEADLINE


def summary(moving: Iterable[Moving]) -> str:
    """``12 of 20 pods left: 3 leaving, 2 blocked_by_pdb``."""
    every = list(moving)
    open_ones = Counter(one.outcome for one in every if not one.outcome.over)
    parts = [f"{count} {outcome}" for outcome, count in sorted(open_ones.items()) if outcome is not Outcome.LEFT]
    head = f"{open_ones.total()} of {len(every)} pods left"
    return f"{head}: {', '.join(parts)}" if parts else head
