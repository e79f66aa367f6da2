"""``gateway.shift_weight`` on the simulated cluster, where this test plays the Gateway's controller."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.actions.gateway import SHIFTED_BY
from remediator.kube import kinds
from remediator.model import RunState, Target, evolve
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

ACTION = "gateway.shift_weight"
AWAY = {"route": "grafana", "namespace": "apps", "weights": {"blue": 0, "green": 10}, "settle": "2s"}
CONDITIONS = ("Accepted", "ResolvedRefs")


def backend(name, **more):
    return {"group": "", "kind": "Service", "name": name, "port": 80, **more}


def route(**meta):
    rules = [{"backendRefs": [backend("blue", weight=9), backend("green")]}, {"backendRefs": [backend("blue", weight=1), backend("green")]}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "grafana", "namespace": "apps", **meta},
        "spec": {"parentRefs": [{"name": "external"}], "rules": rules},
    }


def accept(stage, status="True"):
    """As the controller does: the route as it is written now."""
    kind = stage.cluster.kind("HTTPRoute")
    copy = stage.cluster.store.edit(kind, stage.cluster.store.get(kind, "grafana", "apps"))
    told = [{"type": one, "status": status, "reason": one, "observedGeneration": copy["metadata"]["generation"]} for one in CONDITIONS]
    copy["status"] = {"parents": [{"parentRef": {"name": "external"}, "controllerName": "x", "conditions": told}]}
    stage.cluster.store.replace(kind, copy)


@pytest.fixture
def grafana(stage):
    stage.cluster.create(route())
    endpoints = [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}]
    labels = {"kubernetes.io/service-name": "green"}
    piece = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [], "endpoints": endpoints}
    stage.cluster.create({**piece, "metadata": {"name": "green-1", "namespace": "apps", "labels": labels}})
    obeying = ["True"]

    def follow(change):
        if change.obj["kind"] == "HTTPRoute" and obeying and _behind(change.obj):
            stage.cluster.loop.after(timedelta(seconds=1), accept, stage, obeying[0])

    accept(stage)
    stage.cluster.store.subscribe(follow)
    return obeying


def _behind(found):
    told = [one for parent in (found.get("status") or {}).get("parents", ()) for one in parent["conditions"]]
    return not told or told[0]["observedGeneration"] < found["metadata"]["generation"]


async def step(stage, **more):
    """A run that does not stand in the way of the next one."""
    done = await stage.step(ACTION, **more)
    await stage.over(done.run)
    return done


def weights(stage):
    found = stage.cluster.get("HTTPRoute", "grafana", "apps")
    return [[ref.get("weight") for ref in rule["backendRefs"]] for rule in found["spec"]["rules"]]


async def test_traffic_leaves_a_backend_and_comes_back_exactly(stage, grafana):
    done = await stage.step(ACTION, **AWAY)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert weights(stage) == [[0, 10], [0, 10]]
    (change,) = done.run.steps[0].changes
    assert change.before["weights"] == {"0/0": 9, "0/1": None, "1/0": 1, "1/1": None}
    assert len(stage.writes()) == 1
    assert (await undo(stage.world, done.run)).undone
    assert weights(stage) == [[9, None], [1, None]]
    assert SHIFTED_BY not in stage.cluster.get("HTTPRoute", "grafana", "apps")["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    ("more", "reason", "words"),
    [
        ({"weights": {"blue": 0, "green": 0}}, Reason.CAPACITY, "no backend with a weight"),
        ({"weights": {"red": 1}}, Reason.TARGET_MISSING, "no backend red"),
        ({"weights": {"blue": 20}}, Reason.CAPACITY, "no ready endpoint"),
        ({"route": "other"}, Reason.TARGET_MISSING, "apps/other"),
    ],
)
async def test_what_would_break_the_route_is_refused(stage, grafana, more, reason, words):
    done = await stage.step(ACTION, **{**AWAY, **more})
    assert (done.end, done.reason) == (StepEnd.FAILED, reason)
    assert words in done.detail
    assert stage.writes() == []


async def test_what_git_manages_is_refused_unless_allowed_and_a_shifted_route_is_busy(stage, grafana):
    labels = {"metadata": {"labels": {"app.kubernetes.io/instance": "net"}}}
    await stage.world.kube.patch(kinds.HTTP_ROUTE, "grafana", labels, "apps", type="merge")
    assert (await step(stage, **AWAY)).reason is Reason.GITOPS_MANAGED
    assert (await step(stage, **AWAY, allow_gitops=True)).end is StepEnd.SUCCEEDED
    again = await step(stage, **{**AWAY, "weights": {"green": 3}}, allow_gitops=True)
    assert again.reason is Reason.TARGET_BUSY


async def test_a_gateway_that_does_not_accept_fails_the_step(stage, grafana):
    grafana[0] = "False"
    done = await stage.step(ACTION, **AWAY, lasting="30s")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "external: Accepted is False" in done.detail


async def test_undo_leaves_what_somebody_changed_since(stage, grafana):
    done = await stage.step(ACTION, **AWAY)
    theirs = [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 7}]
    await stage.world.kube.patch(kinds.HTTP_ROUTE, "grafana", theirs, "apps", type="json")
    assert (await undo(stage.world, done.run)).foreign
    assert weights(stage) == [[0, 7], [0, 10]]


LABELS = {"blue": {"app": "grafana"}, "green": {"app": "standby"}}


@pytest.fixture
def workload(stage, grafana):
    """The Deployment behind ``blue``; ``green`` leads elsewhere."""
    for name, labels in LABELS.items():
        spec = {"selector": labels, "ports": [{"port": 80}]}
        stage.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "apps"}, "spec": spec})
    template = {"metadata": {"labels": LABELS["blue"]}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": LABELS["blue"]}, "template": template}
    meta = {"name": "grafana", "namespace": "apps"}
    return stage.cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})["metadata"]


async def away(stage, metadata, **more):
    playbook = stage.playbook(ACTION, settle="2s", **more)
    run = await stage.begin(playbook, node="node-3")
    target = Target(kind="Deployment", name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
    await stage.world.journal.save_run(evolve(run, target=target))
    return await stage.carry(playbook, run)


def change(stage, edit):
    kind = stage.cluster.kind("HTTPRoute")
    copy = stage.cluster.store.edit(kind, stage.cluster.store.get(kind, "grafana", "apps"))
    edit(copy["spec"]["rules"])
    stage.cluster.store.replace(kind, copy)


async def test_without_weights_traffic_leaves_the_target_for_the_other_backends(stage, workload):
    change(stage, lambda rules: rules[0]["backendRefs"][1].update(weight=0))
    done = await away(stage, workload)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert weights(stage) == [[0, 9], [0, None]], "a standby with none gets all, one that has some keeps them"
    assert (await undo(stage.world, done.run)).undone
    assert weights(stage) == [[9, 0], [1, None]]


@pytest.mark.parametrize(
    ("edit", "reason", "words"),
    [
        (lambda rules: rules[1]["backendRefs"].pop(), Reason.CAPACITY, "rule 1 would have no backend with a weight"),
        (lambda rules: [refs["backendRefs"][1].update(name="red") for refs in rules], Reason.CAPACITY, "Service red would get traffic"),
        (lambda rules: [refs["backendRefs"].pop(0) for refs in rules], Reason.TARGET_MISSING, "no HTTPRoute in apps sends to blue"),
        (lambda rules: [refs["backendRefs"][0].update(namespace="x") for refs in rules], Reason.TARGET_MISSING, "sends to blue"),
    ],
)
async def test_traffic_that_has_nowhere_to_go_stays(stage, workload, edit, reason, words):
    change(stage, edit)
    done = await away(stage, workload)
    assert (done.end, done.reason) == (StepEnd.FAILED, reason), done.detail
    assert words in done.detail
    assert stage.writes() == []


async def test_two_routes_to_the_target_are_told_and_one_can_be_named(stage, workload):
    second = route()
    second["metadata"]["name"] = "second"
    stage.cluster.create(second)
    done = await away(stage, workload)
    assert (done.reason, "grafana, second" in done.detail) == (Reason.TARGET_AMBIGUOUS, True)
    await stage.world.journal.save_run(evolve(done.run, state=RunState.CANCELLED, ended_at=stage.world.clock.now()))
    assert (await away(stage, workload, route="grafana")).end is StepEnd.SUCCEEDED


async def test_without_weights_the_target_must_be_a_workload(stage, grafana):
    done = await stage.step(ACTION, route="grafana", namespace="apps")
    assert (done.reason, "Node/node-3 is no workload" in done.detail) == (Reason.TARGET_MISSING, True)


async def test_a_backend_that_inherits_traffic_must_be_ready_though_its_weight_stays(stage, grafana):
    kind = stage.cluster.kind("EndpointSlice")
    stage.cluster.store.remove(kind, stage.cluster.store.get(kind, "green-1", "apps"))
    done = await stage.step(ACTION, **{**AWAY, "weights": {"blue": 0}})
    assert (done.reason, "Service green" in done.detail) == (Reason.CAPACITY, True)
