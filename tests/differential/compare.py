"""Two outcomes beside one another: what is not the same, and whether that was to be expected.

In come a state and what kubectl and remediator made of it; out comes every ``Finding``, with the listed difference
that explains it, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from differential.outcome import Outcome
    from differential.states import State

__all__ = ["Case", "Difference", "Finding", "compare", "explain"]


@dataclass(frozen=True)
class Case:
    """One state, drained by both."""

    state: State
    kubectl: Outcome
    ours: Outcome

    def __str__(self) -> str:
        return f"{self.state}\n  kubectl: {self.kubectl}\n  ours:    {self.ours}"


@dataclass(frozen=True)
class Finding:
    """One thing that is not the same. ``about`` is ``drained``, ``in_time``, ``cordoned``, ``fate`` or ``refusals``."""

    about: str
    workload: str
    kubectl: str
    ours: str

    def __str__(self) -> str:
        where = f" of {self.workload}" if self.workload else ""
        return f"{self.about}{where}: kubectl {self.kubectl}, ours {self.ours}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference that is wanted. ``explains`` must not fit more than it says."""

    name: str
    kubectl: str
    """What kubectl does."""
    ours: str
    """What ours does instead."""
    why: str
    """Why that is the careful one."""
    explains: Callable[[Case, Finding], bool]


def compare(case: Case) -> list[Finding]:
    """Everything that is not the same."""
    kubectl, ours = case.kubectl, case.ours
    found = []
    for about in ("drained", "in_time", "cordoned"):
        theirs, mine = getattr(kubectl, about), getattr(ours, about)
        if theirs != mine:
            found.append(Finding(about, "", str(theirs), str(mine)))
    for workload in sorted({*kubectl.fates, *ours.fates}):
        theirs, mine = kubectl.fates.get(workload, {}), ours.fates.get(workload, {})
        if theirs != mine:
            found.append(Finding("fate", workload, _counts(theirs), _counts(mine)))
    if kubectl.reasons != ours.reasons:
        found.append(Finding("refusals", "", _list(kubectl.reasons), _list(ours.reasons)))
    return [*found, *_whose(case)]


def _whose(case: Case) -> Iterable[Finding]:
    """Refusals for the same reasons, but of other workloads."""
    if case.kubectl.reasons != case.ours.reasons or case.kubectl.refusals == case.ours.refusals:
        return
    both = {*case.kubectl.refusals, *case.ours.refusals}
    for workload in sorted({name for _, name in both}):
        theirs, mine = ({code for code, name in o.refusals if name == workload} for o in (case.kubectl, case.ours))
        if theirs != mine:
            yield Finding("refusals", workload, _list(theirs), _list(mine))


def explain(case: Case, listed: Sequence[Difference]) -> list[tuple[Finding, Difference | None]]:
    """Each finding with the first listed difference that explains it."""
    return [(finding, next((d for d in listed if d.explains(case, finding)), None)) for finding in compare(case)]


def _counts(fates: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {fate}" for fate, n in fates.items()) or "none"


def _list(reasons: Iterable[str]) -> str:
    return ", ".join(sorted(reasons)) or "nothing"
