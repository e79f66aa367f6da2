"""``node.drain`` on the simulated cluster: its way from plan to proof, and back."""

from __future__ import annotations

import pytest

from remediator.drain.cordon import owner
from remediator.kube import kinds
from remediator.model import PLAN, ChangeState
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

ACTION = "node.drain"
PATIENT = {"lasting": "30m", "headroom": "10m"}
"""The clock is fast: what a busy machine takes for a second is a minute on it."""


async def drain(stage, *, lasting="30m", headroom="10m", **about):
    return await stage.step(ACTION, lasting=lasting, headroom=headroom, **about)


def evidence(done, name):
    return next((e.data for e in done.run.steps[0].evidence if e.name == name), None)


def outcomes(done):
    return {line["pod"].split("/")[1]: line["outcome"] for line in evidence(done, "pods")}


async def test_empties_the_node_and_says_what_became_of_each_pod(stage, farm):
    await farm.plant(farm.deployment("web", 3), farm.pdb("web"))
    mine = set(farm.pods())
    assert len(mine) == 3
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert done.run.steps[0].outcome.startswith("drained: ")
    assert farm.pods() == {}
    assert {name for name, status in farm.evictions() if status == 201} >= mine
    assert all(outcomes(done)[name] == "evicted" for name in mine)
    assert stage.cluster.get("Node", "node-3")["spec"]["unschedulable"]
    changes = done.run.steps[0].changes
    assert changes[0].verb == "patch"
    assert {c.state for c in changes if c.verb == "evict"} == {ChangeState.KEPT}
    assert [c.id for c in changes if c.left_behind] == [changes[0].id]
    assert all(c.resource.uid for c in changes)


async def test_the_plan_is_said_before_anything_changes(stage, farm):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    done = await drain(stage)
    step = done.run.steps[0]
    plan = next(e for e in step.evidence if e.name == PLAN)
    assert plan.at <= step.changes[0].at
    assert plan.data[0] == "cordon Node/node-3"
    assert any("apps/web (maxUnavailable 1, allows 1 now" in line and "at most 1 at a time" in line for line in plan.data)
    assert any("belongs to a DaemonSet" in line for line in plan.data)


