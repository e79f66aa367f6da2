"""SIGKILL at every boundary of the story of every action that changes something: each write of the journal, each checkpoint of the engine,
each call that may change the cluster, before and after it. By default at every call and an eighth of the others, on request
at all. Which boundaries there are is found by telling the story without a death first.
"""

from __future__ import annotations

import contextlib
import os
import re

import pytest
from recovery.crash import Stories
from recovery.plots import PLOTS

from remediator.actions import actions

PROGRESS = re.compile(r"save_step \w+ running #(?!1$)")
"""A step that goes on says so as often as it looks, and how often that is depends on the machine. Only the first one is a boundary."""
SAMPLE = [
    ("egress.move_gateway", "after the call patch nodes #1"),
    ("gateway.shift_weight", "after the call patch httproutes #1"),
    ("alertmanager.silence", "after the call post silences #1"),
    ("node.cordon", "before the call patch nodes #1"),
    ("node.cordon", "after the call patch nodes #1"),
    ("node.cordon", "after the call patch nodes #2"),
    ("node.drain", "before the call evict pods #2"),
    ("node.drain", "after the call evict pods #1"),
    ("cilium.restart_agent", "after the commit of add_delivery firing #1"),
    ("cilium.restart_agent", "after the call delete pods #1"),
    ("bgp.withdraw_node", "before the engine keeps the stage 0.it #1"),
]
ON_POSTGRES = [
    "after the commit of add_delivery firing #1",
    "after the commit of decide run #1",
    "after the engine kept the start of a run #1",
    "after the commit of save_change patch Node intended #1",
    "after the call patch nodes #1",
    "before the engine keeps the stage 0.it #1",
    "after the engine kept the stage 0.it #1",
    "before the engine keeps the end of a run #1",
    "after the call patch nodes #2",
    "before the commit of save_change patch Node undone #1",
]


ONE_IN = 8
"""Every call's boundaries are died at in each story. Those of journal and engine are much the same in all of them, so by default each story
takes an eighth of them, which eighth by its place; ``REMEDIATOR_EVERY_BOUNDARY=1`` takes all."""


def chosen(found, place):
    """Which of the boundaries to die at."""
    if os.environ.get("REMEDIATOR_EVERY_BOUNDARY"):
        return found
    others = [at for at in found if "the call" not in at]
    taken = set(others[place % ONE_IN :: ONE_IN])
    return [at for at in found if "the call" in at or at in taken]


@pytest.fixture
def stories(tmp_path):
    return Stories(tmp_path)


@pytest.fixture
def stories_on_postgres(tmp_path, postgres_server):
    @contextlib.contextmanager
    def store():
        url = postgres_server.create()
        try:
            yield url
        finally:
            postgres_server.drop(url)

    return Stories(tmp_path, store)


async def boundaries(stories, plot):
    """All that a life without a death passes."""
    told = await stories.tell(plot)
    assert told.complaints == ()
    return [at for at in told.boundaries if not PROGRESS.search(at)]


def test_every_action_that_changes_something_has_a_story():
    assert set(PLOTS) == {name for name, action in actions().items() if action.changes != "nothing"}


@pytest.mark.parametrize(("action", "at"), SAMPLE)
async def test_a_death_at_a_boundary(stories, action, at):
    assert await stories.tell_all(PLOTS[action], [at]) == []


@pytest.mark.postgres
@pytest.mark.parametrize("at", ["after the call patch nodes #1", pytest.param(ON_POSTGRES, marks=pytest.mark.long, id="several")])
async def test_a_death_at_a_boundary_on_postgresql(stories_on_postgres, at):
    assert await stories_on_postgres.tell_all(PLOTS["node.cordon"], [at] if isinstance(at, str) else at) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("action", PLOTS)
async def test_a_death_at_every_boundary(stories, action, record_property):
    found = await boundaries(stories, PLOTS[action])
    record_property("boundaries", len(found))
    assert len(found) >= 40
    assert {"before", "after"} == {at.split()[0] for at in found}
    assert sum("the call" in at for at in found) >= 2
    assert sum("the engine" in at for at in found) >= 8
    assert await stories.tell_all(PLOTS[action], chosen(found, list(PLOTS).index(action))) == []
