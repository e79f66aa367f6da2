"""kill -9 at chosen points of a run; after the restart it goes on where it stood, and nothing is sent twice."""

from __future__ import annotations

import pytest
from recovery.steps import AGENTS, POD, VERIFY, healed, hung, replaced_once, states_of


@pytest.fixture
async def before(rig):
    """node -> uid of its agent, before anything happens."""
    return await rig.cluster.whole()


@pytest.mark.long
async def test_before_the_intent(rig, before):
    trap = rig.between.hold("GET", AGENTS)
    alert = await hung(rig)
    await rig.dies_at(trap)
    assert rig.between.sent == []
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]
    assert await rig.left_behind() == []


async def test_between_the_intent_and_the_call(rig, before):
    trap = rig.between.hold("DELETE", POD)
    alert = await hung(rig)
    await rig.dies_at(trap)
    assert await rig.cluster.calls() == []
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "absent"), ("delete", "kept")]
    assert await rig.left_behind() == []


async def test_between_the_call_and_its_outcome(rig, before):
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.dies_at(trap)
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]
    assert len(rig.between.sent) == 1
    assert await rig.left_behind() == []


async def test_between_the_delete_and_ready(rig, before):
    """The outcome of the delete is on disk and the new agent is not there yet: after the restart the rest is only waited for."""
    call = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.until_reached(call)
    look = rig.between.hold("GET", AGENTS)
    call.release()
    await rig.dies_at(look)
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]
    assert await rig.left_behind() == []


@pytest.mark.parametrize("looks", [pytest.param(1, marks=pytest.mark.long, id="at its first look"), pytest.param(2, id="while it holds")])
async def test_during_the_verification(rig, before, looks):
    traps = [rig.between.hold("GET", VERIFY) for _ in range(looks)]
    alert = await hung(rig)
    for trap in traps[:-1]:
        await rig.until_reached(trap)
        trap.release()
    await rig.dies_at(traps[-1])
    await rig.up()
    run = await healed(rig, alert, before)
    assert run["steps"][0]["attempts"] == 1
    assert await rig.left_behind() == []


@pytest.mark.long
async def test_a_call_of_the_dead_daemon_that_arrives_late(rig, before):
    late = rig.between.hold("DELETE", POD)
    alert = await hung(rig)
    await rig.until_reached(late)
    await rig.kill()
    await rig.up()
    run = await healed(rig, alert, before)
    late.release()
    await rig.reckon()
    await replaced_once(rig, before)
    assert states_of(run) == [("delete", "absent"), ("delete", "kept")]


@pytest.mark.long
async def test_three_times_in_one_run(rig, before):
    alert = None
    for method, path, when in [("DELETE", POD, "before"), ("DELETE", POD, "after"), ("GET", VERIFY, "before")]:
        trap = rig.between.hold(method, path, when)
        alert = alert or await hung(rig)
        await rig.dies_at(trap)
        await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "absent"), ("delete", "kept")]
    assert await rig.left_behind() == []
