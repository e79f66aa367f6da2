"""``cilium.restart_operator`` on the simulated cluster."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator import facts
from remediator.kube import kinds
from remediator.match import find
from remediator.model import PLAN, ChangeState, StepState, evolve
from remediator.reasons import Reason
from remediator.run import StepEnd

ACTION = "cilium.restart_operator"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


@pytest.fixture(autouse=True)
def patient(stage, monkeypatch):
    """A busy machine is no hanging system."""
    stage.lasting = "20m"
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


def operators(stage):
    pods = [p for p in stage.cluster.objects("Pod", "kube-system") if stage.cluster.is_operator(p)]
    return {p["metadata"]["uid"] for p in pods if "deletionTimestamp" not in p["metadata"]}


def leader(stage):
    return stage.cluster.get("Lease", "cilium-operator-resource-lock", "kube-system")["spec"]["holderIdentity"]


@pytest.fixture
def restart(stage):
    """The step on that Deployment; the stage's own runs are on nodes."""

    async def go(name="cilium-operator", namespace="kube-system", *, dry_run=False, run=None, lasting="20m", **parameters):
        playbook = stage.playbook(ACTION, lasting=lasting, **{"ready_for": "5s", **parameters})
        if run is None:
            run = await stage.begin(playbook, node="node-3", dry_run=dry_run)
            run = evolve(run, target=await find("Deployment", name, namespace, stage.world.kube))
            await stage.world.journal.save_run(run)
        return await stage.carry(playbook, run)

    return go


async def patch(stage, body, name="cilium-operator"):
    await stage.world.kube.patch(kinds.DEPLOYMENT, name, body, "kube-system", type="merge")


async def test_every_replica_is_new_and_another_one_leads(stage, restart):
    before, led, agents = operators(stage), leader(stage), stage.agents()
    done = await restart()
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert operators(stage).isdisjoint(before)
    assert len(operators(stage)) == len(before) == 2
    assert leader(stage) != led
    assert leader(stage) in done.detail
    assert stage.agents() == agents
    assert [verb for verb, _ in stage.writes()] == ["patch"]
    (change,) = done.run.steps[0].changes
    assert (change.state, change.left_behind) == (ChangeState.KEPT, False)
    template = stage.cluster.get("Deployment", "cilium-operator", "kube-system")["spec"]["template"]
    assert template["metadata"]["annotations"][RESTARTED_AT] == change.after[RESTARTED_AT]
    lines = next(e.data for e in done.run.steps[0].evidence if e.name == PLAN)
    assert f"2 of 2 replicas available; {led} leads now" in lines[0]


async def test_a_dry_run_changes_nothing(stage, restart):
    before, version = operators(stage), stage.cluster.get("Deployment", "cilium-operator", "kube-system")["metadata"]["resourceVersion"]
    done = await restart(dry_run=True)
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "would restart Deployment/kube-system/cilium-operator")
    assert operators(stage) == before
    assert stage.cluster.get("Deployment", "cilium-operator", "kube-system")["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize(("name", "namespace"), [("coredns", "kube-system"), ("whoami", "apps")])
async def test_refuses_what_is_not_the_operator(stage, restart, name, namespace):
    done = await restart(name, namespace)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)
    assert "is not Cilium's operator" in done.detail
    assert stage.writes() == []


async def test_refuses_a_node(stage):
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)


@pytest.mark.parametrize(
    ("spec", "reason", "said"),
    [({"paused": True}, Reason.ROLLOUT_IN_PROGRESS, "paused"), ({"replicas": 0}, Reason.OPERATOR_DOWN, "scaled to 0")],
)
async def test_refuses_an_operator_that_a_restart_would_not_start(stage, restart, spec, reason, said):
    await patch(stage, {"spec": spec})
    await stage.until(lambda: _settled(stage))
    done = await restart()
    assert (done.end, done.reason) == (StepEnd.FAILED, reason), done.detail
    assert said in done.detail


async def test_refuses_one_that_crashes_by_itself(stage, restart):
    pod = next(p for p in stage.cluster.objects("Pod", "kube-system") if stage.cluster.is_operator(p))
    for _ in range(3):
        stage.cluster.kubelets.crash(pod)
    done = await restart()
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.CRASH_LOOPING), done.detail


async def test_refuses_while_cilium_is_rolled_out(stage, restart):
    template = {"metadata": {"annotations": {"rolled": "yes"}}, "spec": {"terminationGracePeriodSeconds": 1}}
    await stage.world.kube.patch(kinds.DAEMONSET, "cilium", {"spec": {"template": template}}, "kube-system", type="merge")
    done = await restart()
    assert done.end is StepEnd.REFUSED, done.detail
    assert Reason.ROLLOUT_IN_PROGRESS in {verdict.reason for verdict in done.run.gates}, "besides what agents that restart look like"


async def test_fails_while_no_new_replica_leads(stage, restart):
    """The lease stays with a name that no pod has: somebody outside holds it."""
    election = next(c for c in stage.cluster.loop._by_table["", "pods"] if type(c).__name__ == "LeaderElection")
    election._take_over = lambda: None
    done = await restart(lasting="4m")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "no new replica leads yet" in done.detail


async def test_a_second_entry_after_the_patch_sends_nothing_again(stage, restart):
    done = await restart()
    (change,) = done.run.steps[0].changes
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED, ended_at=None))
    await stage.world.journal.save_step(done.run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await restart(run=done.run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert [verb for verb, _ in stage.writes()] == ["patch"]


@pytest.mark.parametrize(("stamp", "seen"), [("before", "absent"), ("ours", "applied"), ("of others", "unclear")])
async def test_what_became_of_a_lost_patch_is_told_by_the_annotation(stage, restart, stamp, seen):
    from remediator.actions.cilium_operator import RestartOperator
    from remediator.model import Change, Resource, new_id

    await patch(stage, {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: stamp}}}}})
    uid = stage.cluster.get("Deployment", "cilium-operator", "kube-system")["metadata"]["uid"]
    now = stage.world.clock.now()
    change = Change(
        id=new_id(now),
        run="r",
        step="it",
        action=ACTION,
        verb="patch",
        resource=Resource(kind="Deployment", namespace="kube-system", name="cilium-operator", uid=uid),
        before={RESTARTED_AT: "before"},
        after={RESTARTED_AT: "ours"},
        state=ChangeState.INTENDED,
        at=now,
    )
    ctx = type("Ctx", (), {"kube": stage.world.kube})()
    assert (await RestartOperator().observe(ctx, change)).value == seen
    recreated = evolve(change, resource=evolve(change.resource, uid="another"))
    assert (await RestartOperator().observe(ctx, recreated)).value == "absent"


async def test_a_lost_answer_is_looked_into_and_not_sent_again(stage, restart):
    stage.cluster.drop(verb="patch", path="/deployments/", when="after")
    done = await asyncio.wait_for(restart(), 60)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len(stage.writes()) == 1


def _settled(stage):
    found = stage.cluster.get("Deployment", "cilium-operator", "kube-system")
    seen = found["status"]["observedGeneration"] == found["metadata"]["generation"]
    return seen and len(operators(stage)) == found["spec"]["replicas"] == found["status"].get("replicas", 0)
