"""No file of the daemon can grow, as on a full disk, in the middle of a run: it waits, sends nothing without an intent, and goes on."""

from __future__ import annotations

import pytest
from recovery.steps import AGENTS, NODES, POD, changes_of, healed, hung, states_of


@pytest.fixture
async def before(rig):
    return await rig.cluster.whole()


async def notices(rig):
    """The daemon knows that it cannot keep anything, and says so; nothing is taken meanwhile."""
    node = await rig.cluster.fires("Nothing", "node-1")

    async def look():
        return await rig.post(node) is None and not await rig.reachable()

    await rig.wait_for("the daemon is not ready", look)


async def test_before_the_intent_nothing_is_sent(rig, before):
    trap = rig.between.hold("GET", AGENTS)
    alert = await hung(rig)
    await rig.until_reached(trap)
    rig.daemon.let_files_grow(to=0)
    trap.release()
    await notices(rig)
    assert rig.between.sent == []
    run = await rig.run_of(alert)
    assert run["state"] == "running"
    assert changes_of(run) == []
    rig.daemon.let_files_grow()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]


async def test_between_the_call_and_its_outcome(rig, before):
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.until_reached(trap)
    rig.daemon.let_files_grow(to=0)
    trap.release()
    await notices(rig)
    assert states_of(await rig.run_of(alert)) == [("delete", "intended")]
    rig.daemon.let_files_grow()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]
    assert len(rig.between.sent) == 1


@pytest.mark.long
async def test_killed_while_the_disk_is_full(rig, before):
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.until_reached(trap)
    rig.daemon.let_files_grow(to=0)
    trap.release()
    await notices(rig)
    await rig.kill()
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]
    assert len(rig.between.sent) == 1


@pytest.mark.long
async def test_stopped_while_the_disk_is_full(rig, before):
    trap = rig.between.hold("PATCH", NODES, "after")
    alert = await hung(rig, "AgentHungBadly")
    await rig.until_reached(trap)
    rig.daemon.let_files_grow(to=0)
    trap.release()
    await notices(rig)
    assert await rig.stop() == 0
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("patch", "applied"), ("delete", "kept")]
