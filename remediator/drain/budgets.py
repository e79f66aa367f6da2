"""PodDisruptionBudgets: which pods they cover, what they allow now, and which never will.

In: budgets and pods as records. Out: answers; nothing is called. Selectors mean what policy/v1 says: none selects nothing, an empty one
every pod of the namespace. Which budgets count for a pod is the API server's rule (registry/core/pod/storage/eviction.go, canIgnorePDB).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.kube.records import condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.kube.records import Pod
    from remediator.kube.workloads import PodDisruptionBudget, Selector

__all__ = ["Covering", "budgets_of", "by_namespace", "covers", "free", "ignores_budgets", "key_of", "numbers", "structural", "wants"]


def key_of(budget: PodDisruptionBudget) -> str:
    """``namespace/name``."""
    return f"{budget.namespace}/{budget.name}"


def by_namespace(budgets: Iterable[PodDisruptionBudget]) -> dict[str, list[PodDisruptionBudget]]:
    """A pod is covered by budgets of its own namespace only, so that each need not be compared with all."""
    near: dict[str, list[PodDisruptionBudget]] = {}
    for budget in budgets:
        near.setdefault(budget.namespace, []).append(budget)
    return near


def covers(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """Whether a policy/v1 selector fits the labels."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    return all(
        _fits(labels.get(str(e.get("key"))), str(e.get("operator")), tuple(e.get("values") or ())) for e in selector.match_expressions
    )


def _fits(value: str | None, operator: str, values: tuple[str, ...]) -> bool:
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def budgets_of(pod: Pod, budgets: Iterable[PodDisruptionBudget]) -> tuple[PodDisruptionBudget, ...]:
    """The budgets that an eviction of the pod has to ask, by name; none if the API server would not ask any."""
    if ignores_budgets(pod):
        return ()
    found = (b for b in budgets if b.namespace == pod.namespace and covers(b.spec.selector, pod.labels))
    return tuple(sorted(found, key=key_of))


class Covering:
    """As ``budgets_of`` for many pods again and again: found anew only where a pod, or what a budget of its namespace asks, has changed.

    Hundreds of pods behind dozens of budgets would hold the event loop up at every turn of a drain otherwise.
    """

    def __init__(self) -> None:
        self._budgets: dict[str, dict[str, PodDisruptionBudget]] = {}
        self._asks: dict[str, tuple[tuple[str, int], ...]] = {}
        self._known: dict[str, tuple[Pod, tuple[tuple[str, int], ...], tuple[str, ...]]] = {}
        """Pod uid -> the pod, what the budgets asked then, and the names of those that cover it."""

    def look(self, budgets: Iterable[PodDisruptionBudget]) -> None:
        """Take the budgets as they are now."""
        near = by_namespace(budgets)
        self._budgets = {namespace: {one.name: one for one in those} for namespace, those in near.items()}
        self._asks = {namespace: tuple((one.uid, one.metadata.generation) for one in those) for namespace, those in near.items()}

    def of(self, pod: Pod) -> tuple[PodDisruptionBudget, ...]:
        """Those that an eviction of the pod has to ask, by name."""
        here, asks = self._budgets.get(pod.namespace, {}), self._asks.get(pod.namespace, ())
        seen, asked, names = self._known.get(pod.uid, (None, (), ()))
        if seen is not pod or asked != asks:
            names = tuple(one.name for one in budgets_of(pod, here.values()))
            self._known[pod.uid] = pod, asks, names
        return tuple(here[name] for name in names)


def ignores_budgets(pod: Pod) -> bool:
    """Finished, pending and terminating pods are evicted without asking a budget."""
    return pod.finished or pod.phase == "Pending" or pod.terminating


def free(pod: Pod, budget: PodDisruptionBudget) -> bool:
    """Whether the pod may go without using the budget up: it is not ready, and the budget's policy lets such pods go."""
    if pod.ready:
        return False
    status = budget.status
    return budget.spec.unhealthy_pod_eviction_policy == "AlwaysAllow" or status.current_healthy >= status.desired_healthy > 0


def structural(budget: PodDisruptionBudget) -> bool:
    """Whether the budget cannot allow a disruption however healthy its pods are: as many must be healthy as there are."""
    status, spec = budget.status, budget.spec
    if spec.max_unavailable in (0, "0%") or spec.min_available == "100%":
        return True
    known = status.observed_generation >= budget.metadata.generation
    return known and status.disruptions_allowed <= 0 and status.desired_healthy >= status.expected_pods > 0


def wants(budget: PodDisruptionBudget) -> str:
    """What it asks for, as in its spec."""
    if budget.spec.max_unavailable is not None:
        return f"maxUnavailable {budget.spec.max_unavailable}"
    return f"minAvailable {budget.spec.min_available if budget.spec.min_available is not None else 'unset'}"


def numbers(budget: PodDisruptionBudget) -> str:
    """How it stands, in words."""
    status = budget.status
    told = condition(status.conditions, "DisruptionAllowed")
    if told is not None and told.reason == "SyncFailed":
        return f"{wants(budget)}, allows nothing since its pods cannot be counted: {told.message}"
    return (
        f"{wants(budget)}, allows {status.disruptions_allowed} now: "
        f"{status.current_healthy} of {status.expected_pods} healthy, {status.desired_healthy} needed"
    )
