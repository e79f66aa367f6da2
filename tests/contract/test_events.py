"""Our Events, written by our own door: what an API server takes of them, on the simulated cluster and on a real control plane."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.clock import ManualClock
from remediator.events import CONTROLLER, Events
from remediator.kube import Kube
from remediator.model import Change, ChangeState, Resource, Run, RunState, Target, Trigger, TriggerKind, evolve
from remediator.reasons import Reason
from remediator.telemetry import METRICS


@pytest.fixture
async def told(server):
    """Events that write to that cluster, and their clock."""
    where = {"server": server} if isinstance(server, str) else {"kubeconfig": server.kubeconfig}
    kube = await Kube.connect(**where)
    clock = ManualClock(datetime.now(UTC))
    yield Events(kube, clock), clock
    await kube.close()


async def written(events):
    while events._waiting:
        await events.write_one()


def failures():
    return METRICS.registry.get_sample_value("remediator_events_total", {"result": "failed"})


async def test_an_api_server_takes_them_about_a_node_and_about_what_lives_in_a_namespace(api, space, told):
    events, clock = told
    before = failures()
    namespace = space.rpartition("/")[2]
    made = (await api.post(f"{space}/configmaps", {"metadata": {"name": "a.b"}})).body
    node = (await api.get("/api/v1/nodes/node-2")).body["metadata"]
    run = Run(
        id="r1" + namespace,
        playbook="remedy",
        revision="x",
        trigger=Trigger(kind=TriggerKind.MANUAL, by="anna", reason="to see"),
        target=Target(kind="Node", name="node-2", uid=node["uid"]),
        state=RunState.RUNNING,
        started_at=clock.now(),
        deadline=clock.now() + timedelta(hours=1),
    )
    thing = Resource(kind="ConfigMap", namespace=namespace, name="a.b", uid=made["metadata"]["uid"])
    change = Change(
        id="c", run=run.id, step="s", action="some.action", verb="patch", resource=thing, state=ChangeState.APPLIED, at=clock.now()
    )
    events.began(run)
    events.acted(run, change)
    events.ended(evolve(run, state=RunState.FAILED, reason=Reason.STEP_FAILED, detail="ü" * 2000))
    await written(events)
    clock.advance(timedelta(minutes=6))
    events.acted(run, change)
    await written(events)
    assert failures() == before

    ours = (await api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")).body["items"]
    (mine,) = [e for e in ours if e.get("reportingController") == CONTROLLER]
    assert (mine["reason"], mine["action"], mine["type"]) == ("Acted", "some.action", "Normal")
    assert (mine["regarding"]["uid"], mine["related"]["name"]) == (thing.uid, "node-2")
    assert mine["series"]["count"] == 2
    assert mine["series"]["lastObservedTime"] == clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    selector = f"involvedObject.kind=Node,involvedObject.name=node-2,involvedObject.uid={node['uid']}"
    found = (await api.get("/api/v1/namespaces/default/events", fieldSelector=selector)).body["items"]
    about = {e["reason"]: e for e in found if run.id in e["message"]}
    assert about.keys() == {"RunStarted", "StepFailed"}, "as kubectl describe node looks for them"
    assert about["StepFailed"]["type"] == "Warning"
    for name in [e["metadata"]["name"] for e in about.values()]:
        await api.delete(f"/api/v1/namespaces/default/events/{name}")
