"""PodDisruptionBudgets: their status, and the eviction subresource that keeps to it.

In come a budget or an Eviction; out come a status, or a pod on its way out. Refusals are those of the real server (429 with the cause
DisruptionBudget, 500 for two budgets, 400, 404, 409); a dry run checks the budget and does not count it down.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.sim import status
from remediator.sim.deletion import Deletion, check_preconditions, start_deletion
from remediator.sim.kinds import BUILTIN
from remediator.sim.objects import (
    controller_of,
    dig,
    is_ready,
    labels_of,
    matches_selector,
    name_of,
    namespace_of,
    parse_rfc3339,
    rfc3339,
    set_condition,
)
from remediator.sim.status import ApiError

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.sim.objects import Obj
    from remediator.sim.store import Store

__all__ = ["budgets_of", "evict", "refresh", "refresh_all"]

_POD = next(r for r in BUILTIN if r.kind == "Pod")
_PDB = next(r for r in BUILTIN if r.kind == "PodDisruptionBudget")
_FORGET = timedelta(minutes=2)
_SCALED = {"ReplicaSet": ("apps", "replicasets"), "StatefulSet": ("apps", "statefulsets"), "Deployment": ("apps", "deployments")}


def budgets_of(store: Store, pod: Obj) -> list[Obj]:
    """Every budget whose selector fits the pod."""
    return [b for b in store.list(_PDB, namespace_of(pod)) if matches_selector(dig(b, "spec.selector"), labels_of(pod))]


def refresh_all(store: Store) -> None:
    """Bring every budget's status up to date."""
    for budget in store.list(_PDB):
        refresh(store, budget)


def refresh(store: Store, budget: Obj) -> Obj:
    """Bring one budget's status up to date."""
    copy = store.edit(_PDB, budget)
    now = store.clock.now()
    pods = [p for p in store.list(_POD, namespace_of(copy)) if matches_selector(dig(copy, "spec.selector"), labels_of(p))]
    disrupted = _still_disrupted(copy, pods, now)
    healthy = sum(is_ready(p) and "deletionTimestamp" not in p["metadata"] and name_of(p) not in disrupted for p in pods)
    try:
        expected, desired = _wanted(store, copy["spec"], pods)
    except _UnscalableError as error:
        return _sync_failed(store, copy, str(error))
    allowed = max(0, healthy - desired) if expected > 0 else 0
    state = copy["status"]
    state.update(
        observedGeneration=copy["metadata"].get("generation", 1),
        disruptionsAllowed=allowed,
        currentHealthy=healthy,
        desiredHealthy=desired,
        expectedPods=expected,
    )
    state.pop("disruptedPods", None)
    if disrupted:
        state["disruptedPods"] = disrupted
    reason = "SufficientPods" if allowed else "InsufficientPods"
    set_condition(copy, "DisruptionAllowed", str(bool(allowed)), now, reason=reason, message="")
    state["conditions"][-1]["observedGeneration"] = state["observedGeneration"]
    return store.replace(_PDB, copy)


class _UnscalableError(Exception):
    """How many pods an owner wants cannot be found out; ``str()`` is what the controller writes down."""


def _sync_failed(store: Store, copy: Obj, why: str) -> Obj:
    """Nothing may be disrupted; the other numbers stay as they were, and so does the generation that they are about."""
    copy["status"]["disruptionsAllowed"] = 0
    set_condition(copy, "DisruptionAllowed", "False", store.clock.now(), reason="SyncFailed", message=why)
    return store.replace(_PDB, copy)


def _still_disrupted(budget: Obj, pods: list[Obj], now: datetime) -> dict[str, str]:
    present = {name_of(p) for p in pods if "deletionTimestamp" not in p["metadata"]}
    kept: dict[str, str] = dig(budget, "status.disruptedPods") or {}
    return {name: at for name, at in kept.items() if name in present and now - parse_rfc3339(at) < _FORGET}


def _wanted(store: Store, spec: Obj, pods: list[Obj]) -> tuple[int, int]:
    """Expected pods and how many of them must be healthy."""
    unavailable, available = spec.get("maxUnavailable"), spec.get("minAvailable")
    if unavailable is not None:
        expected = _scale(store, pods)
        return expected, max(0, expected - _share(unavailable, expected))
    if isinstance(available, str):
        expected = _scale(store, pods)
        return expected, _share(available, expected)
    return len(pods), int(available or 0)


