"""Of several replicas only the one that leads sends anything: asked before the intent is written, and once more before the call."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from remediator.model import ChangeState
from remediator.run import StepEnd


@pytest.fixture
async def restart(stage):
    playbook = stage.playbook("cilium.restart_agent", ready_for="1s")
    return playbook, await stage.begin(playbook, node="node-3")


def sent(stage):
    return [verb for verb, _ in stage.writes() if verb == "delete"]


async def test_who_does_not_lead_writes_no_intent_and_sends_nothing(stage, restart):
    stage.world.elector = SimpleNamespace(leads=False)
    with pytest.raises(asyncio.CancelledError):
        await stage.carry(*restart)
    assert (await stage.world.journal.changes()).items == ()
    assert sent(stage) == []


async def test_a_lease_lost_while_the_intent_is_written_stops_the_call(stage, restart, monkeypatch):
    """The process stood still between the two. The intent stays for the next leader, who looks what came of it: nothing."""
    stage.world.elector = elector = SimpleNamespace(leads=True)
    save = stage.world.journal.save_change

    async def save_and_stand_still(change):
        await save(change)
        elector.leads = False

    monkeypatch.setattr(stage.world.journal, "save_change", save_and_stand_still)
    with pytest.raises(asyncio.CancelledError):
        await stage.carry(*restart)
    assert sent(stage) == []
    assert [change.state for change in (await stage.world.journal.changes()).items] == [ChangeState.INTENDED]

    monkeypatch.setattr(stage.world.journal, "save_change", save)
    elector.leads = True
    done = await stage.carry(*restart)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert sorted(change.state for change in (await stage.world.journal.changes()).items) == [ChangeState.ABSENT, ChangeState.KEPT]
    assert len(sent(stage)) == 1
