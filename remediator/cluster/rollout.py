"""How far a workload's rollout is, as ``kubectl rollout status`` judges it (kubectl, polymorphichelpers/rollout_status.go). Pure.

In: a Deployment, StatefulSet or DaemonSet as the API has it. Out: words about what is not as it should be; empty if nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "RESTARTED_AT", "held_back", "pending", "replicas", "restarted_at", "rolling", "stuck"]

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""kubectl's own annotation, so that ``kubectl rollout history`` shows one kind of restart (kubectl, polymorphichelpers)."""


def restarted_at(thing: Mapping[str, Any]) -> str | None:
    """The value of kubectl's annotation in the pod template."""
    metadata = ((thing.get("spec") or {}).get("template") or {}).get("metadata") or {}
    value: str | None = (metadata.get("annotations") or {}).get(RESTARTED_AT)
    return value


def replicas(thing: Mapping[str, Any]) -> int:
    """How many pods it wants; of a DaemonSet as many as there are nodes for it."""
    if thing["kind"] == "DaemonSet":
        return int(_status(thing).get("desiredNumberScheduled", 0))
    return int(thing["spec"].get("replicas", 1))


def rolling(thing: Mapping[str, Any]) -> str:
    """Whether pods of an older revision are still to be replaced. Pods that are new and do not work are no rollout."""
    status, name = _status(thing), _name(thing)
    if status.get("observedGeneration", 0) < thing["metadata"].get("generation", 0):
        return f"{name}: its controller has not seen the last change yet"
    if thing["kind"] == "DaemonSet":
        new, there = status.get("updatedNumberScheduled", 0), status.get("currentNumberScheduled", 0)
        return f"{name} rolls out: {new} of {there} pods are new" if new < there else ""
    new, wanted = status.get("updatedReplicas", 0), replicas(thing)
    if thing["kind"] == "StatefulSet":
        behind = status.get("currentRevision") != status.get("updateRevision") and new < wanted
        return f"{name} rolls out: {new} of {wanted} pods are new" if behind else ""
    old = status.get("replicas", 0) - new
    if new < wanted:
        return f"{name} rolls out: {new} of {wanted} pods are new"
    return f"{name} rolls out: {old} old pods are still there" if old > 0 else ""


def pending(thing: Mapping[str, Any]) -> str:
    """What keeps its rollout from being complete, availability included."""
    if words := rolling(thing):
        return words
    status, name, wanted = _status(thing), _name(thing), replicas(thing)
    if thing["kind"] == "DaemonSet":
        new = status.get("updatedNumberScheduled", 0)
        works = status.get("numberAvailable", 0)
        return f"{name}: {new} of {wanted} pods are new, {works} available" if min(new, works) < wanted else ""
    works = status.get("readyReplicas" if thing["kind"] == "StatefulSet" else "availableReplicas", 0)
    return f"{name}: {works} of {wanted} new pods are available" if works < wanted else ""


def stuck(thing: Mapping[str, Any]) -> str:
    """Its controller gave the rollout up (``progressDeadlineSeconds``)."""
    status = _status(thing)
    if status.get("observedGeneration", 0) < thing["metadata"].get("generation", 0):
        return ""
    for one in status.get("conditions") or ():
        if one.get("type") == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded":
            return f"{_name(thing)} exceeded its progress deadline"
    return ""


def held_back(thing: Mapping[str, Any]) -> str:
    """Why a new template would not reach every pod by itself."""
    spec, name = thing["spec"], _name(thing)
    if spec.get("paused"):
        return f"the rollout of {name} is paused: a restart would wait for its end"
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return f"{name} updates OnDelete: a new template restarts nothing until somebody deletes the pods"
    part = (strategy.get("rollingUpdate") or {}).get("partition", 0) if thing["kind"] == "StatefulSet" else 0
    return f"{name} holds its rollout at partition {part}: a restart would replace only a part of its pods" if part else ""


def _status(thing: Mapping[str, Any]) -> Mapping[str, Any]:
    status: Mapping[str, Any] = thing.get("status") or {}
    return status


def _name(thing: Mapping[str, Any]) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"
