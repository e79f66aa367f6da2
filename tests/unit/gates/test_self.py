from __future__ import annotations

import pytest

from remediator.gates import Unread
from remediator.gates.self import Settings
from remediator.model import Target, evolve
from remediator.reasons import Reason


def test_before_not_the_node_that_carries_the_daemon(judge, case, snapshot):
    verdict = judge("self", case, snapshot(own_node="node-3"))
    assert (verdict.allowed, verdict.reason) == (False, Reason.SELF)
    assert "node-3" in verdict.detail


@pytest.mark.parametrize("own", ["node-1", ""])
def test_another_node_or_none_at_all(judge, case, snapshot, own):
    assert judge("self", case, snapshot(own_node=own)).allowed


def test_a_pod_of_the_same_name_is_no_node(judge, case, snapshot):
    other = evolve(case, target=Target(kind="Pod", namespace="x", name="node-3"))
    assert judge("self", other, snapshot(own_node="node-3")).allowed


@pytest.mark.parametrize(("setting", "allowed"), [("allow", True), ("refuse", False)])
def test_a_playbook_may_accept_it(judge, case, snapshot, setting, allowed):
    accepting = evolve(case, settings={"self": Settings.model_validate(setting)})
    assert judge("self", accepting, snapshot(own_node="node-3")).allowed is allowed


def test_unreadable(judge, case, snapshot):
    assert judge("self", case, snapshot(own_node=Unread(detail="no"))).reason is Reason.UNREADABLE


async def test_the_downward_api_says_where_the_daemon_runs(stage, monkeypatch):
    """As deploy/ sets it: an alert about the daemon's own node restarts nothing there."""
    monkeypatch.setenv("NODE_NAME", "node-3")
    done = await stage.step("cilium.restart_agent", node="node-3")
    assert (str(done.end), done.reason) == ("refused", Reason.SELF)
    assert stage.writes() == []
    elsewhere = await stage.world.journal.run(done.run.id)
    assert {v.gate: v.detail for v in elsewhere.gates}["self"].startswith("this daemon runs on node-3")