async def test_undo_lifts_our_cordon_and_nothing_else(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    done = await drain(stage)
    undone = await undo(stage.world, done.run)
    assert undone.undone == ("uncordoned Node/node-3",)
    node = stage.cluster.get("Node", "node-3")
    assert not node["spec"].get("unschedulable")
    assert owner(node) is None


async def test_undo_waits_for_the_daemonset_pods_of_the_node(stage, farm):
    from datetime import timedelta

    await farm.plant(farm.deployment("web", 1))
    done = await drain(stage)
    agent = stage.cluster.agent_pod("node-3")["metadata"]["name"]
    began = stage.world.clock.now()
    stage.cluster.kill_agent("node-3")
    undone = await undo(stage.world, done.run)
    assert agent in undone.undone[0]
    assert stage.world.clock.now() - began >= timedelta(minutes=2)
    assert not stage.cluster.get("Node", "node-3")["spec"].get("unschedulable")


async def test_a_dry_run_asks_for_each_pod_once_and_changes_nothing(stage, farm):
    await farm.plant(farm.deployment("web", 3), farm.pdb("web"))
    before = stage.cluster.get("Node", "node-3")["metadata"]["resourceVersion"]
    done = await drain(stage, dry_run=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "would evict" in done.run.steps[0].outcome
    assert len(farm.pods()) == 3
    assert farm.evictions() == []
    assert stage.cluster.get("Node", "node-3")["metadata"]["resourceVersion"] == before
    assert all(c.dry_run for c in done.run.steps[0].changes)


async def test_a_second_entry_after_a_crash_evicts_nothing_twice(stage, farm):
    from remediator.model import StepState, evolve

    await farm.plant(farm.deployment("web", 3))
    playbook = stage.playbook(ACTION, **PATIENT)
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    before = farm.evictions()
    last = done.run.steps[0].changes[-1]
    await stage.world.journal.save_change(evolve(last, state=ChangeState.INTENDED, ended_at=None))
    await stage.world.journal.save_step(run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await stage.carry(playbook, run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert farm.evictions() == before
    assert len([c for c in again.run.steps[0].changes if c.verb == "patch"]) == 1


async def test_a_crash_in_the_middle_goes_on_where_it_was(stage, farm):
    from remediator.model import StepState, evolve

    await farm.plant(farm.deployment("web", 3), farm.pdb("web"))
    playbook = stage.playbook(ACTION, lasting="6m", headroom="10m")
    stage.cluster.hold_budget("web", "apps")
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PDB)
    stage.cluster.release_budget("web", "apps")
    step = evolve(done.run.steps[0], state=StepState.RUNNING, started_at=stage.world.clock.now(), ended_at=None)
    await stage.world.journal.save_step(run.id, step)
    longer = stage.playbook(ACTION, **PATIENT)
    again = await stage.carry(longer, run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert farm.pods() == {}


async def test_after_a_crash_the_gates_are_asked_before_anything_more_is_evicted(stage, farm):
    from remediator.model import StepState, evolve

    await farm.plant(farm.deployment("web", 3), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    playbook = stage.playbook(ACTION, lasting="6m", headroom="10m")
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    assert done.reason is Reason.PDB
    stage.cluster.release_budget("web", "apps")
    step = evolve(done.run.steps[0], state=StepState.RUNNING, started_at=stage.world.clock.now(), ended_at=None)
    await stage.world.journal.save_step(run.id, step)
    note = {"metadata": {"annotations": {"remediator.dev/protected": "true"}}}
    await stage.world.kube.patch(kinds.NODE, "node-3", note, type="merge")
    before = farm.evictions()
    again = await stage.carry(stage.playbook(ACTION, **PATIENT), run)
    assert (again.end, again.reason) == (StepEnd.FAILED, Reason.PROTECTED)
    assert farm.evictions() == before


async def test_it_stops_when_a_person_cancels(stage, farm):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    done = await _meanwhile(stage, lambda run: stage.world.signals.cancel(run.id))
    assert (done.end, done.reason) == (StepEnd.CANCELLED, Reason.CANCELLED_BY)
    assert len(farm.pods()) == 2


@pytest.mark.parametrize("unread", ["", r"^/api/v1/pods\?(?!.*fieldSelector)"], ids=["all-read", "others-unread"])
async def test_it_stops_when_a_gate_turns_red(stage, farm, unread):
    """Also where others cannot be read meanwhile: for those it would wait."""
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")

    async def protect(_run):
        if unread:
            stage.cluster.fail(path=unread, status=503, count=None)
        note = {"metadata": {"annotations": {"remediator.dev/protected": "true"}}}
        await stage.world.kube.patch(kinds.NODE, "node-3", note, type="merge")

    done = await _meanwhile(stage, protect)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED), done.detail
    assert "stopped in the middle" in done.detail
    assert len(farm.pods()) == 2


async def test_gates_are_asked_again_before_the_next_wave(stage, farm):
    farm_critical = farm.deployment("dns", 1, priorityClassName="system-cluster-critical")
    await farm.plant(farm.deployment("web", 1), farm_critical)

    async def protect(_run):
        note = {"metadata": {"annotations": {"remediator.dev/protected": "true"}}}
        await stage.world.kube.patch(kinds.NODE, "node-3", note, type="merge")

    done = await _meanwhile(stage, protect, when=lambda: any(name.startswith("web") for name, _ in farm.evictions()))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED), done.detail
    assert [name for name in farm.pods() if name.startswith("dns")]


async def test_it_stops_when_somebody_uncordons(stage, farm):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    done = await _meanwhile(stage, lambda _: farm.cordon("node-3", on=False))
    assert done.end is StepEnd.FAILED
    assert "somebody uncordoned Node/node-3" in done.detail
    assert len(farm.pods()) == 2


async def test_it_stops_when_paused(stage, farm):
    from remediator.model import Pause, new_id

    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    now = stage.world.clock.now()

    async def pause(_run):
        await stage.world.journal.add_pause(Pause(id=new_id(now), reason="freeze", by="anna", at=now))

    done = await _meanwhile(stage, pause)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PAUSED)


async def test_it_stops_when_its_alert_resolves(stage, farm):
    stage.wide()
    from datetime import timedelta

    from remediator.model import Alert, AlertStatus, Trigger, TriggerKind

    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    stage.cluster.kill_agent("node-4")
    await stage.until(stage.simulation.alertmanager.open_alerts)
    (active,) = await stage.world.alertmanager.active()
    alert = Alert(name="CiliumAgentDown", fingerprint=active.fingerprint, starts_at=active.starts_at, status=AlertStatus.FIRING, labels={})
    trigger = Trigger(kind=TriggerKind.ALERT, by="alertmanager", reason=alert.name)

    async def resolve(_run):
        stage.cluster.heal_agent("node-4")
        await stage.world.clock.sleep(timedelta(seconds=1))

    done = await _meanwhile(stage, resolve, lasting="30m", alert=alert, trigger=trigger)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.RESOLVED_MEANWHILE), done.detail
    assert len(farm.pods()) == 2


async def _meanwhile(stage, act, *, when=None, lasting="30m", **about):
    """Carry a drain; as soon as the node is cordoned (or ``when``) something happens. ``about``: what differs in the run."""
    import asyncio
    import inspect

    from remediator.model import evolve

    playbook = stage.playbook(ACTION, lasting=lasting, headroom="10m")
    run = await stage.begin(playbook, node="node-3")
    await stage.world.journal.save_run(evolve(run, **about))
    carrying = asyncio.ensure_future(stage.carry(playbook, run))
    await stage.until(when or (lambda: stage.cluster.get("Node", "node-3")["spec"].get("unschedulable")))
    told = act(run)
    if inspect.isawaitable(told):
        await told
    return await carrying


@pytest.mark.parametrize("kind", ["Pod"])
async def test_only_a_node_can_be_drained(stage, kind):
    from remediator.actions import actions
    from remediator.errors import Refused
    from remediator.model import Target

    class Ctx:
        class run:  # noqa: N801 - stands for the run of a context
            target = Target(kind=kind, name="x", namespace="apps")

    with pytest.raises(Refused):
        await actions()[ACTION]().check(Ctx(), None)


async def test_pods_that_come_again_and_again_end_the_drain_at_its_deadline(stage, farm):
    """Somebody binds a new pod as soon as the last one is gone, past the scheduler and its taint."""
    made = []

    def bind():
        name = f"again-{len(made)}"
        owner = {"apiVersion": "example.test/v1", "kind": "Thing", "name": "thing", "uid": "thing", "controller": True}
        made.append(name)
        stage.cluster.create(farm.bare(name, owner=owner))

    def changed(change):
        if change.kind == "DELETED" and change.table == ("", "pods") and change.obj["metadata"]["name"] == made[-1]:
            bind()

    bind()
    await stage.until(lambda: farm.pods()[made[0]]["status"]["phase"] == "Running")
    stage.cluster.store.subscribe(changed)
    done = await drain(stage, lasting="4m")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE), done.detail
    assert len(made) > 1
