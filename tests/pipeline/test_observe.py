"""Mode ``observe``: nothing is done, and a dry run says what would have been; and what becomes of it when the mode is raised."""

from __future__ import annotations

import asyncio

import pytest

from remediator.model import Mode
from remediator.pipeline import Pipeline

CORDON = {"cordon": {"action": "node.cordon"}}
RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}


@pytest.fixture
def observed(line, symptom, text):
    """A pipeline in mode observe, or ``line.mode``."""
    line.mode = Mode.OBSERVE
    line.world.mode_of = lambda _: line.mode

    async def begin(*steps, **more):
        line.load(text(steps=list(steps) or [CORDON, RESTART], **{"gates": {"cooldown": "1h"}, **more}))
        await line.start()
        line.alert = line.outside.fire()
        return await decision(line, line.alert)

    return begin


async def decision(line, *alerts):
    (found,) = await line.decided(await line.deliver(*alerts))
    return found


async def test_what_would_have_happened_is_on_record(line, stage, observed):
    decided = await observed()
    assert (decided.decision, decided.reason) == ("refused", "observe_only")
    assert [v.gate for v in decided.gates if not v.allowed] == ["observe_only"]
    run = await line.ended(decided.run)
    assert (run.state, run.dry_run, run.approvals) == ("predicted", True, ()), run.detail
    assert [str(step.state) for step in run.steps] == ["succeeded", "succeeded"]
    assert [(c.verb, c.resource.kind, c.dry_run) for step in run.steps for c in step.changes] == [
        ("patch", "Node", True),
        ("delete", "Pod", True),
    ]
    assert stage.writes() == []


async def test_repeats_are_predicted_once(line, observed):
    first = await observed()
    await line.ended(first.run)
    again = await decision(line, line.alert)
    assert (again.decision, again.reason, again.run) == ("duplicate", "duplicate", first.run)
    assert len((await line.journal.runs()).items) == 1
    await line.restart()
    assert (await decision(line, line.alert)).decision == "duplicate"


async def test_where_more_stands_in_the_way_nothing_is_predicted(line, observed):
    decided = await observed()
    await line.ended(decided.run)
    other = await decision(line, line.outside.fire(pod="another episode"))
    assert (other.decision, other.run) == ("refused", None)
    assert {v.gate for v in other.gates if not v.allowed} == {"observe_only", "cooldown"}, "predictions cool down among themselves"


async def test_a_mode_that_was_raised_since_acts_on_the_next_repeat(line, stage, symptom, observed):
    symptom.cured = lambda node: bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))
    predicted = await observed(CORDON)
    await line.ended(predicted.run)
    line.mode = Mode.AUTO
    acted = await decision(line, line.alert)
    assert acted.decision == "run", acted.detail
    assert acted.run != predicted.run
    assert (await line.ended(acted.run)).state == "healed"


async def test_killed_between_the_decision_and_the_prediction_it_goes_on(line, observed):
    begin, stuck = Pipeline.begin, asyncio.Event()

    async def never(_self, runs):
        if runs:
            stuck.set()
            await asyncio.Event().wait()

    Pipeline.begin = never
    try:
        deciding = asyncio.ensure_future(observed())
        await stuck.wait()
        await line.stop()
        deciding.cancel()
    finally:
        Pipeline.begin = begin
    (run,) = (await line.journal.runs()).items
    assert run.state == "running"
    await line.start()
    assert (await line.ended(run.id)).state == "predicted"


async def test_a_daemon_in_dry_run_asks_nobody_and_predicts(line, observed):
    line.mode, line.world.dry_run = Mode.SUGGEST, True
    decided = await observed()
    assert decided.decision == "run", decided.detail
    run = await line.ended(decided.run)
    assert (run.state, run.dry_run, run.approvals) == ("predicted", True, ())


async def test_people_may_ask_for_a_dry_run_and_for_nothing_else(house, text):
    house.put("remedy.yaml", text(steps=[CORDON]))
    await house.start(mode="observe")
    status, problem = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
    assert (status, problem["reason"]) == (409, "observe_only")
    status, run = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3", "dry_run": True})
    assert status == 201
    assert (await house.ended(run["id"])).state == "predicted"
    assert house.stage.writes() == []
