"""``alertmanager.silence`` in whole runs: the target's other alerts are muted while the run works, and heard again as soon as it ended."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from remediator.model import evolve

MUTE = {"mute": {"action": "alertmanager.silence", "duration": "2h"}}


@pytest.fixture
def muted(line, text, outside, symptom, gate):
    """``await muted()``: a run that has muted the target's other alerts, and waits at the gate."""

    async def begin(**more):
        line.load(text(steps=[MUTE, gate], **more))
        await line.start()
        run = await line.run_of(outside.fire())
        await line.step_begins(run, "gate")
        assert await standing(line) == [False], "muted while the run works"
        return run

    return begin


async def standing(line):
    """For each silence that there is: whether it is over."""
    return [one.over for one in await line.world.alertmanager.silences()]


def left(run):
    return [change for step in run.steps for change in step.changes if change.left_behind]


async def test_a_healed_run_ends_its_silence(line, muted, symptom):
    run = await muted()
    symptom.set("node-3", False)
    line.gate.set()
    done = await line.ended(run)
    assert (done.state, done.reason) == ("healed", "healed"), done.detail
    assert "ended the silence" in done.detail
    assert await standing(line) == [True]
    assert not left(done)


@pytest.mark.parametrize("on_failure", ["keep", "undo"])
async def test_so_does_one_that_does_not_heal(line, muted, on_failure):
    run = await muted(on_failure=on_failure)
    line.gate.set()
    done = await line.ended(run)
    assert (done.state, done.reason) == ("not_healed", "still_firing"), done.detail
    assert await standing(line) == [True]
    assert not left(done)


async def test_so_does_one_that_a_person_cancels_and_that_lives_on_in_another_process(line, muted):
    run = await muted()
    await line.restart()
    await line.step_begins(run, "gate")
    assert await standing(line) == [False], "one silence, and it stands"
    async with line.world.signals.writing(run):
        stored = await line.journal.run(run)
        await line.journal.save_run(evolve(stored, cancel="berta: wrong node"))
    line.world.signals.cancel(run)
    line.gate.set()
    done = await line.ended(run)
    assert (done.state, done.reason) == ("cancelled", "cancelled_by"), done.detail
    assert await standing(line) == [True]


async def test_what_somebody_edited_since_is_theirs_and_stays(line, muted, symptom):
    run = await muted()
    manager = line.stage.simulation.alertmanager
    (identity,) = manager.silences
    theirs = manager.silences[identity]
    manager.silences[identity] = dataclasses.replace(theirs, ends_at=theirs.ends_at + timedelta(hours=3))
    symptom.set("node-3", False)
    line.gate.set()
    done = await line.ended(run)
    assert done.state == "healed"
    assert "somebody else touched it" in done.detail
    assert await standing(line) == [False]
