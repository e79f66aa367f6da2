from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.clock import iso
from remediator.gates import Unread
from remediator.model import Target, evolve
from remediator.reasons import Reason


def crashed(ago, now, count=3, waiting=""):
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    ended = {"terminated": {"finishedAt": iso(now - timedelta(minutes=ago))}}
    return {"containerStatuses": [{"name": "cilium-agent", "restartCount": count, "lastState": ended, "state": state}]}


@pytest.mark.parametrize(("minutes", "allowed"), [(1, False), (29, False), (30, True), (300, True)])
def test_before_three_crashes_within_half_an_hour(judge, case, snapshot, cilium, pod, now, minutes, allowed):
    verdict = judge("crash_looping", case, snapshot(cilium=cilium(pods=[pod("node-3", **crashed(minutes, now))])))
    assert verdict.allowed is allowed
    assert verdict.reason is (None if allowed else Reason.CRASH_LOOPING)


def test_two_crashes_are_none(judge, case, snapshot, cilium, pod, now):
    assert judge("crash_looping", case, snapshot(cilium=cilium(pods=[pod("node-3", **crashed(1, now, count=2))]))).allowed


def test_the_kubelets_own_word_is_enough_and_the_refusal_names_the_log(judge, case, snapshot, cilium, pod, now):
    looping = pod("node-3", ready=False, **crashed(500, now, count=1, waiting="CrashLoopBackOff"))
    verdict = judge("crash_looping", case, snapshot(cilium=cilium(pods=[looping])))
    assert "kubectl -n kube-system logs cilium-node-3 -c cilium-agent -p" in verdict.detail


def test_an_agent_of_another_node_is_not_judged_here(judge, case, snapshot, cilium, pod, now):
    assert judge("crash_looping", case, snapshot(cilium=cilium(pods=[pod("node-3"), pod("node-1", **crashed(1, now))]))).allowed


def test_for_the_operator_its_own_pods_are_judged(judge, case, snapshot, cilium, pod, now):
    other = evolve(case, target=Target(kind="Deployment", namespace="kube-system", name="cilium-operator"))
    picture = cilium(operator_pods=[pod("node-1", name="cilium-operator-x", **crashed(1, now))])
    assert judge("crash_looping", case, snapshot(cilium=picture)).allowed
    assert "cilium-operator-x" in judge("crash_looping", other, snapshot(cilium=picture)).detail


def test_unreadable(judge, case, snapshot):
    assert judge("crash_looping", case, snapshot(cilium=Unread(detail="no"))).reason is Reason.UNREADABLE
