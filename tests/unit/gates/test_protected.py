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
