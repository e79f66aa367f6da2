from __future__ import annotations

import pytest

from remediator.reasons import Reason


@pytest.mark.parametrize("mark", ["remediator.dev/protected", "remediation.medik8s.io/exclude-from-remediation"])
@pytest.mark.parametrize("place", ["labels", "annotations"])
@pytest.mark.parametrize("where", ["target", "namespace"])
def test_refuses_a_mark_wherever_it_is(judge, case, snapshot, mark, place, where):
    thing = {"metadata": {"name": "x", "uid": "uid-3", place: {mark: "true"}}}
    verdict = judge("protected", case, snapshot(**{where: thing}))
    assert verdict.reason is Reason.PROTECTED
    assert mark in verdict.detail


def test_false_is_no_mark(judge, case, snapshot):
    thing = {"metadata": {"name": "x", "uid": "uid-3", "labels": {"remediator.dev/protected": "false"}}}
    assert judge("protected", case, snapshot(target=thing)).allowed


@pytest.mark.parametrize(
    ("metadata", "taint"),
    [
        ({"annotations": {"karpenter.sh/do-not-disrupt": "true"}}, ""),
        ({"annotations": {"cluster.x-k8s.io/delete-machine": "yes"}}, ""),
        ({}, "ToBeDeletedByClusterAutoscaler"),
        ({}, "karpenter.sh/disrupted"),
        ({}, "node.kubernetes.io/out-of-service"),
    ],
)
def test_a_node_that_another_tool_takes_away_or_guards(judge, case, snapshot, metadata, taint):
    node = {"metadata": {"name": "node-3", "uid": "uid-3", **metadata}, "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]}}
    verdict = judge("protected", case, snapshot(target=node))
    assert verdict.reason is Reason.PROTECTED
    assert (taint or next(iter(metadata["annotations"]))) in verdict.detail


def test_taints_of_every_day_and_marks_that_say_false_are_no_claim(judge, case, snapshot):
    taints = [
        {"key": key}
        for key in ("node.cilium.io/agent-not-ready", "node.kubernetes.io/unschedulable", "DeletionCandidateOfClusterAutoscaler")
    ]
    metadata = {"name": "node-3", "uid": "uid-3", "annotations": {"karpenter.sh/do-not-disrupt": "false"}}
    assert judge("protected", case, snapshot(target={"metadata": metadata, "spec": {"taints": taints}})).allowed
