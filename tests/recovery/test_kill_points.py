"""kill -9 at chosen points of a run; after the restart it goes on where it stood, and nothing is sent twice."""

from __future__ import annotations

import pytest

NODE = "node-3"


async def hung(rig, name="AgentHung", node=NODE):
    """An agent hangs and its alert was taken; the alert."""
    await rig.cluster.hang(node)
    alert = await rig.cluster.fires(name, node)
    await rig.deliver(alert)
    return alert


def changes_of(run):
    return [change for step in run["steps"] for change in step["changes"]]


async def healed(rig, alert, before, *, restarts=1, node=NODE):
    """The run ended healed, the agent of its node was replaced once and no other; and the reckoning is in order."""
    run = await rig.ended(alert)
    assert (run["state"], run["reason"]) == ("healed", "healed"), run["detail"]
    after = await rig.cluster.whole()
    assert {name for name in before if before[name] != after[name]} == {node}
    await rig.reckon()
    deleted = [call for call in await rig.cluster.calls() if call["verb"] == "delete" and call["status"] < 300]
    assert [call["body"]["preconditions"]["uid"] for call in deleted] == [before[node]]
    return run


@pytest.fixture
async def before(rig):
    """node -> uid of its agent, before anything happens."""
    return await rig.cluster.whole()


async def test_nothing_is_killed(rig, before):
    alert = await hung(rig)
    run = await healed(rig, alert, before)
    assert [c["state"] for c in changes_of(run)] == ["kept"]
    assert await rig.left_behind() == []
