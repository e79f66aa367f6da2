"""What a cluster looks like before a drain: workloads with pods on the node, budgets, and how the drain is asked for.

In comes nothing; a ``State`` is data. ``features`` names everything that a state shows, so that a test can ask whether the generated
states show all of it. Nothing here knows of kubectl or of remediator.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["FEATURES", "Budget", "Flags", "Form", "Owner", "Selects", "State", "Workload"]


class Owner(StrEnum):
    """Who answers for a workload's pods."""

    DEPLOYMENT = "deployment"
    STATEFUL_SET = "stateful_set"
    JOB = "job"
    """Its pods are finished."""
    DAEMON_SET = "daemon_set"
    DAEMON_SET_GONE = "daemon_set_gone"
    """The pods name a DaemonSet that does not exist."""
    NOBODY = "nobody"
    CUSTOM = "custom"
    """A custom resource, so that there is a controller which no client knows."""
    MIRROR = "mirror"
    """The kubelet: static pods, seen through their mirrors."""


class Selects(StrEnum):
    """What a budget's selector fits."""

    LISTED = "listed"
    EVERYTHING = "everything"
    """``{}``: every pod of the namespace."""
    NOTHING = "nothing"


class Form(StrEnum):
    """Which of its two numbers a budget gives."""

    MIN = "minAvailable"
    MAX = "maxUnavailable"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Pods of one owner. ``here`` of them are on the node that is drained, ``there`` on the one beside it."""

    name: str
    owner: Owner
    here: int = 1
    there: int = 0
    emptydir: bool = False
    finished: bool = False
    unready: bool = False
    """One of its pods here is not ready."""
    unready_there: bool = False
    """One of its pods beside is not ready."""
    pending: bool = False
    """Its pods never start."""
    stop_after: int = 0
    """Seconds that a pod takes to stop."""
    terminating: bool = False
    """Its pods were deleted just before the drain."""
    finalizer: bool = False
    """They have a finalizer that nobody takes off."""
    ending_namespace: bool = False
    """They are in a namespace that was deleted just before the drain."""
    tolerates_cordon: bool = False
    """They tolerate the cordon and belong on this node, so they come back to it."""
    critical: bool = False
    late: bool = False
    """It shows up on the node when the first pod is on its way out."""

    @property
    def replaced(self) -> bool:
        """Whether a controller makes a new pod for each that goes."""
        return self.owner in (Owner.DEPLOYMENT, Owner.STATEFUL_SET)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget."""

    name: str
    form: Form
    amount: int | str
    selects: Selects = Selects.LISTED
    workloads: tuple[str, ...] = ()
    always_allow: bool = False

    def fits(self, workload: Workload) -> bool:
        """Whether its selector fits the workload's pods."""
        if workload.ending_namespace:
            return False
        return self.selects is Selects.EVERYTHING or (self.selects is Selects.LISTED and workload.name in self.workloads)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """How the drain is asked for; daemon pods are always left alone."""

    force: bool = False
    delete_emptydir_data: bool = False
    grace_period: int | None = None
    timeout: int = 120


@dataclass(frozen=True, kw_only=True)
class State:
    """One cluster before one drain."""

    seed: int
    workloads: tuple[Workload, ...]
    budgets: tuple[Budget, ...] = ()
    flags: Flags = Flags()

    def workload(self, name: str) -> Workload:
        """The workload of that name."""
        return next(w for w in self.workloads if w.name == name)

    def budgets_of(self, workload: Workload) -> tuple[Budget, ...]:
        """Every budget whose selector fits it."""
        return tuple(b for b in self.budgets if b.fits(workload))

    def features(self) -> frozenset[str]:
        """Names of everything that this state shows."""
        found = {f"owner {w.owner}" for w in self.workloads}
        for workload in self.workloads:
            found |= {_MARKS[mark] for mark in _MARKS if getattr(workload, mark)}
            if len(self.budgets_of(workload)) > 1:
                found.add("two budgets for one pod")
        for budget in self.budgets:
            found.add(f"budget {budget.form} {'share' if isinstance(budget.amount, str) else 'count'}")
            found.add(f"budget selects {budget.selects}")
            if budget.always_allow:
                found.add("budget AlwaysAllow")
            if _is_exhausted(budget):
                found.add("budget exhausted")
        if not self.budgets:
            found.add("no budget")
        return frozenset(found | self._asked())

    def _asked(self) -> set[str]:
        given = {"force": self.flags.force, "delete_emptydir_data": self.flags.delete_emptydir_data}
        found = {f"flag {name}" for name, value in given.items() if value}
        if self.flags.grace_period is not None:
            found.add("flag grace_period 0" if self.flags.grace_period == 0 else "flag grace_period")
        return found | ({"flag timeout too short"} if self.flags.timeout < 100 else set())

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.flags}", *map(str, self.workloads), *map(str, self.budgets)]
        return "\n  ".join(lines)


_MARKS = {
    "emptydir": "emptyDir",
    "finished": "finished pods",
    "unready": "a pod that is not ready",
    "unready_there": "a pod elsewhere that is not ready",
    "pending": "pending pods",
    "stop_after": "slow stop",
    "terminating": "terminating pods",
    "finalizer": "finalizer",
    "ending_namespace": "ending namespace",
    "tolerates_cordon": "static toleration",
    "critical": "critical pods",
    "late": "late pods",
}


def _is_exhausted(budget: Budget) -> bool:
    return (budget.form is Form.MAX and budget.amount in (0, "0%")) or (budget.form is Form.MIN and budget.amount in (99, "100%"))


FEATURES = frozenset(
    {
        *(f"owner {owner}" for owner in Owner),
        *_MARKS.values(),
        *(f"budget {form} {kind}" for form in Form for kind in ("share", "count")),
        *(f"budget selects {selects}" for selects in Selects),
        "budget AlwaysAllow",
        "budget exhausted",
        "two budgets for one pod",
        "no budget",
        "flag force",
        "flag delete_emptydir_data",
        "flag grace_period",
        "flag grace_period 0",
        "flag timeout too short",
    }
)
