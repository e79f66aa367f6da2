"""kill -9 while people are asked, and between their yes and the first step: the run waits again, or goes on, and nothing is done twice."""

from __future__ import annotations

import pytest
from recovery.steps import NODES, POD, healed, hung, states_of


@pytest.fixture
async def asking(make_rig):
    """A rig whose playbooks ask before they act."""
    rig = await make_rig(mode="suggest")
    await rig.up()
    return rig


@pytest.fixture
async def before(asking):
    return await asking.cluster.whole()


async def waits(rig, alert):
    """The run, once it waits and shows its plan."""
    return await rig.reaches(alert, lambda run: run["state"] == "awaiting_approval" and any(s["evidence"] for s in run["steps"]))


async def approve(rig, run, by="anna"):
    return await rig.call("POST", f"/api/v1/runs/{run['id']}/approve", {"by": by, "reason": "go on"})


async def test_while_it_waits(asking, before):
    alert = await hung(asking)
    run = await waits(asking, alert)
    await asking.kill()
    await asking.up()
    again = await waits(asking, alert)
    assert again["approvals"] == run["approvals"]
    assert [step["attempts"] for step in again["steps"]] == [0]
    assert asking.between.sent == []
    assert (await approve(asking, again))["state"] == "running"
    done = await healed(asking, alert, before)
    assert states_of(done) == [("delete", "kept")]
    assert [(said["by"], said["reason"]) for said in done["approvals"][0]["answers"]] == [("anna", "go on")]


async def test_between_the_yes_and_the_first_step(asking, before):
    """The answer was given and is on disk, the gates are just asked again: nobody has to say it twice."""
    alert = await hung(asking)
    run = await waits(asking, alert)
    trap = asking.between.hold("GET", NODES)
    await approve(asking, run)
    await asking.dies_at(trap)
    assert asking.between.sent == []
    await asking.up()
    done = await healed(asking, alert, before)
    assert len(done["approvals"]) == 1
    assert states_of(done) == [("delete", "kept")]


@pytest.mark.long
async def test_in_the_first_call_after_the_yes(asking, before):
    alert = await hung(asking)
    run = await waits(asking, alert)
    trap = asking.between.hold("DELETE", POD, "after")
    await approve(asking, run)
    await asking.dies_at(trap)
    await asking.up()
    done = await healed(asking, alert, before)
    assert len(done["approvals"]) == 1
    assert states_of(done) == [("delete", "kept")]


@pytest.mark.long
async def test_the_alert_ends_while_nobody_is_there(asking, before):
    """Resolved, and the notification comes only after the restart."""
    alert = await hung(asking)
    await waits(asking, alert)
    await asking.kill()
    over = await asking.cluster.resolve(alert)
    await asking.up()
    await asking.deliver(over)
    done = await asking.ended(alert)
    assert (done["state"], done["reason"]) == ("cancelled", "resolved_meanwhile")
    assert asking.between.sent == []
    await asking.reckon()
