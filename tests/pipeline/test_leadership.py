"""Of several replicas only the one that leads sends anything: asked before the intent is written, and once more before the call."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from remediator.daemon import Daemon
from remediator.errors import HandsOver, NotLeading, Occupied
from remediator.journal.seat import Seat
from remediator.kube import kinds
from remediator.model import ChangeState, Pause, new_id
from remediator.run import StepEnd
from remediator.settings import load_settings


@pytest.fixture
async def restart(stage):
    playbook = stage.playbook("cilium.restart_agent", lasting="15m", ready_for="1s")
    return playbook, await stage.begin(playbook, node="node-3")


def pause():
    now = datetime(2026, 1, 5, tzinfo=UTC)
    return Pause(id=new_id(now), reason="to see", by="test", at=now)


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


class TestALeaderOnTheNodeThatIsToBeDisturbed:
    """It cannot do that itself; another replica, on another node, can."""

    @pytest.fixture
    def restarts(self, deciding, text, monkeypatch):
        monkeypatch.setenv("NODE_NAME", "node-3")
        deciding.load(text(steps=[{"restart": {"action": "cilium.restart_agent"}}], gates={"cooldown": "1s"}))
        return deciding

    @pytest.fixture
    def handed_over(self, stage):
        """The targets that were left to another one, which there is."""
        targets = []

        async def hand_over(target):
            targets.append(target.key)
            return True

        stage.world.hand_over = hand_over
        return targets

    async def test_it_decides_nothing_and_lets_that_one(self, restarts, outside, handed_over):
        with pytest.raises(HandsOver, match="Node/node-3 is left to another replica"):
            await restarts.decide(outside.fire(node="node-3"))
        assert handed_over == ["Node/node-3"]
        assert (await restarts.world.journal.decisions()).items == ()

    async def test_where_none_can_the_gate_refuses(self, restarts, outside, stage):
        stage.world.hand_over = lambda _: asyncio.sleep(0, result=False)
        (decision,) = await restarts.decide(outside.fire(node="node-3"))
        assert (decision.reason, decision.detail) == ("self", "self: this daemon runs on node-3")

    async def test_what_else_refuses_is_no_reason_to_go(self, deciding, outside, text, handed_over, monkeypatch):
        monkeypatch.setenv("NODE_NAME", "node-3")
        deciding.load(text(steps=[{"restart": {"action": "cilium.restart_agent"}}], gates={"cooldown": "1s"}))
        await deciding.world.journal.add_pause(pause())
        (decision,) = await deciding.decide(outside.fire(node="node-3"))
        assert {verdict.gate for verdict in decision.gates if not verdict.allowed} == {"paused", "self"}
        assert handed_over == []

    async def test_other_nodes_are_its_own_business(self, restarts, outside, handed_over):
        (decision,) = await restarts.decide(outside.fire(node="node-2"))
        assert (decision.decision, handed_over) == ("run", [])

    @pytest.fixture
    async def asked(self, house, text, monkeypatch, handed_over):
        """``await asked(dry_run=...)``: what a daemon on node-3 answers who asks by hand for a restart there."""
        monkeypatch.setenv("NODE_NAME", "node-3")
        house.put("remedy.yaml", text(steps=[{"restart": {"action": "cilium.restart_agent"}}], gates={"cooldown": "1s"}))
        daemon = await house.start(mode="auto")
        daemon.world.hand_over = house.stage.world.hand_over

        async def ask(**more):
            return await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3", **more})

        return ask

    async def test_a_person_is_told_to_ask_again_and_nothing_is_kept(self, asked, house, handed_over):
        status, problem = await asked()
        assert (status, handed_over) == (503, ["Node/node-3"])
        assert "Node/node-3 is left to another replica, since this one runs there" in problem["detail"]
        assert "ask again in a few seconds" in problem["detail"]
        assert (await house.journal.decisions()).items == ()

    async def test_a_dry_run_by_hand_moves_nobody(self, asked, handed_over):
        status, refused = await asked(dry_run=True)
        assert (status, handed_over) == (409, [])
        assert refused["reason"] == "self"