def _share(amount: Any, of: int) -> int:
    if isinstance(amount, str) and amount.endswith("%"):
        return math.ceil(of * int(amount[:-1]) / 100)
    return int(amount)


def _scale(store: Store, pods: list[Obj]) -> int:
    owners = {(o["apiVersion"], o["kind"], namespace_of(p), o["name"]) for p in pods if (o := controller_of(p))}
    for version, kind, _, _ in sorted(owners):
        if kind not in _SCALED:
            group = f".{version.partition('/')[0]}" if "/" in version else ""
            raise _UnscalableError(f"{kind.lower()}s{group} does not implement the scale subresource")
    return sum(_replicas(store, kind, namespace, name) for _, kind, namespace, name in owners)


def _replicas(store: Store, kind: str, namespace: str, name: str) -> int:
    owner = store.get(_SCALED[kind], name, namespace)
    return int(dig(owner, "spec.replicas", 0)) if owner else 0


def evict(store: Store, namespace: str, name: str, eviction: Obj, *, dry_run: bool, stuck: frozenset[tuple[str, str]] = frozenset()) -> Obj:
    """POST of an Eviction. ``stuck`` names budgets that a fault lets never yield. Raises ApiError."""
    named = dig(eviction, "metadata.name")
    if named not in (None, "", name):
        raise status.bad_request("name in URL does not match name in Eviction object")
    pod = store.get(_POD, name, namespace)
    if pod is None:
        raise status.not_found(_POD, name)
    deletion = Deletion.of(eviction.get("deleteOptions") or {})
    if not _ignores_budgets(pod):
        _ask_budget(store, pod, dry_run=dry_run, stuck=stuck)
    pod = store.get(_POD, name, namespace) or pod
    check_preconditions(_POD, pod, deletion)
    start_deletion(store, _POD, pod if dry_run else _target(store, pod), replace(deletion, version=""), dry_run=dry_run)
    return {**status.success(), "code": 201}


def _target(store: Store, pod: Obj) -> Obj:
    """The pod says why it goes."""
    copy = store.edit(_POD, pod)
    reason = {"reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}
    set_condition(copy, "DisruptionTarget", "True", store.clock.now(), lastProbeTime=None, **reason)
    return store.replace(_POD, copy)


def _ignores_budgets(pod: Obj) -> bool:
    return dig(pod, "status.phase") in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _ask_budget(store: Store, pod: Obj, *, dry_run: bool, stuck: frozenset[tuple[str, str]]) -> None:
    budgets = budgets_of(store, pod)
    if not budgets:
        return
    if len(budgets) > 1:
        raise ApiError(500, "", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
    budget = refresh(store, budgets[0])
    name, state = name_of(budget), budget["status"]
    held = (namespace_of(budget), name) in stuck
    if not held and not is_ready(pod) and _may_go_unready(budget):
        return
    if not held and state.get("observedGeneration", 0) < budget["metadata"].get("generation", 1):
        raise _too_many(f"The disruption budget {name} is still being processed by the server.", retry_after=10)
    if held or state["disruptionsAllowed"] <= 0:
        needs, has = (state["currentHealthy"] if held else state["desiredHealthy"]), state["currentHealthy"]
        failed = next((c["message"] for c in state["conditions"] if c["reason"] == "SyncFailed"), "")
        if failed:
            raise _too_many(f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {failed}")
        if has > needs:
            raise _too_many(f"The disruption budget {name} does not allow evicting pods currently")
        raise _too_many(f"The disruption budget {name} needs {needs} healthy pods and has {has} currently")
    if not dry_run:
        _count_down(store, budget, name_of(pod))


def _too_many(message: str, retry_after: int | None = None) -> ApiError:
    details: Obj = {"causes": [{"reason": "DisruptionBudget", "message": message}]}
    if retry_after is not None:
        details["retryAfterSeconds"] = retry_after
    words = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", words, details, retry_after=retry_after)


def _may_go_unready(budget: Obj) -> bool:
    if dig(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    state = budget["status"]
    return bool(state["currentHealthy"] >= state["desiredHealthy"] > 0)


def _count_down(store: Store, budget: Obj, pod: str) -> None:
    copy = store.edit(_PDB, budget)
    copy["status"]["disruptionsAllowed"] -= 1
    copy["status"]["disruptedPods"] = {**(copy["status"].get("disruptedPods") or {}), pod: rfc3339(store.clock.now())}
    store.replace(_PDB, copy)
