"""Partial records of workloads and of the budgets that guard them; as in ``remediator.kube.records``."""

from __future__ import annotations

from typing import Any

from remediator.kube.records import Condition, Object, Record

__all__ = [
    "ControllerRevision",
    "DaemonSet",
    "Deployment",
    "PodDisruptionBudget",
    "ReplicaSet",
    "Selector",
    "StatefulSet",
]


class Selector(Record, frozen=True, kw_only=True):
    """A label selector."""

    match_labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies an empty default
    match_expressions: tuple[dict[str, Any], ...] = ()


class WorkloadSpec(Record, frozen=True, kw_only=True):
    """What is wanted of a Deployment, StatefulSet or ReplicaSet."""

    replicas: int = 1
    paused: bool = False
    selector: Selector = Selector()


class WorkloadStatus(Record, frozen=True, kw_only=True):
    """How far its controller is."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(Object, frozen=True, kw_only=True):
    """apps/v1 Deployment."""

    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    @property
    def rolling_out(self) -> bool:
        """Its controller is not done with the last change (as ``kubectl rollout status`` judges)."""
        done = self.status.updated_replicas == self.spec.replicas == self.status.replicas
        return self.status.observed_generation < self.metadata.generation or not done

    @property
    def available(self) -> bool:
        """At least one replica serves."""
        return self.status.available_replicas > 0


class StatefulSet(Deployment, frozen=True, kw_only=True):
    """apps/v1 StatefulSet."""


class ReplicaSet(Deployment, frozen=True, kw_only=True):
    """apps/v1 ReplicaSet."""


class UpdateStrategy(Record, frozen=True, kw_only=True):
    """RollingUpdate, or OnDelete: then a pod takes the newest template only when somebody deletes it."""

    type: str = ""


class DaemonSetSpec(Record, frozen=True, kw_only=True):
    """What is wanted of a DaemonSet."""

    selector: Selector = Selector()
    update_strategy: UpdateStrategy = UpdateStrategy()


class DaemonSetStatus(Record, frozen=True, kw_only=True):
    """How far its controller is."""

    observed_generation: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    number_misscheduled: int = 0


class DaemonSet(Object, frozen=True, kw_only=True):
    """apps/v1 DaemonSet."""

    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()

    @property
    def rolling_out(self) -> bool:
        """Some of its pods are still of an older revision, or its controller has not seen the last change."""
        behind = self.status.updated_number_scheduled < self.status.desired_number_scheduled
        return self.status.observed_generation < self.metadata.generation or behind


class ControllerRevision(Object, frozen=True, kw_only=True):
    """apps/v1 ControllerRevision: one state of a DaemonSet or StatefulSet."""

    revision: int = 0


class PdbSpec(Record, frozen=True, kw_only=True):
    """What a budget asks for."""

    selector: Selector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    unhealthy_pod_eviction_policy: str = ""
    """``AlwaysAllow``, or ``IfHealthyBudget``, which is meant where nothing is said."""


class PdbStatus(Record, frozen=True, kw_only=True):
    """What a budget allows now."""

    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    observed_generation: int = 0
    disrupted_pods: dict[str, Any] | None = None
    """Pods whose eviction was granted and that the controller has not seen go yet, by name."""
    conditions: tuple[Condition, ...] = ()
    """``DisruptionAllowed``; with reason SyncFailed the numbers are about nothing, and nothing is allowed."""


class PodDisruptionBudget(Object, frozen=True, kw_only=True):
    """policy/v1 PodDisruptionBudget."""

    spec: PdbSpec = PdbSpec()
    status: PdbStatus = PdbStatus()
