"""``node.cordon`` and ``node.uncordon``: only our own cordon is ever lifted."""

from __future__ import annotations

import json

import pytest

from remediator.actions.node import ANNOTATION, owner
from remediator.kube import kinds
from remediator.model import ChangeState, evolve, new_id
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.sim.happenings import people_cordon, people_uncordon
from remediator.undo import undo


def node(stage, name="node-3"):
    return stage.cluster.get("Node", name)


def cordoned(stage):
    return node(stage)["spec"].get("unschedulable", False)


def by_hand(stage, value, name="node-3"):
    """As kubectl cordon and uncordon do: the field is theirs then, and our note stays."""
    (people_cordon if value else people_uncordon)(name)(stage.simulation)


async def test_cordon_and_note_come_in_one_patch(stage):
    done = await stage.step("node.cordon")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert cordoned(stage)
    assert json.loads(node(stage)["metadata"]["annotations"][ANNOTATION])["run"] == done.run.id
    assert len(stage.writes()) == 1
    (change,) = done.run.steps[0].changes
    assert change.state is ChangeState.APPLIED
    assert change.left_behind
    await stage.until(lambda: any(t["key"] == "node.kubernetes.io/unschedulable" for t in node(stage)["spec"].get("taints", ())))


async def test_undo_lifts_it_and_leaves_the_node_as_it_was(stage):
    before = node(stage)
    done = await stage.step("node.cordon")
    undone = await undo(stage.world, done.run)
    assert undone.undone == ("uncordoned Node/node-3",)
    after = node(stage)
    assert after["spec"].get("unschedulable") is before["spec"].get("unschedulable")
    assert (after["metadata"].get("annotations") or {}) == (before["metadata"].get("annotations") or {})
    run = await stage.world.journal.run(done.run.id)
    assert [c.state for c in run.steps[0].changes] == [ChangeState.UNDONE, ChangeState.KEPT]
    assert run.steps[0].state == "undone"


async def test_somebody_elses_cordon_is_left_and_never_undone(stage):
    by_hand(stage, True)
    before = len(stage.writes())
    done = await stage.step("node.cordon")
    assert done.end is StepEnd.SUCCEEDED
    assert "somebody else" in done.detail
    assert done.run.steps[0].changes == ()
    assert (await undo(stage.world, done.run)).words == "nothing to undo"
    assert len(stage.writes()) == before
    assert cordoned(stage)


def lifted_and_set_again(stage):
    """By people, for maintenance of their own."""
    by_hand(stage, False)
    by_hand(stage, True)
    assert ANNOTATION in node(stage)["metadata"]["annotations"]


async def test_a_cordon_that_people_lifted_and_set_again_is_theirs(stage):
    done = await stage.step("node.cordon")
    lifted_and_set_again(stage)
    undone = await undo(stage.world, done.run)
    assert undone.foreign
    assert cordoned(stage)
    run = await stage.world.journal.run(done.run.id)
    assert run.steps[0].changes[0].state is ChangeState.FOREIGN


@pytest.mark.parametrize("dry_run", [False, True])
async def test_uncordon_refuses_what_people_lifted_and_set_again(stage, dry_run):
    await stage.step("node.cordon")
    lifted_and_set_again(stage)
    done = await stage.step("node.uncordon", dry_run=dry_run)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED), done.detail
    assert cordoned(stage)


async def test_a_cordon_that_comes_between_the_look_and_the_lifting_stays(stage, monkeypatch):
    done = await stage.step("node.cordon")
    patch = stage.world.kube.patch

    async def late(*about, **options):
        if cordoned(stage) and "kubectl" not in str(node(stage)["metadata"]["managedFields"]):
            lifted_and_set_again(stage)
        return await patch(*about, **options)

    monkeypatch.setattr(stage.world.kube, "patch", late)
    assert (await undo(stage.world, done.run)).foreign
    assert cordoned(stage)


async def test_after_people_set_again_what_they_lifted_a_cordon_is_said_to_be_theirs(stage):
    first = await stage.step("node.cordon")
    await stage.over(first.run)
    lifted_and_set_again(stage)
    done = await stage.step("node.cordon")
    assert "cordoned already by somebody else" in done.detail
    assert done.run.steps[0].changes == ()


async def test_a_cordon_of_which_the_api_server_does_not_say_who_set_it_is_nobodys_to_lift(stage):
    done = await stage.step("node.cordon")
    kind = stage.cluster.kind("Node")
    copy = stage.cluster.store.edit(kind, node(stage))
    del copy["metadata"]["managedFields"]
    stage.cluster.store.replace(kind, copy)
    assert (await undo(stage.world, done.run)).foreign
    assert cordoned(stage)


async def test_of_a_cordon_that_people_lifted_the_undo_takes_the_note_off(stage):
    before = node(stage)
    done = await stage.step("node.cordon")
    by_hand(stage, False)
    undone = await undo(stage.world, done.run)
    assert undone.undone == ("took our note off Node/node-3, which somebody else has uncordoned",)
    assert (node(stage)["metadata"].get("annotations") or {}) == (before["metadata"].get("annotations") or {})
    by_hand(stage, True)
    assert (await stage.step("node.uncordon")).reason is Reason.PROTECTED


async def test_of_a_cordon_that_people_lifted_an_uncordon_takes_the_note_off(stage):
    first = await stage.step("node.cordon")
    by_hand(stage, False)
    done = await stage.step("node.uncordon")
    assert (done.end, owner(node(stage))) == (StepEnd.SUCCEEDED, None)
    assert "took our note off" in done.detail
    (change,) = (await stage.world.journal.run(first.run.id)).steps[0].changes
    assert (change.state, change.detail) == (ChangeState.UNDONE, f"put back by run {done.run.id}")


