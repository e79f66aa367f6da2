"""The plan of a drain: what is evicted in which wave, what stays, and what forbids it. Made before anything is changed.

In: sorted pods and the budgets of the cluster. Out: a ``Plan``; its ``refusals`` say everything that stands against it, by reason, and
its ``lines`` say it to people. Structural blocks refuse here, since waiting would not help: two budgets on one pod (the API server answers
500 for ever), or a budget that cannot yield however healthy its pods are; unless the playbook names it, because an operator clears it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from remediator.drain.budgets import budgets_of, by_namespace, free, key_of, numbers, structural
from remediator.drain.classify import Fate, Sorted, label
from remediator.model import Noun
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from remediator.kube.records import Pod
    from remediator.kube.workloads import PodDisruptionBudget

_Held: TypeAlias = "tuple[Pod, tuple[PodDisruptionBudget, ...]]"

__all__ = ["Guard", "Plan", "Refusal", "make_plan", "rounds"]

_SHOWN = 8
"""Names in one sentence; the rest is counted."""


class Refusal(Noun, frozen=True, kw_only=True):
    """One reason against the drain, and every pod that gives it."""

    reason: Reason
    detail: str


class Guard(Noun, frozen=True, kw_only=True):
    """One budget that covers pods of the node."""

    budget: str
    pods: tuple[str, ...]
    """Of those to be evicted, the ones that use it up."""
    allowed: int
    words: str


class Plan(Noun, frozen=True, kw_only=True):
    """What a drain will do."""

    waves: tuple[tuple[Sorted, ...], ...]
    waiting: tuple[Sorted, ...]
    skipped: tuple[Sorted, ...]
    guards: tuple[Guard, ...]
    refusals: tuple[Refusal, ...]

    @property
    def evictions(self) -> int:
        """How many pods are to be evicted."""
        return sum(map(len, self.waves))

    def lines(self) -> list[str]:
        """The plan for people, a line a thought."""
        said = [f"evict {len(wave)} {_kind(wave)} pods: {names(one.pod for one in wave)}" for wave in self.waves]
        said += [f"{guard.budget} ({guard.words}) holds {len(guard.pods)} of them: {rounds(guard)}" for guard in self.guards]
        if self.waiting:
            said.append(f"wait for {len(self.waiting)} that are terminating already: {names(one.pod for one in self.waiting)}")
        for why in sorted({one.why for one in self.skipped}):
            said.append(f"leave: {names(one.pod for one in self.skipped if one.why == why)} ({why})")
        return said


def make_plan(sorted_pods: Sequence[Sorted], budgets: Iterable[PodDisruptionBudget], *, allow_zero: frozenset[str] = frozenset()) -> Plan:
    """``allow_zero``: names of budgets, with or without their namespace, that an operator clears once the node is cordoned."""
    known = list(budgets)
    evict = [one for one in sorted_pods if one.fate is Fate.EVICT]
    waves = (tuple(one for one in evict if not one.critical), tuple(one for one in evict if one.critical))
    held = _held(evict, known)
    return Plan(
        waves=tuple(wave for wave in waves if wave),
        waiting=tuple(one for one in sorted_pods if one.fate is Fate.WAIT),
        skipped=tuple(one for one in sorted_pods if one.fate is Fate.SKIP),
        guards=_guards(held, known),
        refusals=(*_unfit(sorted_pods), *_blocked(held, known, allow_zero)),
    )


def rounds(guard: Guard) -> str:
    """How the guarded pods will go, counted against what the budget allows now: a dry run at the API does not count down."""
    if guard.allowed >= len(guard.pods):
        return "all at once"
    if guard.allowed > 0:
        return f"at most {guard.allowed} at a time"
    return "none until it allows one"


def names(pods: Iterable[Pod]) -> str:
    """A few names and how many more there are."""
    every = [label(pod) for pod in pods]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def _kind(wave: Sequence[Sorted]) -> str:
    return "critical" if wave[0].critical else "ordinary"


def _held(evict: Sequence[Sorted], budgets: Sequence[PodDisruptionBudget]) -> list[_Held]:
    """Each pod with its budgets, found once: hundreds of pods and dozens of budgets hold the event loop up otherwise."""
    near = by_namespace(budgets)
    return [(one.pod, budgets_of(one.pod, near.get(one.pod.namespace, ()))) for one in evict]


def _guards(pods_and_budgets: Sequence[_Held], budgets: Sequence[PodDisruptionBudget]) -> tuple[Guard, ...]:
    held: dict[str, list[str]] = {}
    for pod, mine in pods_and_budgets:
        for budget in mine:
            if not free(pod, budget):
                held.setdefault(key_of(budget), []).append(label(pod))
    found = {key_of(budget): budget for budget in budgets}
    return tuple(
        Guard(budget=key, pods=tuple(pods), allowed=found[key].status.disruptions_allowed, words=numbers(found[key]))
        for key, pods in sorted(held.items())
    )


def _unfit(sorted_pods: Sequence[Sorted]) -> Iterable[Refusal]:
    """Pods that must not be evicted, gathered by reason (kubectl stops at the first kind; people want to know all)."""
    for reason in (Reason.UNMANAGED_PODS, Reason.LOCAL_STORAGE):
        mine = [one for one in sorted_pods if one.fate is Fate.REFUSE and one.reason is reason]
        if mine:
            told = "; ".join(f"{why}: {names(one.pod for one in mine if one.why == why)}" for why in sorted({one.why for one in mine}))
            yield Refusal(reason=reason, detail=told)


def _blocked(pods_and_budgets: Sequence[_Held], budgets: Sequence[PodDisruptionBudget], allow_zero: frozenset[str]) -> Iterable[Refusal]:
    several: dict[str, list[Pod]] = {}
    alone: dict[str, list[Pod]] = {}
    for pod, mine in pods_and_budgets:
        if len(mine) > 1:
            several.setdefault(" and ".join(map(key_of, mine)), []).append(pod)
        elif mine and not free(pod, mine[0]):
            alone.setdefault(key_of(mine[0]), []).append(pod)
    for which, pods in several.items():
        yield Refusal(reason=Reason.PDB, detail=f"more than one PodDisruptionBudget ({which}), so nothing can evict: {names(pods)}")
    for budget in budgets:
        named = {budget.name, key_of(budget)} & allow_zero
        held = alone.get(key_of(budget), [])
        if held and not named and structural(budget):
            detail = f"PodDisruptionBudget {key_of(budget)} can never yield ({numbers(budget)}); it holds {names(held)}"
            yield Refusal(reason=Reason.PDB, detail=detail)
