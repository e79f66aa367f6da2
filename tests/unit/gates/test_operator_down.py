from __future__ import annotations

from remediator.gates import Unread
from remediator.reasons import Reason


def test_before_the_operator_is_available(judge, case, snapshot, cilium, operator):
    assert judge("operator_down", case, snapshot()).allowed
    verdict = judge("operator_down", case, snapshot(cilium=cilium(operators=[operator(availableReplicas=0)])))
    assert verdict.reason is Reason.OPERATOR_DOWN
    assert "cilium-operator" in verdict.detail


def test_one_of_two_replicas_is_enough(judge, case, snapshot, cilium, operator):
    assert judge("operator_down", case, snapshot(cilium=cilium(operators=[operator(availableReplicas=1)]))).allowed


def test_where_there_is_none_the_verdict_says_so(judge, case, snapshot, cilium):
    verdict = judge("operator_down", case, snapshot(cilium=cilium(operators=[])))
    assert verdict.allowed
    assert "io.cilium/app=operator" in verdict.detail


def test_unreadable(judge, case, snapshot):
    assert judge("operator_down", case, snapshot(cilium=Unread(detail="no"))).reason is Reason.UNREADABLE
