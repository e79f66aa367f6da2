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
    assert text["name"].count(".") == (0 if text["name"] == "wait" else 1)


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
