"""``cilium.restart_agent`` on the simulated cluster: each refusal and each proof of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.clock import iso
from remediator.gates import Limits
from remediator.model import ChangeState, StepState
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.settings import Share

ACTION = "cilium.restart_agent"


async def test_replaces_the_hung_agent_of_that_node_and_no_other(stage):
    before = stage.agents()
    stage.cluster.kill_agent("node-3")
    done = await stage.step(ACTION, ready_for="10s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    after = stage.agents()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    assert [verb for verb, _ in stage.writes()] == ["delete"]
    (change,) = done.run.steps[0].changes
    assert (change.state, change.resource.uid) == (ChangeState.KEPT, before["node-3"])
    assert not change.left_behind


async def test_a_dry_run_sends_the_same_call_and_changes_nothing(stage):
    stage.cluster.kill_agent("node-3")
    before = stage.agents()
    done = await stage.step(ACTION, dry_run=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert stage.agents() == before
    (change,) = done.run.steps[0].changes
    assert change.dry_run
    assert not change.left_behind
    assert stage.writes() == []


async def test_refuses_on_a_node_that_is_not_ready(stage):
    stage.cluster.stop_kubelet("node-3")
    await stage.until(lambda: not _ready(stage.cluster.get("Node", "node-3")))
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.AGENT_NOT_READY)
    assert "not Ready" in done.detail
    assert stage.writes() == []


async def test_refuses_a_crash_loop(stage):
    stage.cluster.kill_agent("node-3", "crash_loop")
    await stage.until(lambda: _restarts(stage.cluster.agent_pod("node-3")) >= 3)
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.CRASH_LOOPING)
    assert "logs" in done.detail
    assert stage.writes() == []


async def test_refuses_while_another_agent_is_down(stage):
    stage.world.limits = Limits(max_disturbed=Share(percent=100))  # else disturbance_budget and partition refuse before the action looks
    stage.world.prometheus = None
    stage.cluster.kill_agent("node-4")
    stage.cluster.kill_agent("node-3")
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.AGENT_NOT_READY)
    assert stage.cluster.agent_pod("node-4")["metadata"]["name"] in done.detail
    assert stage.writes() == []


async def test_refuses_without_an_operator(stage):
    deployment = await stage.world.kube.get(_kind("Deployment"), "cilium-operator", "kube-system")
    await stage.world.kube.patch(
        _kind("Deployment"), "cilium-operator", {"spec": {"replicas": 0}}, deployment["metadata"]["namespace"], type="merge"
    )
    await stage.until(lambda: not stage.cluster.operator_works())
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.OPERATOR_DOWN)


async def test_refuses_where_a_restart_would_upgrade(stage):
    patch = {"spec": {"updateStrategy": {"type": "OnDelete"}, "template": {"metadata": {"annotations": {"rolled": "yes"}}}}}
    await stage.world.kube.patch(_kind("DaemonSet"), "cilium", patch, "kube-system", type="strategic")
    await stage.world.clock.sleep(timedelta(seconds=20))
    before = len(stage.writes())
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.ROLLOUT_IN_PROGRESS), done.detail
    assert len(stage.writes()) == before


@pytest.mark.parametrize("hung", [False, True])
async def test_a_failing_scrape_is_no_reason_while_the_pod_is_ready(stage, hung):
    from remediator.model import Alert, AlertStatus, evolve

    if hung:
        stage.cluster.kill_agent("node-3")
    now = stage.world.clock.now()
    alert = Alert(name="CiliumAgentScrapeDown", fingerprint="f", starts_at=now, status=AlertStatus.FIRING, labels={"node": "node-3"})
    playbook = stage.playbook(ACTION, scrape_alerts=["CiliumAgentScrapeDown"], ready_for="5s")
    run = await stage.begin(playbook, node="node-3")
    await stage.world.journal.save_run(evolve(run, alert=alert))
    done = await stage.carry(playbook, run)
    assert done.reason is (None if hung else Reason.STALE_METRIC)
    assert len(stage.writes()) == hung


async def test_fails_when_the_new_agent_does_not_get_ready_in_time(stage):
    stage.cluster.kill_agent("node-3")
    stage.simulation.cluster.timing = _slow_agents(stage.cluster.timing)
    done = await stage.step(ACTION, lasting="20s")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert done.run.steps[0].changes[0].state is ChangeState.KEPT


async def test_a_second_entry_after_the_delete_sends_nothing_again(stage):
    """As after a crash between the call and its outcome: the intent is on disk, the old pod is gone."""
    stage.cluster.kill_agent("node-3")
    playbook = stage.playbook(ACTION, ready_for="5s")
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    assert done.end is StepEnd.SUCCEEDED
    from remediator.model import evolve

    (change,) = done.run.steps[0].changes
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED, ended_at=None))
    await stage.world.journal.save_step(run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await stage.carry(playbook, run)
    assert again.end is StepEnd.SUCCEEDED
    assert [verb for verb, _ in stage.writes()] == ["delete"]
    (looked,) = again.run.steps[0].changes
    assert looked.state is ChangeState.KEPT
    assert "after a restart" in looked.detail


async def test_a_second_entry_before_the_delete_was_sent_sends_it_once_as_a_new_change(stage):
    from remediator.model import Change, Resource, evolve, new_id

    stage.cluster.kill_agent("node-3")
    playbook = stage.playbook(ACTION, ready_for="5s")
    run = await stage.begin(playbook, node="node-3")
    pod = stage.cluster.agent_pod("node-3")["metadata"]
    now = stage.world.clock.now()
    never_sent = Change(
        id=new_id(now),
        run=run.id,
        step="it",
        action=ACTION,
        verb="delete",
        resource=Resource(kind="Pod", namespace="kube-system", name=pod["name"], uid=pod["uid"]),
        state=ChangeState.INTENDED,
        at=now,
    )
    await stage.world.journal.save_change(never_sent)
    await stage.world.journal.save_step(run.id, evolve(run.steps[0], state=StepState.RUNNING, started_at=now))
    done = await stage.carry(playbook, run)
    assert done.end is StepEnd.SUCCEEDED
    states = [c.state for c in done.run.steps[0].changes]
    assert states == [ChangeState.ABSENT, ChangeState.KEPT]
    assert [verb for verb, _ in stage.writes()] == ["delete"]


async def test_a_lost_answer_is_looked_into_and_not_sent_again(stage):
    stage.cluster.kill_agent("node-3")
    stage.cluster.drop(verb="delete", path="/pods/", when="after")
    done = await stage.step(ACTION, ready_for="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len([verb for verb, _ in stage.writes()]) == 1
    assert "seen to have taken effect" in done.run.steps[0].changes[0].detail


async def test_a_refusal_of_the_api_changes_nothing_and_fails_the_step(stage):
    stage.cluster.kill_agent("node-3")
    stage.cluster.fail(verb="delete", path="/pods/", status=403)
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    assert done.run.steps[0].changes[0].state is ChangeState.ABSENT


@pytest.mark.parametrize("minutes", [1, 29])
def test_a_crash_counts_for_half_an_hour(minutes):
    from datetime import UTC, datetime

    from remediator.actions.cilium import _refuse_crash_loop
    from remediator.errors import Refused

    now = datetime(2026, 1, 5, 10, tzinfo=UTC)
    ended = {"terminated": {"finishedAt": iso(now - timedelta(minutes=minutes))}}
    pod = {
        "metadata": {"name": "p", "namespace": "n"},
        "status": {"containerStatuses": [{"name": "c", "restartCount": 3, "lastState": ended, "state": {"running": {}}}]},
    }
    with pytest.raises(Refused):
        _refuse_crash_loop(pod, now)
    _refuse_crash_loop(pod, now + timedelta(minutes=30))


def _kind(name):
    from remediator.kube import kinds

    return kinds.by_name(name)


def _ready(thing):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in thing["status"]["conditions"])


def _restarts(pod):
    return sum(c.get("restartCount", 0) for c in pod["status"].get("containerStatuses", ()))


def _slow_agents(timing):
    import dataclasses

    fields = {f.name for f in dataclasses.fields(timing)}
    name = next(n for n in fields if "agent" in n and ("start" in n or "ready" in n))
    return dataclasses.replace(timing, **{name: timedelta(minutes=10)})
