from __future__ import annotations

import pytest

from remediator.cluster.model import Cluster, Node, Pod
from remediator.gates import Unread
from remediator.model import Target, evolve
from remediator.reasons import Reason


def pod(app, node, **fields):
    return Pod(name=f"{app}-{node}".lower(), namespace="kube-system", node=node, app=app, **fields)


def cluster(*needed, own="", **broken):
    nodes = tuple(Node(name=f"node-{n}", **broken.get(f"node_{n}", {})) for n in range(1, 6))
    mine = Pod(name="remediator-0", namespace="remediator", node=own) if own else None
    return Cluster(nodes=nodes, needed=needed, own=mine)


@pytest.fixture
def says(judge, case, snapshot):
    return lambda shape, target=case.target: judge("self", evolve(case, target=target), snapshot(cluster=shape))


def test_the_node_of_the_daemon(says):
    verdict = says(cluster(own="node-3"))
    assert verdict.reason is Reason.SELF
    assert verdict.detail == "this daemon runs there, as pod remediator/remediator-0"
    assert says(cluster(own="node-4")).allowed


def test_the_pod_of_the_daemon(says):
    own, other = (Target(kind="Pod", namespace="remediator", name=name) for name in ("remediator-0", "remediator-1"))
    assert not says(cluster(own="node-3"), own).allowed
    assert says(cluster(own="node-3"), other).allowed


def test_outside_of_the_cluster_there_is_no_such_node(says):
    assert says(cluster()).detail == "this daemon runs outside of the cluster"


@pytest.mark.parametrize("app", ["CoreDNS", "Prometheus", "Alertmanager"])
def test_the_last_of_what_everybody_needs(says, app):
    verdict = says(cluster(pod(app, "node-3")))
    assert verdict.reason is Reason.SELF
    assert verdict.detail == f"the last ready {app} runs there"
    assert says(cluster(pod(app, "node-3"), pod(app, "node-4"))).allowed
    assert says(cluster(pod(app, "node-4"))).allowed


def test_another_that_does_not_work_is_none(says):
    here = pod("CoreDNS", "node-3")
    assert not says(cluster(here, pod("CoreDNS", "node-4", ready=False))).allowed
    assert not says(cluster(here, pod("CoreDNS", "node-4"), node_4={"ready": "Unknown"})).allowed
    assert not says(cluster(here, evolve(here, name="second"))).allowed, "both are on the target"


def test_one_that_is_broken_already_has_nothing_to_lose(says):
    assert says(cluster(pod("CoreDNS", "node-3", ready=False))).allowed


def test_it_says_how_many_there_are_elsewhere(says):
    shape = cluster(pod("CoreDNS", "node-3"), pod("CoreDNS", "node-4"), pod("Prometheus", "node-5"), own="node-1")
    assert says(shape).detail == "this daemon runs on node-1; 1 of CoreDNS ready elsewhere; 1 of Prometheus ready elsewhere"


def test_what_cannot_be_read_refuses(says):
    assert says(Unread(detail="no")).reason is Reason.UNREADABLE
