from __future__ import annotations

import pytest

from remediator.cluster.model import Cluster, Node, Pod
from remediator.gates import Unread
from remediator.model import RunState, Target, evolve
from remediator.reasons import Reason

ROLE = {"node-role.kubernetes.io/control-plane": ""}


def planes(count, *, etcd=True, down=(), sick=()):
    """The first ``count`` of eight nodes are control plane; ``down`` are not Ready, ``sick`` have a member that is not."""
    nodes = tuple(Node(name=f"node-{n}", labels=ROLE if n <= count else {}, ready="Unknown" if n in down else "True") for n in range(1, 9))
    members = tuple(
        Pod(name=f"etcd-node-{n}", namespace="kube-system", node=f"node-{n}", mirror=True, ready=n not in (*down, *sick))
        for n in range(1, count + 1)
    )
    return Cluster(nodes=nodes, etcd=members if etcd else ())


@pytest.fixture
def on(judge, case, snapshot):
    """on(3, cluster, ...): the verdict for node-3."""
    return lambda n, cluster, **facts: judge(
        "quorum", evolve(case, target=Target(kind="Node", name=f"node-{n}")), snapshot(cluster=cluster, **facts)
    )


@pytest.mark.parametrize("etcd", [True, False])
def test_one_of_three_that_all_work(on, etcd):
    verdict = on(1, planes(3, etcd=etcd))
    assert verdict.allowed
    assert verdict.detail.startswith("2 of 3 ")


@pytest.mark.parametrize("etcd", [True, False])
def test_a_second_of_three(on, etcd):
    verdict = on(1, planes(3, etcd=etcd, down=(2,)))
    assert verdict.reason is Reason.QUORUM
    assert "1 of 3" in verdict.detail
    assert "2 are needed; down besides the target: node-2" in verdict.detail


def test_the_one_that_is_down_may_be_treated_since_it_does_not_count_twice(on):
    assert on(2, planes(3, down=(2,))).allowed


def test_a_member_that_is_not_ready_on_a_node_that_is(on):
    assert not on(1, planes(3, sick=(3,))).allowed


@pytest.mark.parametrize(
    ("count", "down", "allowed"), [(2, (), False), (4, (), True), (4, (2,), False), (5, (2,), True), (5, (2, 3), False)]
)
def test_more_than_half_must_be_left(on, count, down, allowed):
    assert on(1, planes(count, down=down)).allowed is allowed


def test_an_only_member_has_no_quorum_to_endanger(on):
    assert on(1, planes(1)).allowed


def test_other_nodes_are_not_its_business(on):
    assert on(7, planes(3, down=(1, 2))).detail == "the target is none of 3 etcd members"


def test_one_at_a_time(on, a_run):
    other = a_run(id="r", target=Target(kind="Node", name="node-2"), state=RunState.RUNNING, ended_at=None)
    verdict = on(1, planes(5), open_runs=(other,))
    assert verdict.reason is Reason.QUORUM
    assert "a run is open on node-2" in verdict.detail
    assert on(1, planes(5), open_runs=(evolve(other, target=Target(kind="Node", name="node-7")),)).allowed


def test_what_cannot_be_read_refuses(on):
    assert on(1, Unread(detail="no")).reason is Reason.UNREADABLE
