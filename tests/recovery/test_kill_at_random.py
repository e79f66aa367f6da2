"""kill -9 at random moments of runs, again and again, on one journal: from the webhook's answer to the undo, starts included."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random

import pytest

SEED = 20260105
SPAN = 4.0
"""Seconds after the alert, or after the start of the last start, within which it is killed. A start and a run take about as long."""


async def spree(rig, *, kills, seed, at_once=3):
    """Runs, one after the other, each killed one to ``at_once`` times, until there were ``kills``. How the runs ended."""
    chance = random.Random(seed)
    await rig.up()
    nodes = itertools.cycle(sorted(await rig.cluster.whole()))
    ends = []
    number = -1
    while rig.kills < kills:
        number += 1
        node, badly = next(nodes), bool(number % 2)
        before = await rig.cluster.whole()
        await rig.cluster.hang(node)
        alert = await rig.cluster.fires("AgentHungBadly" if badly else "AgentHung", node)
        posting = asyncio.create_task(rig.deliver(alert))
        for _ in range(chance.randint(1, at_once)):
            await killed_after(rig, chance.uniform(0, SPAN), posting)
        await posting
        await rig.ready()
        run = await rig.ended(alert)
        ends.append(run["state"])
        assert run["state"] == "healed" or (run["state"] == "unknown" and run["detail"]), (number, run["state"], run["detail"])
        await rig.deliver(alert)  # Alertmanager repeats itself
        resolved = asyncio.create_task(rig.deliver(await rig.cluster.resolve(alert)))
        if badly:
            await killed_after(rig, chance.uniform(0, 1), resolved)
        await resolved
        await settled(rig, run, before, node)
    await rig.reckon()
    return ends


async def killed_after(rig, seconds, posting):
    """Let life go on for so long, then SIGKILL and start again. Nobody waits until it is ready: it may die before."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    assert rig.daemon.status is None, rig.daemon.output()[-4000:]
    assert not posting.done() or posting.exception() is None
    await rig.kill()
    rig.start()


async def settled(rig, run, before, node):
    """Its agent was replaced and no other, and what was cordoned is not any more."""
    await rig.ready()
    if run["state"] == "healed":
        await rig.wait_for("nothing is left behind", lambda: nothing_of(rig, run))
    after = await rig.cluster.whole()
    assert {name for name in before if before[name] != after[name]} == {node}
    assert not (await rig.cluster.node(node))["spec"].get("unschedulable")


async def nothing_of(rig, run):
    return not [change for change in await rig.left_behind() if change["run"] == run["id"]]


async def test_a_few_kills(make_rig):
    rig = await make_rig(ready_for="200ms")
    ends = await spree(rig, kills=5, seed=SEED)
    assert set(ends) <= {"healed", "unknown"}
    assert ends.count("healed") >= len(ends) - 1
    assert rig.kills >= 5


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_many_kills(make_rig, record_property):
    rig = await make_rig(ready_for="200ms")
    ends = await spree(rig, kills=50, seed=SEED + 1)
    record_property("runs", len(ends))
    assert rig.kills >= 50
    assert ends.count("healed") >= 0.9 * len(ends)
