"""``cilium.restart_agent`` with ``exec: true``: the agent itself is asked, and only then."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator import facts
from remediator.actions import actions
from remediator.cilium import asking
from remediator.model import PLAN
from remediator.reasons import Reason
from remediator.run import StepEnd

ACTION = "cilium.restart_agent"


@pytest.fixture(autouse=True)
def patient(stage, monkeypatch):
    """A busy machine is no hanging system. What Prometheus proves has tests of its own."""
    stage.lasting = "20m"
    stage.world.prometheus = None
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


def asked(stage):
    """The command of every exec, in order."""
    return [call for call in stage.cluster.request_log if call.subresource == "exec"]


def plan(done):
    return " ".join(next(e.data for e in done.run.steps[0].evidence if e.name == PLAN))


async def test_off_by_default_nothing_is_asked(stage):
    stage.cluster.agents.complaints["node-3"] = "kubernetes: timeout"
    done = await stage.step(ACTION, ready_for="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert asked(stage) == []
    assert not [call for call in stage.cluster.request_log if call.path.endswith("reviews")]
    assert "inside of its container" not in plan(done)


async def test_on_the_new_agent_is_asked_after_the_other_proofs(stage):
    old = stage.cluster.agent_pod("node-3")["metadata"]["name"]
    done = await stage.step(ACTION, ready_for="10s", exec=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    new = stage.cluster.agent_pod("node-3")["metadata"]["name"]
    assert [call.name for call in asked(stage)] == [new, new]
    assert new != old
    ready = next(e.data["ready_since"] for e in done.run.steps[0].evidence if e.name == "agent")
    assert asked(stage)[0].at.isoformat()[:19] > ready[:19]
    assert "cilium-dbg status --brief says OK, cilium-health status --probe -o json reaches every node" in plan(done)


async def test_a_dry_run_says_it_and_asks_nothing_of_the_agent(stage):
    done = await stage.step(ACTION, dry_run=True, exec=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "inside of its container" in plan(done)
    assert asked(stage) == []


async def test_the_proof_waits_until_the_status_is_ok(stage):
    stage.cluster.agents.complaints["node-3"] = "kubernetes: timeout"
    task = asyncio.create_task(stage.step(ACTION, ready_for="5s", exec=True))
    await stage.until(lambda: len(asked(stage)) > 3)
    assert not task.done(), "its code is 0, its word is not OK"
    stage.cluster.agents.complaints.clear()
    done = await task
    assert done.end is StepEnd.SUCCEEDED, done.detail


async def test_a_status_that_stays_wrong_fails_at_the_time_out(stage):
    stage.cluster.agents.complaints["node-3"] = "kubernetes: timeout"
    done = await stage.step(ACTION, ready_for="5s", lasting="4m", exec=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "cilium-dbg status --brief says: error in kubernetes: timeout" in done.detail


async def test_a_code_other_than_0_is_no_proof(stage):
    stage.cluster.agents.complaints["node-3"] = "cilium: not ready"
    done = await stage.step(ACTION, ready_for="5s", lasting="4m", exec=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "ended with code 1: error in cilium: not ready" in done.detail


async def test_a_node_that_the_agent_does_not_reach_is_no_proof(stage):
    stage.cluster.network.degrade_pair("node-3", "node-5", loss=1)
    done = await stage.step(ACTION, ready_for="5s", lasting="4m", exec=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "the agent does not reach node-5 (ICMP: Connection timed out)" in done.detail


async def test_output_that_was_cut_is_no_proof(stage, monkeypatch):
    monkeypatch.setattr(asking.inside, "LONGEST", 10)
    done = await stage.step(ACTION, ready_for="5s", lasting="4m", exec=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "answer of cilium-health status --probe -o json is too long" in done.detail


async def test_a_missing_right_is_known_before_anything_is_deleted(stage):
    stage.cluster.fail(path="selfsubjectaccessreviews", status=201, text='{"status": {"allowed": false}}', count=None)
    done = await stage.step(ACTION, exec=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.UNREADABLE)
    assert "exec: true needs the right to get and create pods/exec in kube-system" in done.detail
    assert stage.writes() == []


async def test_a_right_that_went_meanwhile_fails_at_once_and_says_so(stage):
    stage.cluster.fail(path="/exec", status=403, message='cannot create resource "pods/exec"', count=None)
    done = await stage.step(ACTION, ready_for="5s", exec=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    assert "could not be asked: GET /api/v1/namespaces/kube-system/pods/" in done.detail
    assert '403 Forbidden: cannot create resource "pods/exec"' in done.detail
    assert len(asked(stage)) == 1


async def test_an_agent_that_does_not_answer_in_time_is_asked_again(stage, monkeypatch):
    monkeypatch.setattr(asking, "_LONGEST", timedelta(seconds=1))
    stage.cluster.slow(timedelta(hours=1), path="/exec", count=1)
    done = await stage.step(ACTION, ready_for="5s", exec=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len(asked(stage)) == 3


async def test_a_kubelet_that_is_away_is_no_proof(stage):
    stage.cluster.fail(path="/exec", status=500, message="error dialing backend", count=None)
    done = await stage.step(ACTION, ready_for="5s", lasting="4m", exec=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "the agent could not be asked: GET" in done.detail
    assert "error dialing backend" in done.detail


def test_its_right_is_apart_from_the_others():
    action = actions()[ACTION]
    assert not [rule for rule in action.rbac if "pods/exec" in rule.resources]
    described = action.describe()
    assert "pods/exec" not in str(described["rbac"])
    assert described["optional_rbac"] == {
        "exec": [{"groups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"], "scope": "cilium.namespace"}]
    }
    assert all(set(one.optional_rbac) <= set(one.Parameters.model_fields) for one in actions().values())
