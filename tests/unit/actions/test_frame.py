from __future__ import annotations

import inspect

import pytest

from remediator.actions import Action, Context, NoParameters, Observed, actions
from remediator.context import StepContext


@pytest.mark.parametrize("action", actions().values(), ids=lambda a: a.name)
def test_every_action_says_what_it_is(action):
    text = action.describe()
    assert text["summary"]
    assert text["changes"]
    assert text["parameters"]["type"] == "object"
    assert text["name"].count(".") == (0 if text["name"] in ("approve", "notify", "wait") else 1)


@pytest.mark.parametrize("action", actions().values(), ids=lambda a: a.name)
def test_what_changes_something_can_be_looked_at_after_a_crash(action):
    if action.changes == "nothing":
        assert action.observe is Action.observe
        assert not action.disruptive
    else:
        assert action.observe is not Action.observe, "a change that cannot be observed would end every crash as unknown"


async def test_an_action_that_cannot_look_is_unclear_and_one_without_undo_says_so():
    class Blind(Action[NoParameters]):
        name = "test.blind"
        summary = "changes something and cannot look"

        async def act(self, ctx, parameters):
            return ""

    assert await Blind().observe(None, None) is Observed.UNCLEAR
    with pytest.raises(NotImplementedError, match=r"test\.blind"):
        await Blind().undo(None, None)


def test_the_context_that_actions_get_has_everything_that_they_are_promised():
    promised = [name for name in vars(Context) if not name.startswith("_")]
    have = {name for name, _ in inspect.getmembers(StepContext)} | set(inspect.getsource(StepContext.__init__).split("self."))
    assert all(name in have or any(part.startswith(name) for part in have) for name in promised)


async def test_a_plan_is_on_disk_before_the_first_change_and_the_first_one_stands(stage):
    from remediator.actions import actions
    from remediator.context import StepContext
    from remediator.model import StepState, evolve

    playbook = stage.playbook("wait", **{"for": "1s"})
    run = await stage.begin(playbook, node="node-3")
    step = evolve(run.steps[0], state=StepState.RUNNING, started_at=run.started_at)
    ctx = StepContext(stage.world, run, step, actions()["wait"](), deadline=run.deadline)
    await ctx.plan(["one", "two"])
    await ctx.progress("half of it")
    stored = (await stage.world.journal.run(run.id)).steps[0]
    assert [(e.name, e.data) for e in stored.evidence] == [("plan", ["one", "two"])]
    assert (stored.detail, stored.state) == ("half of it", StepState.RUNNING)
    again = StepContext(stage.world, run, stored, actions()["wait"](), deadline=run.deadline)
    await again.plan(["another"])
    assert again.seen == []
