from __future__ import annotations

import pytest

from remediator.reasons import Reason


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (None, Reason.TARGET_MISSING),
        ({"metadata": {"name": "node-3", "uid": "another"}}, Reason.TARGET_CHANGED),
        ({"metadata": {"name": "node-3", "uid": "uid-3", "deletionTimestamp": "2026-01-05T09:59:00Z"}}, Reason.TARGET_CHANGED),
        ({"metadata": {"name": "node-3", "uid": "uid-3"}}, None),
    ],
)
def test_the_object_must_be_the_one_decided_on(judge, case, snapshot, thing, reason):
    verdict = judge("target_changed", case, snapshot(target=thing))
    assert verdict.reason == reason
    assert verdict.allowed is (reason is None)