async def test_a_cordon_of_ours_after_people_lifted_one_is_ours_to_undo(stage):
    first = await stage.step("node.cordon")
    await stage.over(first.run)
    by_hand(stage, False)
    second = await stage.step("node.cordon")
    assert owner(node(stage))["run"] == second.run.id
    assert (await undo(stage.world, first.run)).foreign
    assert cordoned(stage)
    assert (await undo(stage.world, second.run)).undone == ("uncordoned Node/node-3",)
    assert not cordoned(stage)


async def test_a_cordon_of_the_release_before_is_lifted_by_its_undo(stage):
    """It wrote note and cordon as we do, under the same field manager, and looked at the note alone."""
    done = await stage.step("node.cordon")
    (change,) = done.run.steps[0].changes
    await stage.world.kube.patch(kinds.NODE, "node-3", [{"op": "remove", "path": "/spec/unschedulable"}], type="json")
    patch = [
        {"op": "add", "path": "/metadata/annotations/remediator.dev~1cordoned-by", "value": change.after[ANNOTATION]},
        {"op": "add", "path": "/spec/unschedulable", "value": True},
    ]
    await stage.world.kube.patch(kinds.NODE, "node-3", patch, type="json")
    assert (await undo(stage.world, done.run)).undone == ("uncordoned Node/node-3",)
    assert not cordoned(stage)


async def test_a_cordon_whose_note_people_took_off_is_theirs(stage):
    done = await stage.step("node.cordon")
    await stage.world.kube.patch(kinds.NODE, "node-3", {"metadata": {"annotations": {ANNOTATION: None}}}, type="merge")
    undone = await undo(stage.world, done.run)
    assert undone.foreign
    assert cordoned(stage)
    run = await stage.world.journal.run(done.run.id)
    assert run.steps[0].changes[0].state is ChangeState.FOREIGN


async def test_uncordon_lifts_ours_whatever_run_it_was(stage):
    await stage.step("node.cordon")
    done = await stage.step("node.uncordon")
    assert done.end is StepEnd.SUCCEEDED
    assert not cordoned(stage)
    assert owner(node(stage)) is None


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_run_whose_cordon_was_lifted_has_left_nothing_behind(stage, dry_run):
    first = await stage.step("node.cordon")
    done = await stage.step("node.uncordon", dry_run=dry_run)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (change,) = (await stage.world.journal.run(first.run.id)).steps[0].changes
    assert change.state is (ChangeState.APPLIED if dry_run else ChangeState.UNDONE)
    assert change.detail == ("" if dry_run else f"put back by run {done.run.id}")
    assert cordoned(stage) is dry_run


async def test_what_a_run_changed_on_the_node_beside_its_cordon_is_still_its_to_undo(stage):
    """Routes that it withdrew are not back because its cordon is lifted."""
    first = await stage.step("node.cordon")
    (cordon,) = first.run.steps[0].changes
    label = {"metadata": {"labels": {"remediator.dev/bgp-drain": "true"}}}
    other = evolve(cordon, id=new_id(cordon.at), action="bgp.withdraw_node", before={"metadata": {"labels": {}}}, after=label)
    await stage.world.journal.save_change(other)
    done = await stage.step("node.uncordon")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    changes = (await stage.world.journal.run(first.run.id)).steps[0].changes
    assert {change.id: change.state for change in changes} == {cordon.id: ChangeState.UNDONE, other.id: ChangeState.APPLIED}


async def test_uncordon_refuses_a_sick_node_where_it_is_asked_to(stage):
    await stage.step("node.cordon")
    await stage.world.kube.patch(
        kinds.NODE, "node-3", {"spec": {"taints": [{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]}}, type="merge"
    )
    done = await stage.step("node.uncordon", only_if_healthy=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.AGENT_NOT_READY)
    assert "node.kubernetes.io/disk-pressure" in done.detail
    assert cordoned(stage)


async def test_uncordon_refuses_somebody_elses(stage):
    by_hand(stage, True)
    done = await stage.step("node.uncordon")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED)
    assert cordoned(stage)


async def test_uncordon_of_a_node_that_is_not_cordoned_sends_nothing(stage):
    done = await stage.step("node.uncordon")
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "was not cordoned")
    assert stage.writes() == []


async def test_a_race_with_another_writer_is_tried_again_on_fresh_state(stage):
    stage.cluster.fail(verb="patch", path="/nodes/node-3", status=422, count=1)
    done = await stage.step("node.cordon")
    assert done.end is StepEnd.SUCCEEDED
    assert [c.state for c in done.run.steps[0].changes] == [ChangeState.ABSENT, ChangeState.APPLIED]
    assert cordoned(stage)


async def test_a_dry_run_leaves_the_node_alone(stage):
    before = node(stage)["metadata"]["resourceVersion"]
    done = await stage.step("node.cordon", dry_run=True)
    assert done.end is StepEnd.SUCCEEDED
    assert node(stage)["metadata"]["resourceVersion"] == before
    assert done.run.steps[0].changes[0].dry_run


@pytest.mark.parametrize("text", ["not json", "[1]", '"x"', ""])
def test_a_note_that_somebody_garbled_is_nobodys_run(text):
    mark = owner({"metadata": {"annotations": {ANNOTATION: text}}})
    assert mark is not None
    assert mark["run"] == ""
