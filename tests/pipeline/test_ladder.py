"""The way of a run over the rungs of its ladder, with the real engine: which rung is tried, and how the run ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.model import evolve

CORDON = {"cordon": {"action": "node.cordon"}}
AGAIN = {"again": {"action": "node.cordon"}}
WAIT = {"settle": {"action": "wait", "for": "2s"}}
FAILS = {"look": {"action": "prometheus.query", "query": "symptom == 7", "expect": "some"}}
SHORT = {"query": 'symptom{node="${target.name}"} == 0', "within": "6s", "hold": "2s", "every": "2s"}


@pytest.fixture
def cordoned(stage):
    return lambda node="node-3": bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))


async def played(line, *texts, **more):
    """The run that an alert for node-3 leads to, once it ended."""
    line.load(*texts)
    await line.start()
    return await line.ended(await line.run_of(line.outside.fire(**more)))


def states(run):
    return [str(step.state) for step in run.steps]


async def test_the_first_rung_heals_and_the_second_is_never_entered(line, symptom, text, cordoned):
    symptom.cured = cordoned
    run = await played(line, text(ladder=[[CORDON], [WAIT]]))
    assert (run.state, run.reason, run.rung) == ("healed", "healed", 0), run.detail
    assert states(run) == ["succeeded", "pending"]
    assert run.verification.healed
    assert (run.verification.ended_at - run.verification.held_since).total_seconds() >= 10
    assert cordoned()


async def test_the_second_rung_is_tried_where_the_first_did_not_heal(line, symptom, text, cordoned):
    symptom.cured = cordoned
    run = await played(line, text(ladder=[[WAIT], [CORDON]], verify=SHORT))
    assert (run.state, run.reason, run.rung) == ("healed", "healed", 1), run.detail
    assert states(run) == ["succeeded", "succeeded"]
    entries = await line.journal.entries(ref=run.id, kind="run")
    seen = [(e.data["rung"], e.data["state"]) for e in entries]
    assert [pair for number, pair in enumerate(seen) if pair not in seen[:number]] == [
        (0, "running"), (0, "verifying"), (1, "running"), (1, "verifying"), (1, "healed"),
    ]  # fmt: skip
    deadlines = {e.data["verification"]["deadline"] for e in entries if e.data["verification"]}
    assert len(deadlines) == 2, "each rung has its own time to prove itself"


async def test_no_rung_heals(line, symptom, text):
    run = await played(line, text(ladder=[[WAIT], [CORDON]], verify=SHORT))
    assert (run.state, run.reason, run.rung) == ("not_healed", "still_firing", 1), run.detail
    assert states(run) == ["succeeded", "succeeded"]
    assert run.verification.healed is False
    assert "gives nothing" in run.detail


async def test_where_it_cannot_be_verified_no_harder_rung_is_tried(line, stage, symptom, text, cordoned):
    """Nobody knows whether the first rung helped, so nothing justifies the second."""
    line.load(text(ladder=[[WAIT], [CORDON]], verify=SHORT))
    await line.start()
    stage.cluster.fail(path="/prometheus/", status=503, count=None)
    run = await line.ended(await line.run_of(line.outside.fire()))
    assert (run.state, run.reason, run.rung) == ("not_healed", "deadline", 0), run.detail
    assert "could not be verified" in run.detail
    assert not cordoned()


async def test_a_failed_step_stops_the_rung_and_the_run(line, symptom, text, cordoned):
    run = await played(line, text(ladder=[[WAIT, FAILS, CORDON], [AGAIN]]))
    assert (run.state, run.reason) == ("failed", "step_failed")
    assert states(run) == ["succeeded", "failed", "pending", "pending"]
    assert "expected some, got 0" in run.detail
    assert run.verification is None
    assert not cordoned()


@pytest.mark.parametrize("on_failure", ["undo", "keep"])
async def test_on_failure_the_cordon_goes_or_stays_as_the_playbook_says(line, stage, symptom, text, cordoned, on_failure):
    before = stage.cluster.get("Node", "node-3")
    run = await played(line, text(steps=[CORDON, FAILS], on_failure=on_failure))
    assert (run.state, run.reason) == ("failed", "step_failed")
    if on_failure == "keep":
        assert cordoned()
        assert [c.left_behind for c in run.steps[0].changes] == [True]
        return
    assert states(run) == ["undone", "failed"]
    assert [str(c.state) for c in run.steps[0].changes] == ["undone", "kept"]
    assert "undone: uncordoned Node/node-3" in run.detail
    after = stage.cluster.get("Node", "node-3")
    assert after["spec"].get("unschedulable") is before["spec"].get("unschedulable")
    assert after["metadata"].get("annotations") == before["metadata"].get("annotations")
    entries = await line.journal.entries(ref=run.id, kind="run")
    assert "undoing" in [e.data["state"] for e in entries]


async def test_on_failure_undo_also_when_no_rung_healed(line, symptom, text, cordoned):
    run = await played(line, text(steps=[CORDON], verify=SHORT, on_failure="undo"))
    assert (run.state, run.reason) == ("not_healed", "still_firing")
    assert "undone: uncordoned" in run.detail
    assert not cordoned()


async def test_what_somebody_else_touched_is_left_by_the_undo(line, symptom, text, gate, cordoned):
    line.load(text(steps=[CORDON, gate, FAILS], on_failure="undo"))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.step_begins(run, "gate")
    mark = {"metadata": {"annotations": {"remediator.dev/cordoned-by": None}}}
    from remediator.kube import kinds

    await line.world.kube.patch(kinds.NODE, "node-3", mark, type="merge")
    line.gate.set()
    done = await line.ended(run)
    assert done.state == "failed"
    assert "somebody else touched it since" in done.detail
    assert cordoned()
    assert [str(c.state) for c in done.steps[0].changes] == ["foreign"]


async def test_without_verify_it_is_done_and_never_called_healed(line, symptom, text):
    run = await played(line, text(steps=[{"look": {"action": "prometheus.query", "query": "symptom"}}], verify=None))
    assert (run.state, run.reason) == ("done", None)
    assert run.detail == "5 samples"


async def test_a_dry_run_is_predicted_and_leaves_nothing(line, stage, symptom, text):
    line.world.dry_run = True
    stage.cluster.kill_agent("node-3")
    before = stage.agents()
    steps = [CORDON, {"restart": {"action": "cilium.restart_agent"}}, {"settle": {"action": "wait", "for": "5h"}}]
    run = await played(line, text(steps=steps, gates={"cooldown": "1s"}, deadline="6h", on_resolved="undo"))
    assert (run.state, run.dry_run) == ("predicted", True), run.detail
    assert states(run) == ["succeeded"] * 3
    assert "nothing was changed" in run.detail
    assert stage.writes() == []
    assert stage.agents() == before
    changes = [change for step in run.steps for change in step.changes]
    assert [(c.verb, c.resource.kind, c.dry_run, c.left_behind) for c in changes] == [
        ("patch", "Node", True, False),
        ("delete", "Pod", True, False),
    ]
    assert (await line.journal.changes(left_behind=True)).items == ()
    entries = await line.journal.entries(kind="change")
    assert all(entry.data["dry_run"] for entry in entries)


async def test_a_run_keeps_the_playbook_that_it_began_with(line, symptom, text, gate, cordoned):
    symptom.cured = cordoned
    old = text(steps=[gate, CORDON])
    line.load(old)
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.step_begins(run, "gate")
    line.load(text(steps=[FAILS]))
    line.gate.set()
    done = await line.ended(run)
    assert done.state == "healed", done.detail
    assert done.revision == line.world.load_revision(old).revision
    assert await line.journal.revision(done.revision) == old


async def test_a_run_keeps_its_playbook_over_a_restart_too(line, symptom, text, gate, cordoned):
    symptom.cured = cordoned
    line.load(text(steps=[gate, CORDON]))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.step_begins(run, "gate")
    line.load(text("another", alert="Other"))
    await line.stop()
    line.gate.set()
    await line.restart()
    done = await line.ended(run)
    assert done.state == "healed", done.detail
    assert len([w for w in line.stage.cluster.writes() if w.verb == "patch"]) == 1


async def test_parameters_reach_the_steps_as_given(line, symptom, text):
    from remediator.model import Trigger, TriggerKind

    symptom.set("node-3", False)
    parameters = {"pause": {"type": "duration", "default": "1h"}, "what": {"type": "string", "default": "up"}}
    steps = [
        {"settle": {"action": "wait", "for": "${parameters.pause}"}},
        {"look": {"action": "prometheus.query", "query": '${parameters.what}{node="${target.name}"}'}},
    ]
    line.load(text(steps=steps, parameters=parameters, deadline="2h"))
    await line.start()
    playbook = line.world.library.playbooks[0]
    target = await _target(line, "node-3")
    trigger = Trigger(kind=TriggerKind.MANUAL, by="anna")
    judged = await line.pipeline.decider.person(playbook, target, trigger, parameters=playbook.fill({"pause": "3s", "what": "symptom"}))
    await line.pipeline.begin([judged.run])
    run = await line.ended(judged.run.id)
    assert run.state == "healed", run.detail
    assert run.steps[0].outcome == "waited 3s"
    assert run.steps[1].evidence[0].name == 'symptom{node="node-3"}'


class TestDeadlineOfTheRun:
    async def test_it_ends_a_step_that_would_take_longer(self, line, symptom, text, gate, later):
        wait = {"settle": {"action": "wait", "for": "8m", "timeout": "9m"}}
        line.load(text(steps=[gate, wait, CORDON], verify=SHORT, deadline="10m"))
        await line.start()
        run = await line.run_of(line.outside.fire())
        await line.step_begins(run, "gate")
        later(minutes=5)
        line.gate.set()
        await line.step_begins(run, "settle")
        later(minutes=5)
        done = await line.ended(run)
        assert (done.state, done.reason) == ("failed", "deadline"), done.detail
        assert states(done) == ["succeeded", "failed", "pending"]

    async def test_nothing_is_tried_after_it(self, line, symptom, text, gate, cordoned, later):
        """The first rung took all the time there was; the second must not begin."""
        line.load(text(ladder=[[gate], [CORDON]], verify={**SHORT, "within": "10m"}, deadline="10m"))
        await line.start()
        run = await line.run_of(line.outside.fire())
        await line.step_begins(run, "gate")
        later(seconds=598)
        line.gate.set()
        done = await line.ended(run)
        assert (done.state, done.reason) == ("not_healed", "still_firing"), done.detail
        assert "the run's time is up, so the rung 'rung 1' was not tried" in done.detail
        assert done.verification.deadline <= max(done.deadline, done.verification.started_at)
        assert states(done) == ["succeeded", "pending"]
        assert not cordoned()

    async def test_a_call_is_not_sent_when_the_steps_time_is_up(self, stage):
        """As after a restart that came too late."""
        playbook = stage.playbook("node.cordon", lasting="1m")
        run = await stage.begin(playbook, node="node-3")
        await stage.world.journal.save_run(evolve(run, deadline=stage.world.clock.now() - timedelta(seconds=1)))
        done = await stage.carry(playbook, run)
        assert (done.end, done.reason) == ("failed", "deadline")
        assert stage.writes() == []
        assert done.run.steps[0].changes == ()


async def _target(line, node):
    from remediator.match import find

    return await find("Node", node, "", line.world.kube)
