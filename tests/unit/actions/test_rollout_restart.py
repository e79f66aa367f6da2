"""``workload.rollout_restart`` on the simulated cluster."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator import facts
from remediator.actions.workload import RolloutRestart
from remediator.kube import kinds
from remediator.model import PLAN, Change, ChangeState, Resource, StepState, evolve, new_id
from remediator.reasons import Reason
from remediator.run import StepEnd

ACTION = "workload.rollout_restart"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
KINDS = {"Deployment": kinds.DEPLOYMENT, "StatefulSet": kinds.STATEFULSET, "DaemonSet": kinds.DAEMONSET}


@pytest.fixture(autouse=True)
def patient(stage, monkeypatch):
    """A busy machine is no hanging system."""
    stage.lasting = "20m"
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


@pytest.fixture
def grow(stage):
    """A workload named ``app`` in ``apps``, of which every pod runs."""

    async def go(kind, replicas=2, *, annotations=None, **spec):
        labels = {"app": "app"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
        body = {"selector": {"matchLabels": labels}, "template": template, **spec}
        body |= {"replicas": replicas} if kind != "DaemonSet" else {}
        body |= {"serviceName": ""} if kind == "StatefulSet" else {}
        meta = {"name": "app", "namespace": "apps", "annotations": annotations or {}}
        stage.cluster.create({"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": body})
        wanted = 5 if kind == "DaemonSet" else replicas
        await stage.until(lambda: len(pods(stage, ready=True)) == wanted)
        await stage.until(lambda: _settled(stage, kind, wanted))

    return go


def _settled(stage, kind, wanted):
    status = stage.cluster.get(kind, "app", "apps")["status"]
    return status.get("numberAvailable" if kind == "DaemonSet" else "availableReplicas", 0) == wanted


def pods(stage, *, ready=False):
    found = [p for p in stage.cluster.objects("Pod", "apps") if p["metadata"]["labels"].get("app") == "app"]
    conditions = {p["metadata"]["uid"]: {c["type"]: c["status"] for c in p["status"].get("conditions", ())} for p in found}
    return {p["metadata"]["uid"]: p for p in found if not ready or conditions[p["metadata"]["uid"]].get("Ready") == "True"}


def on(kind, **more):
    return {"kind": kind, "namespace": "apps", "name": "app", "ready_for": "2s", **more}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_pod_is_new_and_works(stage, grow, kind):
    await grow(kind)
    before = pods(stage)
    done = await stage.step(ACTION, **on(kind))
    assert done.end is StepEnd.SUCCEEDED, done.detail
    after = pods(stage, ready=True)
    assert after.keys().isdisjoint(before)
    assert len(after) == len(before)
    assert [verb for verb, _ in stage.writes()] == ["patch"]
    (change,) = done.run.steps[0].changes
    assert (change.state, change.left_behind) == (ChangeState.KEPT, False)
    found = stage.cluster.get(kind, "app", "apps")
    assert found["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT] == change.after[RESTARTED_AT]
    assert f"restart {kind}/apps/app by a rollout" in next(e.data for e in done.run.steps[0].evidence if e.name == PLAN)[0]


async def test_a_dry_run_asks_the_server_and_changes_nothing(stage, grow):
    await grow("Deployment")
    before = pods(stage)
    done = await stage.step(ACTION, dry_run=True, **on("Deployment"))
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "would restart Deployment/apps/app")
    assert pods(stage).keys() == before.keys()
    assert stage.writes() == []


async def test_one_replica_only_by_name(stage, grow):
    await grow("Deployment", 1)
    done = await stage.step(ACTION, **on("Deployment"))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.SINGLE_REPLICA)
    assert stage.writes() == []
    await stage.over(done.run)
    done = await stage.step(ACTION, **on("Deployment", allow_single_replica=["apps/app"]))
    assert done.end is StepEnd.SUCCEEDED, done.detail


HELD = {
    "paused": ("Deployment", {"paused": True}, Reason.ROLLOUT_IN_PROGRESS, "is paused"),
    "on delete": ("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, Reason.ROLLOUT_IN_PROGRESS, "updates OnDelete"),
    "a partition": (
        "StatefulSet",
        {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}},
        Reason.ROLLOUT_IN_PROGRESS,
        "partition 1",
    ),
    "no replicas": ("Deployment", {"replicas": 0}, Reason.TARGET_MISSING, "scaled to 0"),
}


@pytest.mark.parametrize("case", HELD)
async def test_refuses_what_a_new_template_would_not_restart(stage, grow, case):
    kind, spec, reason, said = HELD[case]
    await grow(kind)
    await stage.world.kube.patch(KINDS[kind], "app", {"spec": spec}, "apps", type="merge")
    await stage.until(lambda: _seen(stage, kind))
    done = await stage.step(ACTION, **on(kind))
    assert (done.end, done.reason) == (StepEnd.FAILED, reason), done.detail
    assert said in done.detail


@pytest.mark.parametrize("kind", KINDS)
async def test_refuses_in_mid_rollout(stage, grow, kind):
    await grow(kind)
    stage.cluster.kubelets._start = lambda pod: None  # no new pod ever starts
    template = {"metadata": {"annotations": {"by": "others"}}}
    await stage.world.kube.patch(KINDS[kind], "app", {"spec": {"template": template}}, "apps", type="merge")
    await stage.until(lambda: _seen(stage, kind))
    done = await stage.step(ACTION, **on(kind))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.ROLLOUT_IN_PROGRESS), done.detail


def _seen(stage, kind):
    found = stage.cluster.get(kind, "app", "apps")
    status = found["status"]
    done = found["spec"].get("replicas", -1) != 0 or not status.get("replicas")
    return done and status["observedGeneration"] == found["metadata"]["generation"]


async def test_refuses_what_crashes_by_itself(stage, grow):
    await grow("Deployment")
    one = next(iter(pods(stage).values()))
    for _ in range(3):
        stage.cluster.kubelets.crash(one)
    done = await stage.step(ACTION, **on("Deployment"))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.CRASH_LOOPING), done.detail
    assert "read its logs" in done.detail


@pytest.mark.parametrize("where", ["the workload", "its namespace"])
async def test_refuses_what_is_marked_though_the_target_is_another(stage, grow, where):
    await grow("Deployment", annotations={"remediator.dev/protected": "true"} if where == "the workload" else None)
    if where == "its namespace":
        body = {"metadata": {"labels": {"remediator.dev/protected": "true"}}}
        await stage.world.kube.patch(kinds.NAMESPACE, "apps", body, type="merge")
    done = await stage.step(ACTION, **on("Deployment"))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED), done.detail


@pytest.mark.parametrize(("kind", "name"), [("DaemonSet", "cilium"), ("Deployment", "cilium-operator")])
async def test_leaves_cilium_to_its_own_actions(stage, kind, name):
    done = await stage.step(ACTION, kind=kind, namespace="kube-system", name=name)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED)
    assert "cilium.restart_" in done.detail


@pytest.mark.parametrize(("owner", "ends"), [("kubectl-rollout", StepEnd.SUCCEEDED), ("argocd-controller", StepEnd.FAILED)])
async def test_gitops_is_no_hindrance_unless_git_has_the_annotation_itself(stage, grow, owner, ends):
    await grow("Deployment", annotations={"argocd.argoproj.io/tracking-id": "apps:apps/Deployment:apps/app"})
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: "2026-01-01T00:00:00Z"}}}}}
    url = f"{stage.simulation.url}/apis/apps/v1/namespaces/apps/deployments/app?fieldManager={owner}"
    import aiohttp

    headers = {"Content-Type": "application/merge-patch+json"}
    async with aiohttp.ClientSession() as session, session.patch(url, json=body, headers=headers) as answer:
        assert answer.status == 200
    await stage.until(lambda: _settled(stage, "Deployment", 2) and _seen(stage, "Deployment") and _one_revision(stage))
    done = await stage.step(ACTION, **on("Deployment"))
    assert done.end is ends, done.detail
    assert done.reason is (Reason.GITOPS_MANAGED if ends is StepEnd.FAILED else None)


def _one_revision(stage):
    return len({p["metadata"]["labels"]["pod-template-hash"] for p in pods(stage).values()}) == 1 and len(pods(stage)) == 2


async def test_fails_when_new_pods_do_not_work(stage, grow):
    await grow("Deployment")
    stage.cluster.kubelets._start = lambda pod: None
    done = await stage.step(ACTION, lasting="2m", **on("Deployment"))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "old pods are still there" in done.detail


async def test_neither_a_target_nor_a_name_that_is_a_workload(stage):
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)
    await stage.over(done.run)
    done = await stage.step(ACTION, **on("Deployment"))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)
    assert "does not exist" in done.detail


async def test_a_second_entry_after_the_patch_sends_nothing_again(stage, grow):
    await grow("Deployment")
    playbook = stage.playbook(ACTION, **on("Deployment"))
    done = await stage.carry(playbook, await stage.begin(playbook, node="node-3"))
    (change,) = done.run.steps[0].changes
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED, ended_at=None))
    await stage.world.journal.save_step(done.run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await stage.carry(playbook, done.run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert [verb for verb, _ in stage.writes()] == ["patch"]


@pytest.mark.parametrize(("stamp", "seen"), [("before", "absent"), ("ours", "applied"), ("of others", "unclear")])
async def test_what_became_of_a_lost_patch_is_told_by_the_annotation(stage, stamp, seen):
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: stamp}}}}}
    await stage.world.kube.patch(kinds.DEPLOYMENT, "whoami", body, "apps", type="merge")
    now = stage.world.clock.now()
    uid = stage.cluster.get("Deployment", "whoami", "apps")["metadata"]["uid"]
    change = Change(
        id=new_id(now),
        run="r",
        step="it",
        action=ACTION,
        verb="patch",
        resource=Resource(kind="Deployment", namespace="apps", name="whoami", uid=uid),
        before={RESTARTED_AT: "before"},
        after={RESTARTED_AT: "ours"},
        state=ChangeState.INTENDED,
        at=now,
    )
    ctx = type("Ctx", (), {"kube": stage.world.kube})()
    assert (await RolloutRestart().observe(ctx, change)).value == seen
    recreated = evolve(change, resource=evolve(change.resource, uid="another"))
    assert (await RolloutRestart().observe(ctx, recreated)).value == "absent"
