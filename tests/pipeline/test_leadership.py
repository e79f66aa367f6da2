"""Of several replicas only the one that leads sends anything: asked before the intent is written, and once more before the call."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from types import SimpleNamespace

import pytest

from remediator.daemon import Daemon
from remediator.errors import NotLeading, Occupied
from remediator.journal.seat import Seat
from remediator.kube import kinds
from remediator.model import ChangeState
from remediator.run import StepEnd
from remediator.settings import load_settings


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


async def test_a_second_daemon_on_one_file_refuses_to_start(house, monkeypatch):
    """Neither would know of the other: both would decide on the same alerts and act."""
    first = await house.start()
    second = await Daemon.build(load_settings(house.folder / "settings.yaml", {}), clock=house.stage.world.clock)
    monkeypatch.setattr("remediator.daemon._WAIT_FOR_SEAT", timedelta())
    try:
        with pytest.raises(Occupied, match=rf"another daemon acts on .*remediator\.db\.lock: .*, process {os.getpid()}\. .*election"):
            await second.start()
        assert len(list(await first.world.journal.entries(kind="start"))) == 1, "it wrote nothing"
    finally:
        await second.stop()


async def test_a_daemon_whose_seat_another_one_has_acts_no_more_and_ends(house, monkeypatch):
    """Its session at the database was cut, and somebody else was quicker."""
    daemon = await house.start()

    def look(self):
        raise Occupied("another daemon acts")

    monkeypatch.setattr(Seat, "look", look)
    async with asyncio.timeout(30):
        await daemon.over.wait()
    assert daemon.why == "another daemon acts on the store since"
    assert not daemon.world.may_act
    with pytest.raises(NotLeading):
        await daemon.world.kube.patch(kinds.NODE, "node-3", {"spec": {"unschedulable": True}}, type="merge")
