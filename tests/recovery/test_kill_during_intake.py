"""kill -9 while deliveries pour in: every one that was answered 200 is on disk, and decided after the restart."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

POSTERS = 8


class Storm:
    """Posters that send delivery after delivery, each with alerts of its own, and know which were taken."""

    def __init__(self, rig):
        self._rig = rig
        self._numbers = itertools.count()
        self._over = asyncio.Event()
        self._tasks = []

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._post()) for _ in range(POSTERS)]
        return self

    async def __aexit__(self, *_):
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _post(self):
        while not self._over.is_set():
            if await self._rig.post(*self._alerts(next(self._numbers))) is None:
                await asyncio.sleep(0.02)  # nobody is there; Alertmanager waits longer

    def _alerts(self, number):
        """One for which there is no playbook, one on a node that does not exist, and one that resolved."""
        at = {"startsAt": "2026-01-05T10:00:00Z"}
        return (
            {"status": "firing", "labels": {"alertname": "Nothing", "number": str(number)}, **at},
            {"status": "firing", "labels": {"alertname": "AgentHung", "node": f"node-{number + 100}"}, **at},
            {"status": "resolved", "labels": {"alertname": "Over", "number": str(number)}, "endsAt": "2026-01-05T11:00:00Z", **at},
        )


async def storms(rig, *, rounds, seed):
    """In each round it is killed in the middle of a storm and started again while the storm goes on."""
    chance = random.Random(seed)
    await rig.up()
    for _ in range(rounds):
        taken = len(rig.taken)
        async with Storm(rig):
            enough = chance.randint(5, 120)

            async def look(more=taken + enough):
                return len(rig.taken) >= more

            await rig.wait_for(f"{enough} deliveries are taken", look)
            await rig.kill()
            await rig.up()
    await rig.reckon()
    assert await rig.cluster.calls() == []
    decisions = await rig.every("/api/v1/decisions")
    assert {d["decision"] for d in decisions} == {"unmatched", "refused", "resolved"}


async def test_a_storm(make_rig):
    rig = await make_rig()
    await storms(rig, rounds=1, seed=20260105)
    assert len(rig.taken) > 5


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_fifteen_storms(make_rig):
    rig = await make_rig()
    await storms(rig, rounds=15, seed=20260106)


@pytest.mark.long
async def test_stopped_in_a_storm(make_rig):
    rig = await make_rig()
    await rig.up()
    async with Storm(rig):

        async def look():
            return len(rig.taken) >= 50

        await rig.wait_for("50 deliveries are taken", look)
        assert await rig.stop() == 0
        await rig.up()
    await rig.reckon()
