"""What Kubernetes and Prometheus answer, as the objects of one moment."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from remediator.bgp.model import Metrics
from remediator.bgp.read import SESSION_STATE, kind_of, read_metrics, read_objects
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.monitoring.answers import Sample
from remediator.monitoring.errors import PrometheusUnreachable

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
ADDRESSES = {"10.25.150.11": "node-2", "fd00::11": "node-2"}


class Answers:
    """A Prometheus that gives what it is told to."""

    max_age = timedelta(minutes=2)

    def __init__(self, *sessions, hour=(), failing=False):
        self.sessions, self.hour, self.failing = sessions, hour, failing

    async def query(self, promql):
        if self.failing:
            raise PrometheusUnreachable("no answer")
        if promql == SESSION_STATE:
            return [Sample(labels=labels, value=value, at=NOW) for labels, value, _ in self.sessions]
        if promql == f"timestamp({SESSION_STATE})":
            return [Sample(labels=labels, value=(NOW - age).timestamp(), at=NOW) for labels, _, age in self.sessions]
        if promql.startswith("last_over_time"):
            return list(self.hour)
        return [Sample(labels={**labels, "afi": "ipv4"}, value=3, at=NOW) for labels, _, _ in self.sessions]


def session(neighbor="10.25.150.1:179", **labels):
    return {"vrouter": "65001", "neighbor": neighbor, **labels}


SECONDS = timedelta(seconds=20)


@pytest.mark.parametrize(
    ("labels", "node", "peer"),
    [
        (session(node="node-9"), "node-9", "10.25.150.1"),
        (session(instance="10.25.150.11:9962"), "node-2", "10.25.150.1"),
        (session("[fd00::1]:179", instance="[fd00::11]:9962"), "node-2", "fd00::1"),
        (session("fd00::1", node="node-9"), "node-9", "fd00::1"),
        (session(instance="10.9.9.9:9962"), "", "10.25.150.1"),
    ],
)
async def test_a_series_belongs_to_the_node_that_its_labels_or_its_instance_name(labels, node, peer):
    found = await read_metrics(Answers((labels, 1, SECONDS)), ADDRESSES)
    assert found.up == {(node, peer): True}
    assert found.advertised == {(node, peer, "ipv4"): 3}


async def test_a_stale_sample_is_left_out_and_zero_is_down():
    found = await read_metrics(
        Answers((session(node="a"), 1, timedelta(minutes=3)), (session(node="b"), 0, SECONDS), (session(node="c"), 1, SECONDS)), {}
    )
    assert found.state is Metrics.READ
    assert found.up == {("b", "10.25.150.1"): False, ("c", "10.25.150.1"): True}


async def test_no_series_now_but_within_the_hour_means_that_they_vanished():
    assert (await read_metrics(Answers(hour=["one"]), {})).state is Metrics.READ
    assert (await read_metrics(Answers(), {})).state is Metrics.ABSENT
    assert (await read_metrics(None, {})).state is Metrics.ABSENT


async def test_a_prometheus_that_cannot_be_asked_is_unreadable_and_no_error():
    found = await read_metrics(Answers(failing=True), {})
    assert (found.state, found.detail) == (Metrics.UNREADABLE, "no answer")


class Bare:
    """A cluster without Cilium's kinds; the operator is told of by a lease, or by nothing."""

    def __init__(self, lease=None):
        self.lease = lease

    async def list(self, kind, namespace="", **_):
        if kind.group == "cilium.io":
            raise NotFound("no such kind", call=f"GET {kind.plural}")
        return SimpleNamespace(items=[])

    async def get(self, kind, name, namespace=""):
        if self.lease is None:
            raise NotFound("no lease", call="GET")
        return {"spec": self.lease}


async def read(kube):
    return await read_objects(kube, None, namespace="kube-system", agents="k8s-app=cilium", now=NOW)


async def test_a_cluster_without_cilium_announces_nothing():
    found = await read(Bare())
    assert (found.version, found.operator, found.cilium_nodes, found.node_configs) == ("", "", [], [])


class Announced(Bare):
    """A cluster whose pod networks are announced; no list of all pods is to be kept."""

    def __init__(self, *pods):
        super().__init__()
        self.pods = pods

    async def list(self, kind, namespace="", **more):
        assert kind is not kinds.POD or namespace
        if kind is kinds.BGP_ADVERTISEMENT:
            return SimpleNamespace(items=[{"spec": {"advertisements": [{"advertisementType": "PodCIDR"}]}}])
        return await super().list(kind, namespace, **more)

    async def collect(self, kind, convert):
        assert kind is kinds.POD
        return SimpleNamespace(items=[convert(json.dumps(pod).encode()) for pod in self.pods])


def pod(node="node-1", phase="Running", owner="ReplicaSet", **spec):
    metadata = {"name": "p", "ownerReferences": [{"kind": owner, "controller": True}]}
    return {"metadata": metadata, "spec": {"nodeName": node, **spec}, "status": {"phase": phase}}


async def test_of_all_pods_those_are_counted_that_a_drain_would_move_out_of_a_nodes_network():
    stay = pod(owner="DaemonSet"), pod(hostNetwork=True), pod(phase="Succeeded"), pod(phase="Failed")
    nowhere_yet = pod(node="", phase="Pending")
    found = await read(Announced(pod(), pod(), pod("node-2"), *stay, nowhere_yet))
    assert found.pods == {"node-1": 2, "node-2": 1}


@pytest.mark.parametrize(
    ("renewed", "words"),
    [("2026-01-05T09:59:50Z", ""), ("2026-01-05T09:50:00Z", "was renewed last 600 s ago"), (None, "nobody holds the lease")],
)
async def test_trap_3_an_operator_that_is_no_deployment_is_known_by_its_lease(renewed, words):
    found = await read(Bare({"renewTime": renewed, "leaseDurationSeconds": 15}))
    assert words in found.operator
    assert bool(words) is bool(found.operator)


def test_a_kind_is_written_back_in_the_version_that_it_was_read_in():
    assert kind_of(kinds.BGP_PEER_CONFIG, {"apiVersion": "cilium.io/v2alpha1"}).version == "v2alpha1"
    assert kind_of(kinds.BGP_PEER_CONFIG, {"apiVersion": "cilium.io/v2"}).version == "v2"
