"""``cilium.restart_envoy`` on the simulated cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from remediator import facts
from remediator.kube import kinds
from remediator.model import PLAN, ChangeState, StepState, evolve
from remediator.reasons import Reason
from remediator.run import StepEnd

ACTION = "cilium.restart_envoy"


@pytest.fixture(autouse=True)
def patient(stage, monkeypatch):
    """A busy machine is no hanging system."""
    stage.lasting = "20m"
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


def envoys(stage):
    pods = [p for p in stage.cluster.objects("Pod", "kube-system") if p["metadata"]["labels"].get("k8s-app") == "cilium-envoy"]
    return {p["spec"]["nodeName"]: p["metadata"]["uid"] for p in pods if "deletionTimestamp" not in p["metadata"]}


def envoy(stage, node="node-3"):
    pods = stage.cluster.indexes.pods_on(node)
    return next(p for p in pods if p["metadata"]["labels"].get("k8s-app") == "cilium-envoy")


async def patch(stage, body, name="cilium-envoy", type="strategic"):  # noqa: A002 - kubectl's word
    await stage.world.kube.patch(kinds.DAEMONSET, name, body, "kube-system", type=type)


async def test_replaces_the_envoy_of_that_node_and_nothing_else(stage):
    before, agents = envoys(stage), stage.agents()
    done = await stage.step(ACTION, ready_for="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    after = envoys(stage)
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    assert stage.agents() == agents
    assert [verb for verb, _ in stage.writes()] == ["delete"]
    assert stage.cluster.writes()[0].body["preconditions"] == {"uid": before["node-3"]}
    (change,) = done.run.steps[0].changes
    assert (change.state, change.resource.uid) == (ChangeState.KEPT, before["node-3"])
    lines = next(e.data for e in done.run.steps[0].evidence if e.name == PLAN)
    assert lines[0].startswith(f"delete pod kube-system/{change.resource.name} (uid {before['node-3']}, Ready)")
    assert any("proxied connections" in line for line in lines)


async def test_a_dry_run_sends_the_same_call_and_changes_nothing(stage):
    before = envoys(stage)
    done = await stage.step(ACTION, dry_run=True)
    assert (done.end, envoys(stage), stage.writes()) == (StepEnd.SUCCEEDED, before, [])
    assert done.run.steps[0].changes[0].dry_run


async def test_refuses_where_envoy_runs_inside_of_the_agents(stage):
    await stage.world.kube.delete(kinds.DAEMONSET, "cilium-envoy", "kube-system")
    await stage.until(lambda: not envoys(stage))
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)
    assert "inside of the agents" in done.detail


async def test_refuses_on_a_node_that_it_does_not_run_on(stage):
    await patch(stage, {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "node-1"}}}}})
    await stage.until(lambda: set(envoys(stage)) == {"node-1"})
    await stage.until(lambda: not _rolls(stage))
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING), done.detail
    assert "no Envoy pod on node-3" in done.detail


async def test_refuses_while_the_nodes_agent_gives_it_no_listeners(stage):
    stage.cluster.kill_agent("node-3")
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.AGENT_NOT_READY)
    assert "listeners" in done.detail
    assert stage.writes() == []


async def test_refuses_while_agents_of_other_nodes_are_down(stage):
    stage.cluster.kill_agent("node-4")
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.AGENT_NOT_READY)


async def test_refuses_where_a_restart_would_upgrade(stage):
    await patch(stage, {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}})
    await patch(stage, {"spec": {"template": {"metadata": {"annotations": {"rolled": "yes"}}}}})
    await stage.until(lambda: (stage.cluster.get("DaemonSet", "cilium-envoy", "kube-system")["status"]["observedGeneration"]) >= 3)
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.ROLLOUT_IN_PROGRESS), done.detail
    assert "would upgrade" in done.detail


async def test_refuses_an_envoy_that_crashes_by_itself(stage):
    for _ in range(3):
        stage.cluster.kubelets.crash(envoy(stage))
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.CRASH_LOOPING)
    assert "-c cilium-envoy -p" in done.detail


async def test_fails_when_the_new_one_crashes_while_it_is_watched(stage):
    old = envoys(stage)["node-3"]
    task = asyncio.create_task(stage.step(ACTION, ready_for="10m", lasting="20m"))
    await stage.until(lambda: envoys(stage).get("node-3", old) != old and _ready(envoy(stage)))
    await stage.until(lambda: _told(stage))
    stage.cluster.kubelets.crash(envoy(stage))
    done = await task
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    assert "restarted by itself" in done.detail


async def test_a_second_entry_after_the_delete_sends_nothing_again(stage):
    playbook = stage.playbook(ACTION, ready_for="2s")
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    (change,) = done.run.steps[0].changes
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED, ended_at=None))
    await stage.world.journal.save_step(run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await stage.carry(playbook, run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert [verb for verb, _ in stage.writes()] == ["delete"]


async def test_where_readiness_is_the_symptom_it_is_left_to_the_playbook(stage, monkeypatch):
    monkeypatch.setattr(stage.cluster, "timing", replace(stage.cluster.timing, pod_start=timedelta(hours=5)))
    old = envoys(stage)["node-3"]
    done = await stage.step(ACTION, wait_ready=False)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert envoys(stage)["node-3"] != old
    assert not _ready(envoy(stage))
    assert done.detail.endswith(f"was replaced by {envoy(stage)['metadata']['name']}")
    lines = next(e.data for e in done.run.steps[0].evidence if e.name == PLAN)
    assert "wait for the new Envoy's pod; whether it gets Ready is for the playbook to verify" in lines


def _rolls(stage):
    status = stage.cluster.get("DaemonSet", "cilium-envoy", "kube-system")["status"]
    return status["updatedNumberScheduled"] != status["desiredNumberScheduled"]


def _ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def _told(stage):
    """Whether the action asked about the node's Envoy once more since its pod is ready."""
    now, ready = stage.world.clock.now(), next(c for c in envoy(stage)["status"]["conditions"] if c["type"] == "Ready")
    from datetime import datetime, timedelta

    return now - datetime.fromisoformat(ready["lastTransitionTime"]) > timedelta(seconds=30)
