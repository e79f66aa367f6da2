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


def marked(**annotations):
    return {
        "metadata": {"name": "x", "uid": "uid-3", "annotations": {f"remediator.dev/{name}": text for name, text in annotations.items()}}
    }


@pytest.mark.parametrize(
    ("until", "holds"),
    [("2026-01-05T10:00:01Z", True), ("2026-01-05T11:00:01+01:00", True), ("2026-01-05T10:00:00Z", False), ("tomorrow", True), ("", True)],
)
def test_a_mark_ends_by_its_own_time_and_holds_where_that_cannot_be_read(judge, case, snapshot, until, holds):
    verdict = judge("paused", case, snapshot(target=marked(pause="disk swap", **{"pause-until": until})))
    assert verdict.allowed is not holds
    if holds:
        assert "disk swap" in verdict.detail
        assert until in verdict.detail or "until" in verdict.detail


def test_an_end_without_a_mark_is_no_mark(judge, case, snapshot):
    assert judge("paused", case, snapshot(target=marked(**{"pause-until": "2030-01-01T00:00:00Z"}))).allowed


@pytest.mark.parametrize(("target", "covered"), [("Namespace/shop", True), ("Namespace/other", False), ("Namespace/web-1", False)])
def test_a_pause_of_a_namespace_holds_for_what_is_in_it(now, target, covered):
    assert pause(now, target=target).covers(playbook="agent", target="Pod/shop/web-1", now=now) is covered
