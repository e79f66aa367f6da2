"""Actions on workloads, carried as a run carries them, on the simulated cluster and on a real control plane."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from types import SimpleNamespace

import pytest
from differential.ours import WIDE
from plugins.stage import Stage

from remediator.actions import Cilium, actions
from remediator.clock import SystemClock
from remediator.gates import gates
from remediator.journal import Journal, Redactor
from remediator.kube import Kube
from remediator.model import Mode, RunState, evolve
from remediator.playbook import Library, load_playbook
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.world import World


@pytest.fixture
async def carry(server, tmp_path):
    """Carries one step on that cluster to its end."""
    clock = SystemClock()
    journal = await Journal.open(f"sqlite:///{tmp_path}/contract.db", clock=clock)
    where = {"server": server} if isinstance(server, str) else {"kubeconfig": server.kubeconfig}
    kube = await Kube.connect(**where)
    world = World(
        clock=clock,
        journal=journal,
        kube=kube,
        prometheus=None,
        alertmanager=None,
        redact=Redactor(),
        cilium=Cilium(),
        limits=WIDE,
        dry_run=False,
        mode_of=lambda _: Mode.AUTO,
        library=Library(),
        load_revision=partial(load_playbook, actions=actions(), gates=gates()),
    )
    stage = Stage(SimpleNamespace(cluster=None), world)

    nodes = cycle(f"node-{number}" for number in range(1, 6))  # a target that was acted on a moment ago is left alone

    async def go(action, **parameters):
        done = await stage.step(action, node=next(nodes), lasting="90s", **parameters)
        await journal.save_run(evolve(done.run, state=RunState.DONE, ended_at=clock.now()))
        return done

    yield go
    await kube.close()
    await journal.close()


@pytest.fixture
async def grown(api, space):
    """A Deployment, a StatefulSet and a DaemonSet, all of whose pods are ready; answers their pods' uids by kind."""
    apps = space.replace("/api/v1", "/apis/apps/v1")
    kinds = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
    for kind, plural in kinds.items():
        labels = {"app": kind.lower()}
        spec = {"containers": [{"name": "c", "image": "example.test/c:1"}], "terminationGracePeriodSeconds": 1}
        body = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
        body |= {} if kind == "DaemonSet" else {"replicas": 2}
        body |= {"serviceName": ""} if kind == "StatefulSet" else {}
        made = await api.post(f"{apps}/{plural}", {"metadata": {"name": "app"}, "spec": body})
        assert made.status == 201, made.body

    async def pods(kind):
        found = (await api.get(f"{space}/pods", labelSelector=f"app={kind.lower()}")).body["items"]
        ready = [p for p in found if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", ()))]
        return {p["metadata"]["name"]: p["metadata"]["uid"] for p in ready if "deletionTimestamp" not in p["metadata"]}

    for kind, plural in kinds.items():

        async def settled(path=f"{apps}/{plural}/app", kind=kind):
            status = (await api.get(path)).body.get("status", {})
            here = status.get("numberAvailable" if kind == "DaemonSet" else "readyReplicas", 0)
            return here >= 2 and here == status.get("desiredNumberScheduled", 2) == len(await pods(kind))

        await api.until(settled, kind)
    return pods


@pytest.mark.long
async def test_restarts_and_evictions(api, space, namespace_name, carry, grown):
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        before = await grown(kind)
        done = await carry("workload.rollout_restart", kind=kind, namespace=namespace_name, name="app", ready_for="1s")
        assert done.end is StepEnd.SUCCEEDED, done.detail
        after = await grown(kind)
        assert len(after) == len(before)
        assert set(after.values()).isdisjoint(before.values()), kind

    policies = space.replace("/api/v1", "/apis/policy/v1") + "/poddisruptionbudgets"
    budget = {"metadata": {"name": "app"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "deployment"}}}}
    await api.post(policies, budget)

    async def counted():
        status = (await api.get(f"{policies}/app")).body.get("status", {})
        return status.get("observedGeneration") == 1 and status.get("currentHealthy") == 2

    await api.until(counted, "the budget")
    pods = await grown("Deployment")
    name = min(pods)
    done = await carry("workload.evict_pod", namespace=namespace_name, name=name, ready_for="1s")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PDB), done.detail
    await api.delete(f"{policies}/app")
    await api.gone(f"{policies}/app")
    done = await carry("workload.evict_pod", namespace=namespace_name, name=name, ready_for="1s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len(set((await grown("Deployment")).values()) - set(pods.values())) == 1
    done = await carry("workload.delete_pod", namespace=namespace_name, name="app-1", ready_for="1s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
