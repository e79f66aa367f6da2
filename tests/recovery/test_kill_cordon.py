"""kill -9 around a change that is to be put back: the cordon before a restart, and its undo when the run failed or the alert resolved."""

from __future__ import annotations

import pytest
from recovery.steps import AGENTS, NODES, POD, changes_of, cordon_of, healed, hung, states_of

ALERT = "AgentHungBadly"


@pytest.fixture
async def before(rig):
    return await rig.cluster.whole()


async def undone(rig):
    """The cordon was put back; nothing of it is left, in the cluster or in the record."""

    async def look():
        return await rig.left_behind() == []

    await rig.wait_for("nothing is left behind", look)
    assert await cordon_of(rig) == (False, False)
    await rig.reckon()


def cordon_in(run):
    cordons = [change for change in changes_of(run) if change["action"] == "node.cordon" and not change["undoes"]]
    (change,) = [change for change in cordons if change["state"] != "absent"]
    return change


async def patches(rig):
    """How many patches of the daemon took effect."""
    return sum(call["verb"] == "patch" and call["status"] < 300 and bool(call["audit_id"]) for call in await rig.cluster.calls())


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
async def test_around_the_cordon(rig, before, when):
    trap = rig.between.hold("PATCH", NODES, when)
    alert = await hung(rig, ALERT)
    await rig.dies_at(trap)
    await rig.up()
    run = await healed(rig, alert, before)
    lost = [("patch", "absent")] if when == "before" else []
    assert states_of(run) == [*lost, ("patch", "applied"), ("delete", "kept")]
    assert await cordon_of(rig) == (True, True)
    assert [change["id"] for change in await rig.left_behind()] == [cordon_in(run)["id"]]
    await rig.deliver(await rig.cluster.resolve(alert))
    await undone(rig)


@pytest.mark.long
async def test_a_cordon_that_arrives_late(rig, before):
    """The dead daemon's cordon reaches the API after the restarted one looked: its test of the resourceVersion fails there."""
    late = rig.between.hold("PATCH", NODES)
    alert = await hung(rig, ALERT)
    await rig.until_reached(late)
    await rig.kill()
    await rig.up()
    await healed(rig, alert, before)
    late.release()
    await rig.deliver(await rig.cluster.resolve(alert))
    await undone(rig)


@pytest.mark.long
async def test_after_the_cordon_and_around_the_restart(rig, before):
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig, ALERT)
    await rig.dies_at(trap)
    await rig.up()
    run = await healed(rig, alert, before)
    assert [step["attempts"] for step in run["steps"]] == [1, 2]
    assert await patches(rig) == 1


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
async def test_while_a_refused_run_is_undone(rig, before, when):
    first = rig.between.hold("PATCH", NODES)
    alert = await hung(rig, ALERT)
    await rig.until_reached(first)
    await rig.cluster.hang("node-5")  # so the gates refuse the restart, and its cordon goes back
    first.release()
    undo = rig.between.hold("PATCH", NODES, when)
    await rig.dies_at(undo)
    await rig.up()
    run = await rig.ended(alert)
    assert (run["state"], run["reason"]) == ("cancelled", "agent_not_ready")
    assert cordon_in(run)["state"] == "undone"
    assert "uncordoned" in run["detail"] or "undone" in run["detail"]
    await undone(rig)
    assert await patches(rig) == 2


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
async def test_while_a_healed_run_is_undone_because_the_alert_resolved(rig, before, when):
    alert = await hung(rig, ALERT)
    run = await healed(rig, alert, before)
    undo = rig.between.hold("PATCH", NODES, when)
    await rig.deliver(await rig.cluster.resolve(alert))
    await rig.dies_at(undo)
    await rig.up()
    await undone(rig)
    again = await rig.ended(alert)
    assert again["state"] == "healed"
    assert cordon_in(again) == {**cordon_in(run), "state": "undone", "ended_at": cordon_in(again)["ended_at"]}


@pytest.mark.long
async def test_an_undo_leaves_alone_what_somebody_else_took_over_while_the_daemon_was_dead(rig, before):
    alert = await hung(rig, ALERT)
    await healed(rig, alert, before)
    undo = rig.between.hold("GET", NODES)
    await rig.deliver(await rig.cluster.resolve(alert))
    await rig.dies_at(undo)
    theirs = {"metadata": {"annotations": {"remediator.dev/cordoned-by": "a person's note"}}}
    await rig.cluster.patch(NODES, theirs)
    await rig.up()

    async def look():
        return await rig.left_behind() == []

    await rig.wait_for("the undo is over", look)
    run = await rig.ended(alert)
    assert cordon_in(run)["state"] == "foreign"
    assert await cordon_of(rig) == (True, True)
    assert await patches(rig) == 1
    await rig.reckon()


@pytest.mark.long
async def test_before_the_restart_is_decided_the_cordon_is_not_sent_again(rig, before):
    trap = rig.between.hold("GET", AGENTS)
    alert = await hung(rig, ALERT)
    await rig.dies_at(trap)
    await rig.up()
    await healed(rig, alert, before)
    assert await patches(rig) == 1
