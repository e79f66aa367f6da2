"""``node.taint`` on the simulated cluster."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from pydantic import ValidationError

from remediator import facts
from remediator.actions.node_taint import Taint, TaintParameters
from remediator.model import Answer, Approval, ApprovalState, ChangeState, Step, StepState, evolve
from remediator.playbook.attached import bundled
from remediator.reasons import Reason
from remediator.run import StepEnd, run_step
from remediator.undo import undo

ACTION = "node.taint"
NOTE = "remediator.dev/tainted-by"
OURS = {"key": "example.test/suspect", "value": "slow", "effect": "NoSchedule"}
OUT = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


@pytest.fixture(autouse=True)
def patient(stage, monkeypatch):
    """A busy machine is no hanging system."""
    stage.lasting = "20m"
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


def node(stage, name="node-3"):
    found = stage.cluster.get("Node", name)
    return found["spec"].get("taints", []), (found["metadata"].get("annotations") or {}).get("remediator.dev/tainted-by")


def edit(stage, change):
    kind = stage.cluster.kind("Node")
    copy = stage.cluster.store.edit(kind, stage.cluster.store.get(kind, "node-3"))
    change(copy)
    stage.cluster.store.replace(kind, copy)


async def test_a_taint_comes_with_its_owner_and_goes_with_the_undo(stage):
    done = await stage.step(ACTION, **OURS)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    taints, note = node(stage)
    assert taints == [OURS]
    assert done.run.id in note
    assert "example.test/suspect=slow:NoSchedule" in note
    await undo(stage.world, done.run)
    assert node(stage) == ([], None)
    changes = (await stage.world.journal.run(done.run.id)).steps[0].changes
    assert ChangeState.UNDONE in {change.state for change in changes}


TWO = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: two}
ladder:
- name: both
  steps:
  - one: {action: node.taint, timeout: 20m, key: example.test/one, effect: NoSchedule}
  - two: {action: node.taint, timeout: 20m, key: example.test/two, value: b, effect: PreferNoSchedule}
verify:
  kube: {kind: Node, fields: 'metadata.name=${target.name}'}
  holds: size(objects) == 1
  within: 1m
"""
ONE = {"key": "example.test/one", "effect": "NoSchedule"}
OTHER = {"key": "example.test/two", "value": "b", "effect": "PreferNoSchedule"}


async def tainted_twice(stage, *, dry_run=False):
    playbook = stage.world.load_revision(bundled(TWO, {}))
    run = await stage.begin(playbook, node="node-3", dry_run=dry_run)
    for index, spec in enumerate(playbook.ladder[0].steps):
        now = await stage.world.journal.run(run.id)
        ending = await run_step(stage.world, playbook, now, now.steps[index], spec)
        assert ending.end is StepEnd.SUCCEEDED, ending.detail
    return await stage.world.journal.run(run.id)


def states(run):
    return [change.state for step in run.steps for change in step.changes if not change.undoes]


async def test_each_of_two_taints_of_a_run_has_its_note_and_both_go_with_the_undo(stage):
    run = await tainted_twice(stage)
    taints, note = node(stage)
    assert taints == [ONE, OTHER]
    assert [one["taint"] for one in json.loads(note)] == ["example.test/one:NoSchedule", "example.test/two=b:PreferNoSchedule"]
    undone = await undo(stage.world, run)
    assert (len(undone.undone), undone.foreign) == (2, ())
    assert node(stage) == ([], None)
    assert states(await stage.world.journal.run(run.id)) == [ChangeState.UNDONE, ChangeState.UNDONE]


@pytest.mark.parametrize("theirs", [ONE, OTHER])
async def test_of_two_taints_the_one_that_somebody_touched_is_theirs_alone(stage, theirs):
    run = await tainted_twice(stage)
    touched = {**theirs, "value": "theirs"}
    edit(stage, lambda copy: copy["spec"].update(taints=[touched if one == theirs else one for one in copy["spec"]["taints"]]))
    await undo(stage.world, run)
    assert node(stage)[0] == [touched]
    expected = [ChangeState.FOREIGN if one is theirs else ChangeState.UNDONE for one in (ONE, OTHER)]
    assert states(await stage.world.journal.run(run.id)) == expected


async def test_what_became_of_a_lost_patch_of_one_of_two_taints_is_told_by_its_note(stage):
    run = await tainted_twice(stage)
    ctx = type("Ctx", (), {"kube": stage.world.kube})()
    first, second = (step.changes[0] for step in run.steps)
    back = evolve(second, before=second.after, after=second.before, undoes=second.id)
    assert [(await Taint().observe(ctx, one)).value for one in (first, second, back)] == ["applied", "applied", "absent"]
    edit(stage, lambda copy: copy["metadata"]["annotations"].update({NOTE: first.after[NOTE]}))
    assert [(await Taint().observe(ctx, one)).value for one in (first, second, back)] == ["applied", "absent", "applied"]


async def test_a_note_of_the_release_before_is_read_and_one_alone_is_written_as_it_did(stage):
    """So the one undoes what the other did, after an upgrade and after a way back."""
    done = await stage.step(ACTION, **OURS)
    (change,) = done.run.steps[0].changes
    assert node(stage)[1] == change.after[NOTE]
    assert json.loads(change.after[NOTE]).keys() == {"run", "at", "reason", "taint"}
    await stage.world.journal.save_change(evolve(change, before={"taint": None, NOTE: "what was there"}))
    assert (await undo(stage.world, await stage.world.journal.run(done.run.id))).undone
    assert node(stage) == ([], None)


