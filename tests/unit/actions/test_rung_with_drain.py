"""A rung that ends with a drain: what would forbid the drain for good forbids the steps before it."""

from __future__ import annotations

import pytest

from remediator.model import StepState, evolve
from remediator.playbook.attached import bundled
from remediator.reasons import Reason
from remediator.run import StepEnd, brought_gates, brought_with, run_step, values_of

PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: out-of-service}
parameters:
  lose: {type: bool, default: false, help: "whether what is in emptyDirs may be lost"}
gates: {cooldown: 1s}
ladder:
- name: take the node out of service
  steps:
  - shift: {action: bgp.withdraw_node, timeout: 20m}
  - drain: {action: node.drain, timeout: 30m, headroom: 10m, delete_emptydir_data: "${parameters.lose}"}
verify:
  kube: {kind: Node, fields: 'metadata.name=${target.name}'}
  holds: size(objects) == 1
  within: 1m
  hold: 0s
"""
SHIFT, DRAIN = 0, 1
SCRATCH = [{"name": "tmp", "emptyDir": {}}]


@pytest.fixture
def begun(stage):
    async def begin(*, lose=False):
        playbook = stage.world.load_revision(bundled(PLAYBOOK, {}))
        run = await stage.begin(playbook, node="node-3")
        run = evolve(run, parameters={"lose": lose})
        await stage.world.journal.save_run(run)
        return playbook, run

    return begin


async def carry(stage, playbook, run, index):
    now = await stage.world.journal.run(run.id)
    return await run_step(stage.world, playbook, now, now.steps[index], playbook.ladder[0].steps[index])


HELD = {
    "an emptyDir": (Reason.LOCAL_STORAGE, "has an emptyDir: apps/web-"),
    "a pod that nothing would make anew": (Reason.UNMANAGED_PODS, "has no controller: apps/alone"),
    "a budget that can never yield": (Reason.PDB, "PodDisruptionBudget apps/web can never yield"),
    "two budgets on one pod": (Reason.PDB, "more than one PodDisruptionBudget (apps/one and apps/two)"),
}


async def plant(farm, held):
    match held:
        case "an emptyDir":
            await farm.plant(farm.deployment("web", 1, volumes=SCRATCH))
        case "a pod that nothing would make anew":
            await farm.plant(farm.bare("alone"))
        case "a budget that can never yield":
            await farm.plant(farm.deployment("web", 1), farm.pdb("web", minAvailable="100%"))
        case _:
            await farm.plant(farm.deployment("web", 1), farm.pdb("one", app="web"), farm.pdb("two", app="web"))


@pytest.mark.parametrize("held", HELD)
async def test_a_drain_that_can_never_work_is_known_before_routes_are_withdrawn(stage, farm, begun, held):
    await plant(farm, held)
    reason, words = HELD[held]
    playbook, run = await begun()
    ending = await carry(stage, playbook, run, SHIFT)
    assert (ending.end, ending.reason) == (StepEnd.REFUSED, reason), ending.detail
    assert words in ending.detail
    assert stage.writes() == []


async def test_what_the_runs_own_parameters_allow_is_no_hindrance(stage, farm, begun):
    await plant(farm, "an emptyDir")
    playbook, run = await begun(lose=True)
    ending = await carry(stage, playbook, run, SHIFT)
    assert ending.end is StepEnd.SUCCEEDED, ending.detail
    ending = await carry(stage, playbook, run, DRAIN)
    assert ending.end is StepEnd.SUCCEEDED, ending.detail


async def test_before_a_run_begins_it_is_judged_by_what_it_would_do(stage, begun):
    playbook, run = await begun()
    for given in (playbook.defaults, {"lose": True}):
        (brought,) = brought_with(playbook, values_of(stage.world, run.target, given)).values()
        assert brought.action == "node.drain"
        assert brought.parameters["delete_emptydir_data"] is given["lose"]


async def test_a_drain_that_has_begun_is_judged_by_what_it_meets(begun):
    """It sees each pod and each budget itself; only before its first change is it asked what stands against it."""
    playbook, run = await begun()
    shift, drain = run.steps
    assert "evictable" in brought_gates(playbook, shift)
    assert "evictable" in brought_gates(playbook, evolve(shift, changes=({"changed": "something"},)))
    assert "evictable" in brought_gates(playbook, evolve(drain, state=StepState.RUNNING))
    begun_drain = evolve(drain, changes=({"changed": "something"},))
    assert "evictable" not in brought_gates(playbook, begun_drain)
    assert "capacity" in brought_gates(playbook, begun_drain)
    assert brought_with(playbook, {"parameters": {"lose": False}}, begun_drain) == {}
