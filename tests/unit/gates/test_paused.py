from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.model import Pause
from remediator.reasons import Reason


def pause(now, **fields):
    return Pause(id="p", by="kim", reason="storage move", at=now - timedelta(hours=1), **fields)


@pytest.mark.parametrize("scope", [{}, {"playbook": "agent"}, {"target": "Node/node-3"}, {"playbook": "agent", "target": "Node/node-3"}])
def test_refuses_under_a_pause_that_covers_it(judge, case, snapshot, now, scope):
    verdict = judge("paused", case, snapshot(pauses=(pause(now, **scope),)))
    assert verdict.reason is Reason.PAUSED
    assert "kim" in verdict.detail
    assert "storage move" in verdict.detail


@pytest.mark.parametrize("scope", [{"playbook": "other"}, {"target": "Node/node-4"}, {"playbook": "agent", "target": "Node/node-4"}])
def test_allows_under_a_pause_of_something_else(judge, case, snapshot, now, scope):
    assert judge("paused", case, snapshot(pauses=(pause(now, **scope),))).allowed


def test_a_pause_ends_by_its_own_time(judge, case, snapshot, now):
    assert not judge("paused", case, snapshot(pauses=(pause(now, until=now + timedelta(seconds=1)),))).allowed
    assert judge("paused", case, snapshot(pauses=(pause(now, until=now),))).allowed


@pytest.mark.parametrize("where", ["target", "namespace"])
def test_refuses_a_marked_target_or_namespace(judge, case, snapshot, where):
    thing = {"metadata": {"name": "x", "uid": "uid-3", "annotations": {"remediator.dev/pause": "disk swap"}}}
    verdict = judge("paused", case, snapshot(**{where: thing}))
    assert verdict.reason is Reason.PAUSED
    assert "disk swap" in verdict.detail
