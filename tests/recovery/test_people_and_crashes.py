"""Somebody cancels or pauses, and the daemon dies with a call whose outcome is not on disk. Nothing further is sent, but the call that may
have been sent is looked at all the same, so that the record says what happened.
"""

from __future__ import annotations

import pytest
from recovery.steps import POD, hung, replaced_once, states_of


@pytest.fixture
async def before(rig):
    return await rig.cluster.whole()


@pytest.fixture
async def in_doubt(rig, before):
    """A run whose call took effect and whose outcome is still on its way; the alert and the trap that holds the answer."""
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.until_reached(trap)
    return alert, trap


async def test_cancelled(rig, before, in_doubt):
    alert, trap = in_doubt
    run = await rig.run_of(alert)
    await rig.call("POST", f"/api/v1/runs/{run['id']}/cancel", {"by": "anna", "reason": "not now"})
    await rig.dies_at(trap)
    await rig.up()
    run = await rig.ended(alert)
    assert (run["state"], run["reason"]) == ("cancelled", "cancelled_by")
    assert "anna" in run["detail"]
    assert states_of(run) == [("delete", "kept")]
    await rig.reckon()
    await replaced_once(rig, before)


@pytest.mark.long
async def test_paused(rig, before, in_doubt):
    alert, trap = in_doubt
    await rig.call("PUT", "/api/v1/pause", {"by": "anna", "reason": "maintenance"})
    await rig.dies_at(trap)
    await rig.up()
    run = await rig.ended(alert)
    assert (run["state"], run["reason"]) == ("failed", "paused")
    assert states_of(run) == [("delete", "kept")]
    await rig.reckon()


@pytest.mark.long
async def test_cancelled_while_the_answer_is_lost(rig, before, in_doubt):
    """No crash at all: the connection breaks after the call, and somebody has cancelled meanwhile."""
    alert, trap = in_doubt
    run = await rig.run_of(alert)
    await rig.call("POST", f"/api/v1/runs/{run['id']}/cancel", {"by": "anna", "reason": "not now"})
    trap.drop()
    run = await rig.ended(alert)
    assert run["state"] == "cancelled"
    assert states_of(run) == [("delete", "kept")]
    assert await rig.left_behind() == []
    await rig.reckon()


@pytest.mark.long
async def test_a_lost_answer_is_looked_for_and_nothing_is_sent_again(rig, before, in_doubt):
    alert, trap = in_doubt
    trap.drop()
    run = await rig.ended(alert)
    assert run["state"] == "healed"
    assert states_of(run) == [("delete", "kept")]
    assert len(rig.between.sent) == 1
    await rig.reckon()


async def test_a_call_that_got_lost_on_its_way_ends_the_run_with_a_diagnosis(rig, before):
    """It did not take effect so far, but it may still be under way: a person has to look."""
    trap = rig.between.hold("DELETE", POD)
    alert = await hung(rig)
    await rig.until_reached(trap)
    trap.drop()
    run = await rig.ended(alert)
    assert run["state"] == "unknown"
    assert "may or may not" in run["detail"]
    assert states_of(run) == [("delete", "unknown")]
    assert [change["state"] for change in await rig.left_behind()] == ["unknown"]
    assert len(rig.between.sent) == 1
    await rig.reckon()
