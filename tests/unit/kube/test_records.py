from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from remediator.kube import records, workloads

NODE = {
    "kind": "Node",
    "apiVersion": "v1",
    "metadata": {
        "name": "node-3",
        "uid": "u3",
        "resourceVersion": "77",
        "creationTimestamp": "2026-01-05T10:00:00Z",
        "labels": {"topology.kubernetes.io/zone": "zone-a"},
        "managedFields": [{"manager": "x"}],
    },
    "spec": {
        "unschedulable": True,
        "podCIDRs": ["10.0.0.0/24"],
        "providerID": "aws:///i-1",
        "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "2026-01-05T10:00:00Z"}],
    },
    "status": {
        "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        "addresses": [
            {"type": "InternalIP", "address": "10.25.150.12"},
            {"type": "InternalIP", "address": "fd00::12"},
            {"type": "Hostname", "address": "n"},
        ],
        "capacity": {"cpu": "8"},
    },
}
POD = {
    "metadata": {
        "name": "cilium-x",
        "namespace": "kube-system",
        "uid": "p1",
        "labels": {"controller-revision-hash": "abc"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "cilium", "uid": "d", "controller": True}],
    },
    "spec": {
        "nodeName": "node-3",
        "priority": 2000001000,
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "cilium-agent", "image": "cilium:1.17", "env": []}],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "run", "hostPath": {"path": "/run"}}],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.25.150.12",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-05T10:00:00Z"}],
        "initContainerStatuses": [
            {"name": "mount", "restartCount": 1, "ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
        ],
        "containerStatuses": [
            {"name": "cilium-agent", "restartCount": 3, "ready": True, "state": {"running": {"startedAt": "2026-01-05T10:00:00Z"}}}
        ],
    },
}


def _decode(thing, kind):
    return msgspec.json.decode(json.dumps(thing), type=kind)


def _with(thing, *path, value):
    copy = json.loads(json.dumps(thing))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def test_node():
    node = _decode(NODE, records.Node)
    assert (node.name, node.uid, node.ready, node.ready_status, node.unschedulable) == ("node-3", "u3", True, "True", True)
    assert node.addresses == ("10.25.150.12", "fd00::12")
    assert node.tainted("node.kubernetes.io/unschedulable")
    assert not node.tainted("node.cilium.io/agent-not-ready")
    assert node.spec.provider_id == "aws:///i-1"
    assert node.metadata.creation_timestamp == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert not node.terminating


@pytest.mark.parametrize(
    ("conditions", "status"),
    [([], "Unknown"), ([{"type": "Ready", "status": "Unknown"}], "Unknown"), ([{"type": "Ready", "status": "False"}], "False")],
)
def test_a_silent_node_is_not_ready(conditions, status):
    node = _decode(_with(NODE, "status", "conditions", value=conditions), records.Node)
    assert (node.ready, node.ready_status) == (False, status)


def test_pod():
    pod = _decode(POD, records.Pod)
    assert (pod.node_name, pod.phase, pod.ready, pod.terminating, pod.finished, pod.mirror) == (
        "node-3",
        "Running",
        True,
        False,
        False,
        False,
    )
    assert pod.ready_since == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert pod.controller is not None
    assert (pod.controller.kind, pod.controller.api_version) == ("DaemonSet", "apps/v1")
    assert (pod.restarts, pod.waiting, pod.crash_looping, pod.revision) == (4, (), False, "abc")
    assert [volume.local for volume in pod.spec.volumes] == [True, False]
    assert pod.status.pod_ip == "10.25.150.12"


def test_a_pod_on_its_way_out_is_not_ready():
    pod = _decode(_with(POD, "metadata", "deletionTimestamp", value="2026-01-05T10:00:00Z"), records.Pod)
    assert (pod.terminating, pod.ready, pod.ready_since) == (True, False, None)


def test_a_crash_looping_pod():
    waiting = [{"name": "a", "restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    pod = _decode(_with(POD, "status", "containerStatuses", value=waiting), records.Pod)
    assert (pod.crash_looping, pod.waiting, pod.restarts) == (True, ("CrashLoopBackOff",), 10)


def test_a_mirror_pod():
    assert _decode(_with(POD, "metadata", "annotations", value={"kubernetes.io/config.mirror": "x"}), records.Pod).mirror


@pytest.mark.parametrize("kind", [getattr(module, name) for module in (records, workloads) for name in module.__all__])
def test_every_record_reads_an_empty_object(kind):
    assert _decode({}, kind) == kind()


@pytest.mark.parametrize(
    ("generation", "status", "rolling"),
    [
        (2, {"observedGeneration": 2, "desiredNumberScheduled": 5, "updatedNumberScheduled": 5}, False),
        (2, {"observedGeneration": 2, "desiredNumberScheduled": 5, "updatedNumberScheduled": 4}, True),
        (3, {"observedGeneration": 2, "desiredNumberScheduled": 5, "updatedNumberScheduled": 5}, True),
        (1, {"observedGeneration": 1, "desiredNumberScheduled": 5}, True),
    ],
)
def test_a_rollout_of_a_daemonset(generation, status, rolling):
    assert _decode({"metadata": {"generation": generation}, "status": status}, workloads.DaemonSet).rolling_out is rolling


@pytest.mark.parametrize(
    ("spec", "status", "rolling"),
    [
        ({"replicas": 2}, {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
        ({"replicas": 2}, {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2}, True),
        ({"replicas": 2}, {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1}, True),
        ({"replicas": 2}, {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2}, True),
        ({"replicas": 0}, {"observedGeneration": 2}, False),
    ],
)
def test_a_rollout_of_a_deployment(spec, status, rolling):
    assert _decode({"metadata": {"generation": 2}, "spec": spec, "status": status}, workloads.Deployment).rolling_out is rolling


def test_a_lease_with_and_without_holder():
    spec = {"holderIdentity": "a", "renewTime": "2026-01-05T10:00:00.000000Z", "leaseDurationSeconds": 15}
    assert _decode({"spec": spec}, records.Lease).spec.renew_time == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert _decode({"spec": {"holderIdentity": None}}, records.Lease).spec.holder_identity is None


def test_a_budget_takes_numbers_and_percentages():
    spec = _decode({"spec": {"minAvailable": "25%", "maxUnavailable": 1}}, workloads.PodDisruptionBudget).spec
    assert (spec.min_available, spec.max_unavailable, spec.selector) == ("25%", 1, None)


def test_where_a_cilium_endpoint_is():
    endpoint = _decode({"status": {"state": "ready", "networking": {"node": "10.0.0.1"}}}, records.CiliumEndpoint)
    assert (endpoint.status.state, endpoint.node_address) == ("ready", "10.0.0.1")
    assert records.CiliumEndpoint().node_address == ""
