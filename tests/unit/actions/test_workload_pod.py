"""``workload.delete_pod`` and ``workload.evict_pod`` on the simulated cluster."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator import facts
from remediator.kube import kinds
from remediator.model import ChangeState
from remediator.reasons import Reason
from remediator.run import StepEnd

BOTH = ("workload.delete_pod", "workload.evict_pod")


@pytest.fixture(autouse=True)
def patient(stage, monkeypatch):
    """A busy machine is no hanging system."""
    stage.lasting = "20m"
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


def uids(stage, namespace="apps", **labels):
    found = [p for p in stage.cluster.objects("Pod", namespace) if labels.items() <= p["metadata"]["labels"].items()]
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in found}


def on(name="", **more):
    return {"namespace": "apps", "ready_for": "2s", **({"name": name} if name else {}), **more}


async def sts(stage, replicas=2):
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
    spec = {"replicas": replicas, "serviceName": "", "selector": {"matchLabels": {"app": "db"}}, "template": template}
    stage.cluster.create({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "apps"}, "spec": spec})
    await stage.until(lambda: stage.cluster.get("StatefulSet", "db", "apps").get("status", {}).get("readyReplicas") == replicas)


@pytest.mark.parametrize("action", BOTH)
async def test_one_pod_of_a_deployment_is_replaced_and_the_others_stay(stage, farm, action):
    await farm.plant(farm.deployment("web", 3))
    before = uids(stage)
    name = min(before)
    done = await stage.step(action, **on(name))
    assert done.end is StepEnd.SUCCEEDED, done.detail
    after = uids(stage)
    assert len(after) == 3
    assert before.keys() - after.keys() == {name}
    (change,) = done.run.steps[0].changes
    assert (change.state, change.left_behind, change.resource.uid) == (ChangeState.KEPT, False, before[name])
    assert [verb for verb, _ in stage.writes()] == ["delete" if action.endswith("delete_pod") else "create"]
    (new,) = after.keys() - before.keys()
    assert new in done.detail


@pytest.mark.parametrize("action", BOTH)
async def test_one_of_a_statefulset_keeps_its_name(stage, action):
    await sts(stage)
    before = uids(stage, app="db")
    done = await stage.step(action, **on("db-1"))
    assert done.end is StepEnd.SUCCEEDED, done.detail
    after = uids(stage, app="db")
    assert (after["db-0"], after.keys()) == (before["db-0"], before.keys())
    assert after["db-1"] != before["db-1"]


async def test_one_of_a_daemonset_is_found_by_its_node(stage):
    before = uids(stage, "kube-system", **{"k8s-app": "cilium-envoy"})
    where = {"namespace": "kube-system", "labels": "k8s-app=cilium-envoy", "fields": "spec.nodeName=node-3", "ready_for": "2s"}
    done = await stage.step("workload.delete_pod", **where)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len(before.items() - uids(stage, "kube-system", **{"k8s-app": "cilium-envoy"}).items()) == 1


async def test_a_dry_run_changes_nothing(stage):
    before = uids(stage)
    done = await stage.step("workload.evict_pod", dry_run=True, **on(next(iter(before))))
    assert done.end is StepEnd.SUCCEEDED
    assert "would evict" in done.detail
    assert (uids(stage), stage.writes()) == (before, [])


async def test_an_eviction_keeps_to_the_budget_and_a_delete_does_not_ask(stage, farm):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web", maxUnavailable=0))
    name = next(iter(uids(stage)))
    done = await stage.step("workload.evict_pod", **on(name))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PDB), done.detail
    assert name in uids(stage)
    await stage.over(done.run)
    done = await stage.step("workload.delete_pod", **on(name))
    assert done.end is StepEnd.SUCCEEDED, done.detail


async def test_two_budgets_on_one_pod_never_yield(stage, farm):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"), farm.pdb("again", app="web"))
    done = await stage.step("workload.evict_pod", **on(next(iter(uids(stage)))))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PDB), done.detail


@pytest.mark.parametrize("action", BOTH)
async def test_the_only_replica_only_by_name(stage, farm, action):
    await farm.plant(farm.deployment("web", 1))
    name = next(iter(uids(stage)))
    done = await stage.step(action, **on(name))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.SINGLE_REPLICA), done.detail
    await stage.over(done.run)
    done = await stage.step(action, **on(name, allow_single_replica=["web"]))
    assert done.end is StepEnd.SUCCEEDED, done.detail


@pytest.mark.parametrize("action", BOTH)
async def test_a_pod_that_nothing_makes_anew_only_by_force(stage, farm, action):
    await farm.plant(farm.bare("alone"))
    done = await stage.step(action, **on("alone"))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.UNMANAGED_PODS), done.detail
    await stage.over(done.run)
    done = await stage.step(action, **on("alone", force=True))
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "alone" not in uids(stage)


async def test_a_static_pod_never(stage, farm):
    await farm.plant(farm.bare("static", annotations={"kubernetes.io/config.mirror": "x"}))
    done = await stage.step("workload.delete_pod", **on("static", force=True))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.UNMANAGED_PODS)


async def test_refuses_in_mid_rollout(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    name = next(iter(uids(stage)))
    stage.cluster.kubelets._start = lambda pod: None
    body = {"spec": {"template": {"metadata": {"annotations": {"by": "others"}}}}}
    await stage.world.kube.patch(kinds.DEPLOYMENT, "web", body, "apps", type="merge")
    await stage.until(lambda: len(uids(stage)) > 2)
    done = await stage.step("workload.evict_pod", **on(name))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.ROLLOUT_IN_PROGRESS), done.detail


async def test_refuses_a_pod_that_crashes_by_itself(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    name, pod = next(iter(farm.pods().items()))
    for _ in range(3):
        stage.cluster.kubelets.crash(pod)
    done = await stage.step("workload.delete_pod", **on(name))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.CRASH_LOOPING), done.detail


async def test_refuses_on_a_node_that_could_not_stop_it(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    name = next(iter(uids(stage)))
    stage.wide()
    stage.cluster.stop_kubelet("node-3")
    await stage.until(lambda: _ready_status(stage, "node-3") != "True")
    done = await stage.step("workload.delete_pod", node="node-1", **on(name))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.AGENT_NOT_READY), done.detail


def _ready_status(stage, node):
    return next(c["status"] for c in stage.cluster.get("Node", node)["status"]["conditions"] if c["type"] == "Ready")


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({}, Reason.TARGET_MISSING),
        ({"namespace": "apps", "name": "nothing"}, Reason.TARGET_MISSING),
        ({"namespace": "apps", "labels": "app=nothing"}, Reason.TARGET_MISSING),
        ({"namespace": "apps", "labels": "app=whoami"}, Reason.TARGET_AMBIGUOUS),
        ({"namespace": "kube-system", "labels": "k8s-app=cilium", "fields": "spec.nodeName=node-3"}, Reason.PROTECTED),
    ],
)
async def test_refuses_what_is_not_one_pod_of_a_workload(stage, where, reason):
    done = await stage.step("workload.evict_pod", **where)
    assert (done.end, done.reason) == (StepEnd.FAILED, reason), done.detail
    assert stage.writes() == []


async def test_fails_when_the_successor_does_not_work(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    stage.cluster.kubelets._start = lambda pod: None
    done = await stage.step("workload.delete_pod", lasting="2m", **on(next(iter(uids(stage)))))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "is not ready" in done.detail
