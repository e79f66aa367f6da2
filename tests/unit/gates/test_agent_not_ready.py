from __future__ import annotations

import pytest

from remediator.gates import Limits, Unread
from remediator.gates.disturbance_budget import Settings
from remediator.model import evolve
from remediator.reasons import Reason
from remediator.settings import Share


def node(**conditions):
    given = {"Ready": "True", **conditions}
    return {"metadata": {"name": "node-3", "uid": "uid-3"}, "status": {"conditions": [{"type": t, "status": s} for t, s in given.items()]}}


def test_the_targets_own_agent_may_be_down(judge, case, snapshot, cilium, pod):
    pods = [pod("node-1"), pod("node-2"), pod("node-3", ready=False)]
    assert judge("agent_not_ready", case, snapshot(cilium=cilium(pods=pods))).allowed


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_before_the_node_is_ready(judge, case, snapshot, status):
    verdict = judge("agent_not_ready", case, snapshot(target=node(Ready=status)))
    assert (verdict.allowed, verdict.reason) == (False, Reason.AGENT_NOT_READY)
    assert "node-3 is not Ready" in verdict.detail


def test_before_no_disk_pressure(judge, case, snapshot):
    verdict = judge("agent_not_ready", case, snapshot(target=node(DiskPressure="True")))
    assert not verdict.allowed
    assert "DiskPressure" in verdict.detail
    assert judge("agent_not_ready", case, snapshot(target=node(DiskPressure="False"))).allowed


def test_before_only_this_node_is_affected(judge, case, snapshot, cilium, pod):
    pods = [pod("node-1"), pod("node-2", ready=False), pod("node-3", ready=False)]
    verdict = judge("agent_not_ready", case, snapshot(cilium=cilium(pods=pods)))
    assert verdict.reason is Reason.AGENT_NOT_READY
    assert "cilium-node-2" in verdict.detail
    assert "cilium-node-3" not in verdict.detail


def test_as_many_others_may_be_down_as_nodes_may_be_disturbed_besides_the_target(judge, case, snapshot, cilium, pod):
    down = snapshot(cilium=cilium(pods=[pod("node-1"), pod("node-2", ready=False), pod("node-3", ready=False)]))
    two, one = (evolve(case, limits=Limits(max_disturbed=Share(count=count))) for count in (2, 1))
    assert judge("agent_not_ready", two, down).allowed
    assert not judge("agent_not_ready", one, down).allowed
    narrow = evolve(two, settings={"disturbance": Settings.model_validate({"max_nodes": 1})})
    assert not judge("agent_not_ready", narrow, down).allowed, "the playbook's own limit is the narrower one"


def test_a_node_without_any_agent_pod_counts_as_down(judge, case, snapshot, cilium, pod):
    verdict = judge("agent_not_ready", case, snapshot(cilium=cilium(pods=[pod("node-1"), pod("node-3")])))
    assert "1 other nodes have no agent pod" in verdict.detail
    mine = judge("agent_not_ready", case, snapshot(cilium=cilium(pods=[pod("node-1"), pod("node-2")])))
    assert mine.allowed, "the target's own missing agent is the reason, not a refusal"


def test_before_the_image_can_be_pulled(judge, case, snapshot, cilium, pod):
    waiting = {"containerStatuses": [{"name": "cilium-agent", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
    pods = [pod("node-1"), pod("node-2"), pod("node-3", ready=False, **waiting)]
    verdict = judge("agent_not_ready", case, snapshot(cilium=cilium(pods=pods)))
    assert not verdict.allowed
    assert "image" in verdict.detail


def test_unreadable(judge, case, snapshot):
    verdict = judge("agent_not_ready", case, snapshot(cilium=Unread(detail="no")))
    assert verdict.reason is Reason.UNREADABLE


def test_many_names_are_counted(judge, case, snapshot, cilium, pod, daemonset):
    pods = [pod(f"node-{n}", ready=False) for n in range(10, 20)]
    verdict = judge("agent_not_ready", evolve(case), snapshot(cilium=cilium(pods=pods, daemonset=daemonset(desiredNumberScheduled=10))))
    assert "and 5 more" in verdict.detail