async def test_a_note_whose_taint_somebody_took_off_goes_with_the_next(stage):
    first = await stage.step(ACTION, **OURS)
    await stage.over(first.run)
    edit(stage, lambda copy: copy["spec"].pop("taints"))
    done = await stage.step(ACTION, key="example.test/another")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert json.loads(node(stage)[1])["run"] == done.run.id


async def test_taints_of_others_stay(stage):
    other = {"key": "example.test/other", "effect": "NoSchedule"}
    edit(stage, lambda copy: copy["spec"].update(taints=[other]))
    done = await stage.step(ACTION, **OURS)
    assert node(stage)[0] == [other, OURS]
    await undo(stage.world, done.run)
    assert node(stage) == ([other], None)


@pytest.mark.parametrize("touched", ["the value", "the note"])
async def test_what_somebody_touched_is_theirs(stage, touched):
    done = await stage.step(ACTION, **OURS)

    def change(copy):
        if touched == "the value":
            copy["spec"]["taints"][0]["value"] = "theirs"
        else:
            copy["metadata"]["annotations"]["remediator.dev/tainted-by"] = "{}"

    edit(stage, change)
    before = node(stage)
    await undo(stage.world, done.run)
    assert node(stage) == before


async def test_a_taint_that_is_there_already_is_left_and_not_undone(stage):
    edit(stage, lambda copy: copy["spec"].update(taints=[{**OURS, "value": "theirs"}]))
    done = await stage.step(ACTION, **OURS)
    assert (done.end, "left as it is" in done.detail) == (StepEnd.SUCCEEDED, True)
    assert stage.writes() == []


async def test_no_execute_drives_pods_out(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    done = await stage.step(ACTION, key="example.test/gone", effect="NoExecute")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    await stage.until(lambda: not farm.pods())


async def test_a_dry_run_changes_nothing(stage):
    done = await stage.step(ACTION, dry_run=True, **OURS)
    assert (done.detail, node(stage), stage.writes()) == ("would taint example.test/suspect=slow:NoSchedule", ([], None), [])


def approved(reason, *, step=0, state=ApprovalState.APPROVED):
    """A run whose step ``step`` asked people (None: the run's own beginning)."""

    def change(run):
        now = run.started_at
        asking = Step(name="ask", action="approve", rung=0, attempt=1, index=1, state=StepState.SUCCEEDED)
        answers = (Answer(by="anna", at=now, approved=True, reason=reason),)
        one = Approval(step=None if step is None else 1, asked_at=now, expires_at=now + timedelta(hours=1), state=state, answers=answers)
        return evolve(run, steps=(*run.steps, asking), approvals=(one,))

    return change


async def out_of_service(stage, change=lambda run: run, *, lost=True):
    stage.wide()
    if lost:
        stage.cluster.stop_kubelet("node-3")
        await stage.until(lambda: any(c["type"] == "Ready" and c["status"] == "Unknown" for c in _conditions(stage)))
    playbook = stage.playbook(ACTION, out_of_service=True)
    run = change(await stage.begin(playbook, node="node-3"))
    await stage.world.journal.save_run(run)
    for step in run.steps:
        await stage.world.journal.save_step(run.id, step)
    return await stage.carry(playbook, run)


def _conditions(stage):
    return stage.cluster.get("Node", "node-3")["status"]["conditions"]


PROOF = "PDU port 7 is off, seen on its display"


async def test_out_of_service_gives_up_what_is_on_a_node_that_is_proved_to_be_off(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    done = await out_of_service(stage, approved(PROOF))
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert OUT in node(stage)[0]
    await stage.until(lambda: not farm.pods())
    assert [e.data for e in done.run.steps[0].evidence if e.name == "power proof"] == [[{"by": "anna", "reason": PROOF}]]


UNPROVED = {
    "nobody was asked": lambda run: run,
    "the yes says nothing": approved("ok"),
    "the yes was to the beginning": approved(PROOF, step=None),
    "it is not answered": approved(PROOF, state=ApprovalState.WAITING),
}


@pytest.mark.parametrize("case", UNPROVED)
async def test_out_of_service_is_refused_without_proof(stage, case):
    done = await out_of_service(stage, UNPROVED[case])
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.UNREADABLE), done.detail
    assert OUT not in node(stage)[0]


async def test_out_of_service_is_refused_on_a_node_that_is_ready(stage):
    done = await out_of_service(stage, approved(PROOF), lost=False)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED), done.detail
    assert stage.writes() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"key": "a", "out_of_service": True},
        {"out_of_service": True, "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"},
        {"key": "node.cilium.io/agent-not-ready"},
        {"key": "a b"},
        {"key": "a", "effect": "Never"},
    ],
)
def test_what_makes_no_sense_is_refused_when_the_playbook_is_read(wrong):
    with pytest.raises(ValidationError):
        TaintParameters.model_validate(wrong)


async def test_the_taint_of_another_run_is_not_written_over(stage):
    first = await stage.step(ACTION, **OURS)
    await stage.over(first.run)
    done = await stage.step(ACTION, key="example.test/another")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_BUSY), done.detail


async def test_what_became_of_a_lost_patch_is_told_by_the_note(stage):
    done = await stage.step(ACTION, **OURS)
    (change,) = done.run.steps[0].changes
    ctx = type("Ctx", (), {"kube": stage.world.kube})()
    assert (await Taint().observe(ctx, change)).value == "applied"
    other = evolve(change, after={**change.after, "remediator.dev/tainted-by": "another"})
    assert (await Taint().observe(ctx, other)).value == "absent"
