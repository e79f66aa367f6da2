"""``node.drain`` against the real API server, its controllers and its scheduler: the points that they decide. kwok plays the kubelets."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from plugins.ground import NODE, deployment, pdb
from plugins.stage import Stage

from remediator.model import ChangeState
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

pytestmark = [pytest.mark.long, pytest.mark.controlplane, pytest.mark.timeout(300)]

ACTION = "node.drain"


@pytest.fixture
async def real(control_plane, tmp_path):
    """The stage with the real API server on it; it calls as the user remediator."""
    from remediator.actions import Cilium, actions
    from remediator.clock import SystemClock
    from remediator.gates import Limits, gates
    from remediator.journal import Journal, Redactor
    from remediator.kube import Kube
    from remediator.model import Mode
    from remediator.playbook import Library, load_playbook
    from remediator.world import World

    clock = SystemClock()
    async with (
        await Kube.connect(kubeconfig=control_plane.remediator) as kube,
    ):
        journal = await Journal.open(f"sqlite:///{tmp_path}/real.db", clock=clock)
        world = World(
            clock=clock,
            journal=journal,
            kube=kube,
            prometheus=None,
            alertmanager=None,
            redact=Redactor(),
            cilium=Cilium(),
            limits=Limits(),
            dry_run=False,
            mode_of=lambda _: Mode.AUTO,
            library=Library(),
            load_revision=partial(load_playbook, actions=actions(), gates=gates()),
        )
        yield Stage(SimpleNamespace(cluster=None), world)
        await journal.close()


def result(done, ground):
    lines = next(e.data for e in done.run.steps[0].evidence if e.name == "pods")
    return {line["pod"].split("/")[1]: line for line in lines if line["pod"].startswith(ground.namespace)}


async def drain(real, *, lasting="2m", **parameters):
    return await real.step(ACTION, node=NODE, lasting=lasting, quiet_for="2s", **parameters)


async def test_drains_behind_a_budget_and_undoes_its_cordon(real, ground, control_plane):
    ground.plant(deployment("web", 8, annotations={"controlplane/stop-after": "1s"}), pdb("web", maxUnavailable="25%"))
    mine = set(ground.pods())
    done = await drain(real)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert ground.pods() == {}
    assert {line["outcome"] for line in result(done, ground).values()} == {"evicted"}
    codes = [code for _, code in ground.evictions()]
    assert codes.count(201) == len(mine)
    assert codes.count(429) <= 2, "the budget is watched, so it is seldom asked in vain"
    undone = await undo(real.world, done.run)
    assert undone.undone == (f"uncordoned Node/{NODE}",)
    assert not control_plane.get("node", NODE)["spec"].get("unschedulable")


async def test_f3_f4_pods_of_a_daemonset_stay(real, ground, agents):
    before = agents()
    ground.plant(deployment("web", 1))
    done = await drain(real)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert agents() == before


async def test_c4_the_real_cordon_brings_the_taint(real, ground, control_plane):
    ground.plant(deployment("web", 1))
    assert (await drain(real)).end is StepEnd.SUCCEEDED

    def tainted():
        return any(t["key"] == "node.kubernetes.io/unschedulable" for t in control_plane.get("node", NODE)["spec"].get("taints", ()))

    control_plane.wait_for("the taint", tainted)


async def test_e2_w1_a_stateful_sets_pod_comes_back_elsewhere_under_its_name(real, ground, control_plane):
    stateful = deployment("db", 1) | {"kind": "StatefulSet"}
    stateful["spec"]["serviceName"] = "db"
    ground.plant(stateful)
    old = ground.pods()["db-0"]["metadata"]["uid"]
    done = await drain(real)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert ground.evictions() == [("db-0", 201)]
    new = control_plane.wait_for("db-0 elsewhere", lambda: next(iter(control_plane.get("pods", "-n", ground.namespace)["items"]), None))
    assert new["metadata"]["uid"] != old


async def test_e2_another_uid_is_refused_by_the_server_and_means_gone(real, ground):
    from remediator.drain.eviction import Answer, read
    from remediator.errors import KubeError
    from remediator.kube import kinds
    from remediator.kube.records import Pod

    ground.plant(deployment("web", 1))
    (name,) = ground.pods()
    kube = real.world.kube
    pod = await kube.get(kinds.POD, name, ground.namespace, decode=Pod)
    with pytest.raises(KubeError) as caught:
        await kube.evict(name, ground.namespace, uid="another", dry_run=True)
    assert (await read(kube, pod, caught.value)).answer is Answer.BUSY
    import msgspec

    other = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, uid="another"))
    assert (await read(kube, other, caught.value)).answer is Answer.GONE


async def test_e4_6_4_a_budget_that_does_not_yield_ends_it_with_its_numbers(real, ground, control_plane):
    """Transient by its looks: 3 of 4 must be healthy, 3 are, since one pod cannot be scheduled."""
    ground.plant(deployment("web", 3), pdb("web", minAvailable=3))
    control_plane.kubectl("patch", "pdb", "web", "-n", ground.namespace, "--type=merge", "-p", '{"spec":{"minAvailable":3}}')
    stuck = deployment("stuck", 1, labels={"app": "web", "part": "stuck"}, nodeSelector={"kubernetes.io/hostname": "nowhere"})
    control_plane.kubectl("apply", "-n", ground.namespace, "-f", "-", stdin=json.dumps(stuck))

    def seen():
        status = control_plane.get("pdb", "web", "-n", ground.namespace)["status"]
        return status["expectedPods"] == 4 and status["currentHealthy"] == 3

    control_plane.wait_for("the budget counts four", seen)
    done = await drain(real, lasting="15s")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PDB), done.detail
    assert f"{ground.namespace}/web (minAvailable 3, allows 0 now: 3 of 4 healthy, 3 needed)" in done.detail
    assert len(ground.pods()) == 3
    assert {line["outcome"] for line in result(done, ground).values()} == {"blocked_by_pdb"}


@pytest.mark.parametrize(
    ("spec", "replicas"),
    [({"maxUnavailable": 0}, 2), ({"minAvailable": "100%"}, 2), ({"minAvailable": 1}, 1), ({"minAvailable": "50%"}, 1)],
)
async def test_g13_budgets_that_can_never_yield_refuse_before_anything_changes(real, ground, control_plane, spec, replicas):
    ground.plant(deployment("web", replicas), pdb("web", **spec))
    before = len(control_plane.writes())
    done = await drain(real)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.PDB), done.detail
    assert "can never yield" in done.detail
    assert len(control_plane.writes()) == before


async def test_e6_two_budgets_refuse_and_are_named(real, ground, control_plane):
    ground.plant(deployment("web", 2), pdb("one", "web"), pdb("two", "web"))
    done = await drain(real)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.PDB), done.detail
    assert f"{ground.namespace}/one and {ground.namespace}/two" in done.detail
    assert ground.evictions() == []


async def test_e7_a_namespace_that_is_deleted_meanwhile(real, ground, control_plane):
    slow = {"controlplane/stop-after": "3s"}
    ground.plant(deployment("web", 2, annotations=slow), pdb("web", minAvailable=1))
    control_plane.kubectl("delete", "namespace", ground.namespace, "--wait=false")
    done = await drain(real)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert ground.pods() == {}


async def test_e12_w3_a_terminating_pod_is_waited_for_and_not_evicted(real, ground, control_plane):
    ground.plant(deployment("web", 1, annotations={"controlplane/stop-after": "6s"}))
    (name,) = ground.pods()
    control_plane.kubectl("delete", "pod", name, "-n", ground.namespace, "--wait=false")
    done = await drain(real)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert name not in [pod for pod, _ in ground.evictions()]
    assert name not in ground.pods()


async def test_w4_w5_a_finalizer_is_named_within_the_pods_own_deadline(real, ground, control_plane):
    ground.plant(deployment("web", 1, terminationGracePeriodSeconds=1))
    (name,) = ground.pods()
    control_plane.kubectl(
        "patch", "pod", name, "-n", ground.namespace, "--type=merge", "-p", '{"metadata":{"finalizers":["example.test/hold"]}}'
    )
    began = time.monotonic()
    try:
        done = await drain(real, headroom="3s", lasting="5m")
        assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE), done.detail
        assert "example.test/hold" in done.detail
        assert time.monotonic() - began < 60
    finally:
        control_plane.kubectl("patch", "pod", name, "-n", ground.namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


async def test_r2_a_dry_run_behind_an_exhausted_budget_ends(real, ground, control_plane):
    ground.plant(deployment("web", 3), pdb("web", maxUnavailable=1))
    done = await real.step(ACTION, node=NODE, dry_run=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "would evict" in done.run.steps[0].outcome
    assert ground.evictions() == []
    assert len(ground.pods()) == 3
    plan = next(e.data for e in done.run.steps[0].evidence if e.name == "plan")
    assert any("at most 1 at a time" in line for line in plan)
    assert not control_plane.get("node", NODE)["spec"].get("unschedulable")


async def test_unready_pods_go_as_the_budget_says(real, ground, control_plane):
    """AlwaysAllow: a pod that is not ready goes without using the budget up."""
    ground.plant(deployment("web", 2), pdb("web", minAvailable=2, unhealthyPodEvictionPolicy="AlwaysAllow"))
    patch = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    for name in ground.pods():
        control_plane.kubectl("patch", "pod", name, "-n", ground.namespace, "--subresource=status", "--type=strategic", "-p", patch)

    def seen():
        return control_plane.get("pdb", "web", "-n", ground.namespace)["status"].get("currentHealthy") == 0

    control_plane.wait_for("no pod is healthy", seen)
    done = await drain(real, lasting="1m")
    assert done.end is StepEnd.SUCCEEDED, done.detail


async def test_w6_a_dead_kubelet(real, ground, control_plane):
    ground.plant(deployment("web", 2))
    with control_plane.dead_kubelet(NODE):
        done = await drain(real, lasting="2m")
        assert done.end is StepEnd.FAILED
        assert "it is not drained" in done.detail
        assert all("deletionTimestamp" in p["metadata"] for p in ground.pods().values())
        states = {c.state for c in done.run.steps[0].changes if c.verb == "evict"}
        assert states == {ChangeState.KEPT}


async def test_somebody_uncordons_meanwhile(real, ground, control_plane):
    ground.plant(deployment("web", 2, annotations={"controlplane/stop-after": "5s"}), pdb("web", maxUnavailable=1))
    running = asyncio.ensure_future(drain(real))
    await asyncio.to_thread(control_plane.wait_for, "an eviction", ground.evictions)
    await asyncio.to_thread(control_plane.kubectl, "uncordon", NODE)
    done = await running
    assert done.end is StepEnd.FAILED
    assert "somebody uncordoned" in done.detail
    assert timedelta(0) < done.run.steps[0].ended_at - done.run.steps[0].started_at
