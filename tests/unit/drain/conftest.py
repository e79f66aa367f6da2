"""Pods and budgets as records, in one line each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from remediator.kube.records import Pod
from remediator.kube.workloads import PodDisruptionBudget

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.fixture(scope="session")
def now():
    return NOW


@pytest.fixture(scope="session")
def pod():
    """A ready pod of a ReplicaSet on node-3; keywords change it."""

    def make(
        name="web-1",
        *,
        namespace="apps",
        owner=("apps/v1", "ReplicaSet", "web"),
        phase="Running",
        ready=True,
        priority=0,
        labels=None,
        annotations=None,
        volumes=(),
        tolerations=(),
        deleted_ago=None,
        finalizers=(),
        grace=30,
    ):
        owners = (
            [{"apiVersion": owner[0], "kind": owner[1], "name": owner[2], "uid": f"uid-{owner[2]}", "controller": True}] if owner else []
        )
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": labels if labels is not None else {"app": "web"},
            "annotations": annotations or {},
            "ownerReferences": owners,
            "finalizers": list(finalizers),
        }
        if deleted_ago is not None:
            metadata["deletionTimestamp"] = (NOW - timedelta(seconds=deleted_ago)).isoformat()
        spec = {
            "nodeName": "node-3",
            "priority": priority,
            "volumes": list(volumes),
            "tolerations": list(tolerations),
            "terminationGracePeriodSeconds": grace,
        }
        status = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
        return msgspec.convert({"metadata": metadata, "spec": spec, "status": status}, Pod)

    return make


@pytest.fixture(scope="session")
def budget():
    def make(
        name="web",
        *,
        namespace="apps",
        allowed=1,
        healthy=4,
        desired=3,
        expected=4,
        generation=1,
        observed=1,
        selector=None,
        version="1",
        disrupted=(),
        **spec,
    ):
        spec = {"selector": {"matchLabels": {"app": "web"}} if selector is None else selector, **(spec or {"maxUnavailable": 1})}
        status = {
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "observedGeneration": observed,
            "disruptedPods": dict.fromkeys(disrupted, "2026-01-05T10:00:00Z"),
        }
        metadata = {"name": name, "namespace": namespace, "generation": generation, "resourceVersion": version}
        return msgspec.convert({"metadata": metadata, "spec": spec, "status": status}, PodDisruptionBudget)

    return make
