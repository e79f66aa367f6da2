"""The differences from ``kubectl drain`` that are wanted, each with the reason why ours is the careful one.

The differential test fails for a difference that is not here, and for one that is here and never occurs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from differential.compare import Difference
from differential.outcome import GOING, GONE

if TYPE_CHECKING:
    from differential.compare import Case, Finding

__all__ = ["DIFFERENCES"]

_FILTERS = frozenset({"unmanaged_pods", "local_storage"})


def _refused_first(case: Case) -> bool:
    """Ours said no before it changed anything; kubectl failed as well."""
    return not (case.kubectl.drained or case.ours.drained or case.ours.cordoned) and bool(case.ours.reasons) and case.ours.untouched()


def _never_cordoned(case: Case, finding: Finding) -> bool:
    return finding.about == "cordoned" and case.kubectl.cordoned and _refused_first(case)


def _neighbours_spared(case: Case, finding: Finding) -> bool:
    both_by_budget = "pdb" in case.kubectl.reasons and "pdb" in case.ours.reasons
    if not both_by_budget or not _refused_first(case):
        return False
    if finding.about == "fate":
        return bool({GONE, GOING} & {*case.kubectl.fates[finding.workload]})
    return finding.about == "refusals" and case.ours.refusals < case.kubectl.refusals  # what only shows once it is tried


def _all_reasons(case: Case, finding: Finding) -> bool:
    more = case.ours.reasons - case.kubectl.reasons
    return finding.about == "refusals" and case.kubectl.reasons <= _FILTERS and bool(case.kubectl.reasons) and more == {"pdb"}


def _no_grace(case: Case, finding: Finding) -> bool:
    del finding
    return case.state.flags.grace_period == 0 and case.ours.reasons == {"parameters"} and case.ours.untouched()


def _keeps_its_time(case: Case, finding: Finding) -> bool:
    return finding.about == "in_time" and case.ours.in_time and "pdb" in case.kubectl.reasons


def _latecomer_goes(case: Case, finding: Finding) -> bool:
    late = finding.about == "fate" and case.state.workload(finding.workload).late
    return late and (finding.kubectl, finding.ours) == ("1 left", "1 gone")


DIFFERENCES = (
    Difference(
        name="a refusal leaves the node schedulable",
        kubectl="cordons first, then finds that it may not drain, and leaves the node cordoned",
        ours="looks first, refuses, and has changed nothing",
        why="a cordon that nobody asked for takes capacity away until somebody notices it (kubernetes/kubernetes#37592, kured#63)",
        explains=_never_cordoned,
    ),
    Difference(
        name="a budget that never yields is told before the first eviction",
        kubectl="evicts every other pod, then waits for the blocked ones until its time is up, or fails at once for two budgets on a pod",
        ours="sees that the drain cannot succeed, and refuses before the first eviction",
        why="half a drain disturbs workloads for nothing: the node is not empty at the end, and whoever asked for it gains nothing",
        explains=_neighbours_spared,
    ),
    Difference(
        name="all reasons at once",
        kubectl="names the pods that its filters refuse; what budgets would refuse shows in the next try",
        ours="names every reason that stands against the drain",
        why="people mend all of it before they try again, instead of one cause a try",
        explains=_all_reasons,
    ),
    Difference(
        name="no grace period of nothing",
        kubectl="takes --grace-period=0: the pod's record goes at once, while its kubelet may still run it",
        ours="refuses a grace period below one second, before anything starts",
        why="a StatefulSet starts a second pod of the same name beside the first: at most one becomes two (kured#236)",
        explains=_no_grace,
    ),
    Difference(
        name="the time-out is kept",
        kubectl="obeys Retry-After up to ten times within one eviction: --timeout=24s ends after 105 s (a budget that is SyncFailed)",
        ours="takes a budget's 429 as one, whatever Retry-After says, and ends when its time is up",
        why="a node that was to be back after a given time is cordoned for longer, and whoever waits for the run waits with it",
        explains=_keeps_its_time,
    ),
    Difference(
        name="pods that come late go too",
        kubectl="lists once; a pod bound after that stays, and the node is called drained",
        ours="watches and lists until it stays quiet, and evicts it as well",
        why="a node is called drained only when it is: a scheduler that has not seen the cordon binds for a moment longer",
        explains=_latecomer_goes,
    ),
)
