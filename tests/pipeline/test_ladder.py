"""The way of a run over the rungs of its ladder, with the real engine: which rung is tried, and how the run ends."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from remediator.model import evolve
from remediator.story import tell

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


def told(line, playbook, reason):
    return line.counted("remediator_not_healed_total", playbook=playbook, reason=reason)


async def test_no_rung_heals(line, symptom, text, logged):
    """A person is told, in record, log and metric, with what every rung came to and what was seen on the way."""
    before = told(line, "remedy", "no_more_rungs")
    look = {"look": {"action": "prometheus.query", "query": "symptom"}}
    run = await played(line, text(ladder=[[look, WAIT], [CORDON]], verify=SHORT))
    assert (run.state, run.reason, run.rung) == ("not_healed", "no_more_rungs", 1), run.detail
    assert states(run) == ["succeeded"] * 3
    assert (run.verification.healed, run.verification.reason) == (False, "still_firing")
    assert re.fullmatch(r"the rung 'rung 0': still_firing, .* gives nothing; the rung 'rung 1': still_firing, .* gives nothing", run.detail)
    (entry,) = await line.journal.entries(ref=run.id, kind="not_healed")
    assert (entry.data["reason"], entry.data["target"], entry.data["alert"]) == ("no_more_rungs", "Node/node-3", "Symptom")
    assert entry.data["evidence"] == [{"step": "look", "name": "symptom"}]
    (line_,) = [one for one in logged if one["event"].startswith("a person must look")]
    assert (line_["log_level"], line_["run"], line_["detail"]) == ("error", run.id, run.detail)
    assert told(line, "remedy", "no_more_rungs") == before + 1
    story = "\n".join((await tell(line.journal, run.id)).lines)
    assert "Every rung of the ladder was tried; a person must look." in story
    assert f"`remediator runs show {run.id} -o json`: symptom (step look)" in story


async def test_a_ladder_of_one_rung_ends_as_that_one_did_and_a_person_is_told_too(line, symptom, text, logged):
    before = told(line, "remedy", "still_firing")
    run = await played(line, text(steps=[WAIT], verify=SHORT))
    assert (run.state, run.reason) == ("not_healed", "still_firing"), run.detail
    assert len(await line.journal.entries(ref=run.id, kind="not_healed")) == 1
    assert told(line, "remedy", "still_firing") == before + 1
    assert [one for one in logged if one["event"].startswith("a person must look")]


async def test_a_relapse_within_the_hold_time_is_not_healed_and_the_next_rung_is_tried(line, symptom, text, cordoned):
    """The first rung seems to help, for less than the hold time; then only the second does."""
    gone = True
    symptom.cured = lambda node: gone or cordoned(node)
    line.load(text(ladder=[[WAIT], [CORDON]], verify={**SHORT, "within": "3m", "hold": "3m", "every": "5s"}))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.when(run, lambda r: r.verification is not None and r.verification.held_since is not None, "the hold")
    gone = False
    done = await line.ended(run)
    assert (done.state, done.rung) == ("healed", 1), done.detail
    ends = [e.data["verification"] for e in await line.journal.entries(ref=run, kind="run") if e.data["verification"]]
    assert "relapsed" in [v["reason"] for v in ends], [v["last"] for v in ends]


def rungs(*lists, attempts):
    return [{"name": f"rung {n}", "attempts": count, "steps": steps} for n, (steps, count) in enumerate(zip(lists, attempts, strict=True))]


class TestAttempts:
    """A rung may be tried more often than once, each time with steps and a proof of its own."""

    async def test_each_attempt_has_its_steps_and_the_next_rung_comes_after_them(self, line, symptom, text, cordoned):
        symptom.cured = cordoned
        run = await played(line, json.dumps({**json.loads(text(verify=SHORT)), "ladder": rungs([WAIT], [CORDON], attempts=(2, 1))}))
        assert (run.state, run.rung, run.attempt) == ("healed", 1, 1), run.detail
        assert [(s.name, s.rung, s.attempt, s.index, str(s.state)) for s in run.steps] == [
            ("settle", 0, 1, 0, "succeeded"), ("settle", 0, 2, 1, "succeeded"), ("cordon", 1, 1, 2, "succeeded"),
        ]  # fmt: skip
        entries = await line.journal.entries(ref=run.id, kind="run")
        assert len({e.data["verification"]["deadline"] for e in entries if e.data["verification"]}) == 3

    async def test_what_heals_at_the_first_attempt_is_not_tried_again(self, line, symptom, text):
        symptom.set("node-3", False)
        run = await played(line, json.dumps({**json.loads(text(verify=SHORT)), "ladder": rungs([WAIT], attempts=(3,))}))
        assert (run.state, run.attempt) == ("healed", 1), run.detail
        assert states(run) == ["succeeded", "pending", "pending"]

    async def test_after_the_last_a_person_is_told(self, line, symptom, text):
        run = await played(line, json.dumps({**json.loads(text(verify=SHORT)), "ladder": rungs([WAIT], attempts=(2,))}))
        assert (run.state, run.reason, run.attempt) == ("not_healed", "no_more_rungs", 2), run.detail
        assert "the rung 'rung 0', attempt 1 of 2: still_firing" in run.detail
        assert "(rung 1, attempt 2)" in "\n".join((await tell(line.journal, run.id)).lines)

    async def test_a_restart_goes_on_with_the_attempt_that_was_open(self, line, symptom, text, gate):
        ladder = rungs([WAIT, gate], attempts=(2,))
        line.load(json.dumps({**json.loads(text(verify=SHORT)), "ladder": ladder}))
        await line.start()
        run = await line.run_of(line.outside.fire())
        line.gate.set()
        await line.when(run, lambda r: r.attempt == 2 and r.steps[2].state == "running", "the second attempt")
        await line.restart()
        done = await line.ended(run)
        assert (done.state, done.reason, done.attempt) == ("not_healed", "no_more_rungs", 2), done.detail
        assert states(done) == ["succeeded"] * 4
        assert [s.attempts for s in done.steps[:2]] == [1, 1], "the first attempt was not entered again"

    async def test_the_changes_of_each_attempt_stand_in_it_and_are_undone_from_there(self, line, symptom, text, cordoned):
        """The cordon of the first attempt is put back, though a step of that name has begun once more since."""
        ladder = rungs([CORDON], attempts=(2,))
        run = await played(line, json.dumps({**json.loads(text(verify=SHORT, on_failure="undo")), "ladder": ladder}))
        assert run.state == "not_healed"
        assert not cordoned()
        assert [[str(c.state) for c in s.changes] for s in run.steps] == [["undone", "kept"], []]
        assert states(run) == ["undone", "succeeded"]


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
    assert run.started_at < run.verification.ended_at <= run.undoing_at <= run.ended_at
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
