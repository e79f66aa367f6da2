from __future__ import annotations

import pytest

from remediator.cluster.model import Cluster, Network, Node, View
from remediator.gates import Unread
from remediator.reasons import Reason


def silent(*names, count=10):
    nodes = (f"node-{n}" for n in range(1, count + 1))
    return Cluster(nodes=tuple(Node(name=name, ready="Unknown" if name in names else "True") for name in nodes))


@pytest.fixture
def says(judge, case, snapshot):
    return lambda **facts: judge("partition", case, snapshot(**facts))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_small_cluster_with_one_dead_node_is_not_partitioned(says, count):
    seen = Network(unreachable=(1.0,) * (count - 1), targets=3 * count, down=1)
    assert says(cluster=silent("node-1", count=count), network=seen).allowed


def test_thirty_percent_of_the_kubelets_silent(says):
    assert says(cluster=silent("node-1", "node-2")).allowed
    verdict = says(cluster=silent("node-1", "node-2", "node-3"))
    assert verdict.reason is Reason.PARTITION
    assert verdict.detail.startswith("3 of 10 kubelets are silent; ")


def test_a_node_that_only_says_it_is_not_ready_can_be_reached(says):
    sick = Cluster(nodes=tuple(Node(name=f"node-{n}", ready="False") for n in range(5)))
    assert says(cluster=sick).allowed


def test_most_agents_do_not_reach_thirty_percent_though_every_kubelet_speaks(says):
    split = Network(unreachable=(3.0,) * 7 + (7.0,) * 3, targets=40)
    verdict = says(cluster=silent(), network=split)
    assert verdict.reason is Reason.PARTITION
    assert "10 of 10 agents do not reach 3 nodes or more" in verdict.detail


def test_a_node_cut_off_alone_reaches_nobody_and_may_be_treated(says):
    alone = Network(unreachable=(1.0,) * 9 + (9.0,), targets=40, down=1)
    assert says(cluster=silent("node-10"), network=alone).allowed


@pytest.mark.parametrize(("down", "targets", "allowed"), [(1, 2, True), (4, 10, True), (5, 10, False), (0, 0, False)])
def test_a_prometheus_that_sees_less_than_half_of_its_targets_is_itself_cut_off(says, down, targets, allowed):
    assert says(cluster=silent(), network=Network(unreachable=(0.0,) * 10, targets=targets, down=down)).allowed is allowed


def test_without_a_prometheus_in_the_settings_the_kubelets_alone_are_asked_and_it_says_so(says):
    verdict = says(cluster=silent(), network=None)
    assert verdict.allowed
    assert "no prometheus.url" in verdict.detail
    assert not says(cluster=silent("node-1", "node-2", "node-3"), network=None).allowed


def test_where_no_agent_tells_it_says_so(says):
    assert "no agent tells whom it reaches" in says(cluster=silent(), network=Network(targets=5)).detail


def test_a_daemon_that_reaches_half_of_the_other_nodes_or_less_is_on_the_small_side(says):
    others = tuple(f"node-{n}" for n in (1, 2, 4, 5))
    assert says(view=View(asked=others, reached=("node-1", "node-2", "node-4"))).allowed
    verdict = says(view=View(asked=others, reached=("node-1", "node-2")))
    assert verdict.reason is Reason.PARTITION
    assert "this daemon reaches 2 of 4 other nodes itself" in verdict.detail


def test_the_target_itself_may_be_out_of_reach(says):
    assert says(view=View(asked=("node-3", "node-4"), reached=("node-4",))).allowed
    assert not says(view=View(asked=("node-3", "node-4"), reached=("node-3",))).allowed
    assert says(view=View(asked=("node-3",))).allowed, "there is no other node to reach"


def test_where_nobody_was_asked_it_says_why(says):
    assert "this daemon runs outside of the cluster" in says(view=View(detail="this daemon runs outside of the cluster")).detail


@pytest.mark.parametrize("fact", ["cluster", "network", "view"])
def test_what_cannot_be_read_refuses(says, fact):
    assert says(**{fact: Unread(detail="no")}).reason is Reason.UNREADABLE
