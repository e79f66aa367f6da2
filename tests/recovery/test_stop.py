"""SIGTERM in the middle of a run: the call under way ends, its outcome is on disk, the exit status is 0, and the run continues."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from recovery.steps import AGENTS, POD, VERIFY, changes_of, healed, hung, states_of

from remediator.clock import SystemClock
from remediator.journal import Journal

WITHIN = 20.0
"""Seconds that the daemon gives the calls under way."""
SLACK = 15.0
"""For closing everything else, on a busy machine."""


@pytest.fixture
async def before(rig):
    return await rig.cluster.whole()


async def run_on_disk(rig, alert):
    """The run as the journal has it while no daemon runs."""
    journal = await Journal.open(f"sqlite:///{rig.folder}/journal.db", clock=SystemClock())
    try:
        (run,) = [run for run in (await journal.runs()).items if run.alert.fingerprint == alert["fingerprint"]]
        return await journal.run(run.id)
    finally:
        await journal.close()


async def test_the_call_under_way_ends_and_its_outcome_is_kept(rig, before):
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.until_reached(trap)
    rig.daemon.send_signal(signal.SIGTERM)
    await rig.wait_for("it takes no more work", rig.refuses_connections)
    assert rig.daemon.status is None, "it did not wait for its call"
    trap.release()
    assert await rig.daemon.ended(seconds=WITHIN + SLACK) == 0
    run = await run_on_disk(rig, alert)
    assert run.state.open
    assert [change.state for step in run.steps for change in step.changes] == ["kept"]
    assert run.steps[0].state == "running"
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]
    assert len(rig.between.sent) == 1


async def test_an_answer_that_never_comes(make_rig):
    rig = await make_rig(kubernetes_timeout="1s")
    await rig.up()
    before = await rig.cluster.whole()
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.until_reached(trap)
    assert await rig.stop() == 0
    run = await run_on_disk(rig, alert)
    (change,) = [change for step in run.steps for change in step.changes]
    assert change.state == "kept"
    assert "seen to have taken effect" in change.detail
    await rig.up()
    await healed(rig, alert, before)
    assert len(rig.between.sent) == 1


@pytest.mark.parametrize(
    "where", [pytest.param(AGENTS, marks=pytest.mark.long, id="in a step"), pytest.param(VERIFY, id="in the verification")]
)
async def test_while_the_run_waits(rig, before, where):
    """It is looking when it is told to stop; a look is no call that must end."""
    alert = await hung(rig)
    await rig.reaches(alert, changes_of)
    trap = rig.between.hold("GET", where)
    await rig.until_reached(trap)
    began = time.monotonic()
    assert await rig.stop() == 0
    assert time.monotonic() - began < WITHIN
    trap.drop()
    run = await run_on_disk(rig, alert)
    assert run.state.open
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]


@pytest.mark.long
async def test_nobody_answers_while_it_stops(make_rig):
    """The call is in doubt and nobody can be asked: the deadline of the stop counts, and the next start looks."""
    rig = await make_rig(kubernetes_timeout="1s")
    await rig.up()
    before = await rig.cluster.whole()
    trap = rig.between.hold("DELETE", POD, "after")
    alert = await hung(rig)
    await rig.until_reached(trap)
    rig.cluster.child.send_signal(signal.SIGSTOP)
    trap.drop()
    began = time.monotonic()
    assert await rig.stop() == 0
    assert time.monotonic() - began < WITHIN + SLACK
    rig.cluster.child.send_signal(signal.SIGCONT)
    run = await run_on_disk(rig, alert)
    assert [change.state for step in run.steps for change in step.changes] == ["intended"]
    await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]


@pytest.mark.long
async def test_stopped_and_started_again_and_again(rig, before):
    alert = await hung(rig)
    for _ in range(3):
        await asyncio.wait({asyncio.create_task(rig.ended(alert))}, timeout=0.4)
        assert await rig.stop() == 0
        await rig.up()
    run = await healed(rig, alert, before)
    assert states_of(run) == [("delete", "kept")]
    assert len(rig.between.sent) == 1
