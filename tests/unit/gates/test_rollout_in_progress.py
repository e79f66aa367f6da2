from __future__ import annotations

import pytest

from remediator.gates import Unread
from remediator.reasons import Reason


@pytest.mark.parametrize("state", [{"updatedNumberScheduled": 2}, {"generation": 2}])
def test_before_the_daemonset_does_not_roll_out(judge, case, snapshot, cilium, daemonset, state):
    verdict = judge("rollout_in_progress", case, snapshot(cilium=cilium(daemonset=daemonset(**state))))
    assert verdict.reason is Reason.ROLLOUT_IN_PROGRESS
    assert "DaemonSet cilium rolls out" in verdict.detail


def test_before_a_restart_does_not_upgrade(judge, case, snapshot, cilium, daemonset, pod):
    by_hand = daemonset(strategy="OnDelete", updatedNumberScheduled=1)
    pods = [pod("node-1", revision="2"), pod("node-2"), pod("node-3", revision="1")]
    verdict = judge("rollout_in_progress", case, snapshot(cilium=cilium(daemonset=by_hand, pods=pods, newest={"ds": "2"})))
    assert verdict.reason is Reason.ROLLOUT_IN_PROGRESS
    assert "would upgrade cilium-node-3" in verdict.detail


def test_with_on_delete_a_node_of_the_newest_revision_may_be_restarted(judge, case, snapshot, cilium, daemonset, pod):
    by_hand = daemonset(strategy="OnDelete", updatedNumberScheduled=1)
    pods = [pod("node-1"), pod("node-2"), pod("node-3", revision="2")]
    assert judge("rollout_in_progress", case, snapshot(cilium=cilium(daemonset=by_hand, pods=pods, newest={"ds": "2"}))).allowed


def test_the_operators_rollout_counts_too(judge, case, snapshot, cilium, operator):
    verdict = judge("rollout_in_progress", case, snapshot(cilium=cilium(operators=[operator(updatedReplicas=1, replicas=3)])))
    assert "Deployment cilium-operator rolls out" in verdict.detail


def test_nothing_rolls(judge, case, snapshot):
    assert judge("rollout_in_progress", case, snapshot()).allowed


def test_unreadable(judge, case, snapshot):
    assert judge("rollout_in_progress", case, snapshot(cilium=Unread(detail="no"))).reason is Reason.UNREADABLE
