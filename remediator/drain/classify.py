"""Sorts the pods of a node: which are evicted, which are only waited for, which stay, and which forbid the drain.

In: the pods of the node, the rules that the playbook gives, what is known of DaemonSets. Out: one ``Sorted`` a pod, in a fixed order.
The filters are those of kubectl (pkg/drain/filters.go): too long terminating, mirror, DaemonSet, local storage, no controller.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from remediator.kube.records import Pod
from remediator.model import Noun
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = ["CRITICAL", "Fate", "Rules", "Sorted", "classify", "daemonset_of", "label", "returns"]

CRITICAL = 2_000_000_000
"""Priority of ``system-cluster-critical``; ``system-node-critical`` lies above it (pkg/apis/scheduling/types.go)."""
CORDON = "node.kubernetes.io/unschedulable"
"""The taint that the node lifecycle controller adds to a cordoned node, with effect NoSchedule."""


class Fate(StrEnum):
    """What becomes of one pod."""

    EVICT = "evict"
    WAIT = "wait"
    """It is on its way out already: it is waited for, and not evicted once more."""
    SKIP = "skip"
    REFUSE = "refuse"


class Rules(Noun, frozen=True, kw_only=True):
    """What the playbook allows."""

    delete_emptydir_data: bool = False
    force: bool = False
    skip_wait: timedelta | None = None
    """Pods whose deletion is longer overdue than this are not waited for; None waits for all."""


class Sorted(Noun, frozen=True, kw_only=True):
    """One pod and what becomes of it. ``reason`` is set if and only if it forbids the drain."""

    pod: Pod
    fate: Fate
    why: str = ""
    reason: Reason | None = None

    @property
    def critical(self) -> bool:
        """Whether others may need it until they are gone."""
        return self.pod.spec.priority >= CRITICAL


def classify(
    pods: Iterable[Pod],
    rules: Rules,
    *,
    daemonsets: frozenset[tuple[str, str]],
    now: datetime,
    evicted: frozenset[str] = frozenset(),
) -> tuple[Sorted, ...]:
    """Every pod's fate. ``daemonsets``: (namespace, name) of those that exist. ``evicted``: uids of controllers that lost a pod to us."""
    ordered = sorted(pods, key=lambda pod: (pod.spec.priority >= CRITICAL, pod.spec.priority, pod.namespace, pod.name))
    return tuple(_sort(pod, rules, daemonsets, now, evicted) for pod in ordered)


def daemonset_of(pod: Pod) -> tuple[str, str] | None:
    """(namespace, name) of the DaemonSet that looks after the pod. Only Kubernetes' own kind counts, as for kubectl."""
    owner = pod.controller
    if owner is None or owner.api_version != "apps/v1" or owner.kind != "DaemonSet":
        return None
    return pod.namespace, owner.name


def returns(pod: Pod) -> bool:
    """Whether the scheduler would put the pod's successor onto the cordoned node again."""
    return any(t.key in ("", CORDON) and t.effect in ("", "NoSchedule") for t in pod.spec.tolerations)


def label(pod: Pod) -> str:
    """``namespace/name``, as people write it."""
    return f"{pod.namespace}/{pod.name}"


def _sort(pod: Pod, rules: Rules, daemonsets: frozenset[tuple[str, str]], now: datetime, evicted: frozenset[str]) -> Sorted:
    if why := _stays(pod, rules, daemonsets, now):
        return Sorted(pod=pod, fate=Fate.SKIP, why=why)
    if against := _against(pod, rules):
        return Sorted(pod=pod, fate=Fate.REFUSE, reason=against[0], why=against[1])
    if pod.terminating:
        return Sorted(pod=pod, fate=Fate.WAIT, why="is terminating already")
    if pod.controller is not None and pod.controller.uid in evicted and returns(pod):
        return Sorted(pod=pod, fate=Fate.SKIP, why="came back, since it tolerates the cordon")
    return Sorted(pod=pod, fate=Fate.EVICT)


def _stays(pod: Pod, rules: Rules, daemonsets: frozenset[tuple[str, str]], now: datetime) -> str:
    """Why the pod is none of the drain's business; empty if it is."""
    overdue = _overdue(pod, now)
    if rules.skip_wait is not None and overdue is not None and overdue > rules.skip_wait:
        return "its deletion is long overdue"
    if pod.mirror or any(owner.kind == "Node" for owner in pod.metadata.owner_references):
        return "a static pod; only its kubelet can stop it"
    if daemonset_of(pod) in daemonsets and not pod.finished:
        return "belongs to a DaemonSet"
    return ""


def _against(pod: Pod, rules: Rules) -> tuple[Reason, str] | None:
    """What must not be lost. Finished pods have nothing to lose."""
    if pod.finished:
        return None
    daemonset = daemonset_of(pod)
    if daemonset is not None and not rules.force:
        return Reason.UNMANAGED_PODS, f"its DaemonSet {daemonset[1]} does not exist any more"
    if not rules.delete_emptydir_data and any(volume.local for volume in pod.spec.volumes):
        return Reason.LOCAL_STORAGE, "has an emptyDir"
    if pod.controller is None and not rules.force:
        return Reason.UNMANAGED_PODS, "has no controller"
    return None


def _overdue(pod: Pod, now: datetime) -> timedelta | None:
    """How long after the end of its grace period the pod is still here; a deletion's timestamp lies at that end."""
    stamp = pod.metadata.deletion_timestamp
    return None if stamp is None else now - stamp
