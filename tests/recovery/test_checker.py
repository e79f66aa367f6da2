"""What the crash tests check is worth something only if it finds faults: those of a daemon, planted in it, and those of a record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recovery.checker import complaints
from recovery.crash import Stories
from recovery.plots import PLOTS

CORDON = PLOTS["node.cordon"]
RESTART = PLOTS["cilium.restart_agent"]


@pytest.fixture
def stories(tmp_path, monkeypatch):
    monkeypatch.setattr("recovery.crash.SETTLING", 2.0)
    return Stories(tmp_path)


async def heard(stories, plot, **how):
    return "\n".join((await stories.tell(plot, **how)).complaints)


async def test_a_call_that_is_sent_again_blindly(stories):
    said = await heard(stories, RESTART, at="after the call delete pods #1", faults=["sends_again_blindly"])
    assert "delete Pod/cilium-" in said
    assert "is absent and took effect 1 times" in said


async def test_a_delivery_that_was_answered_before_it_was_kept(stories):
    at = "before the commit of add_delivery firing #2"
    said = await heard(stories, CORDON, at=at, faults=["answers_before_the_commit"])
    assert "was answered 200 and is lost" in said


async def test_a_change_that_is_not_in_the_journal(stories):
    said = await heard(stories, CORDON, faults=["changes_without_a_record"])
    assert "PATCH /api/v1/nodes/node-3 took effect without a record" in said


async def test_an_episode_that_leads_to_two_runs(stories):
    said = await heard(stories, CORDON, faults=["forgets_episodes"])
    assert "one episode led to 2 runs" in said
    assert "the attempts are not counted right: 2 of 2" in said


@pytest.fixture(scope="module")
def good():
    """Filled by the first test that asks for it."""
    return []


@pytest.fixture
async def facts(good, tmp_path):
    """Of a story that went well."""
    if not good:
        told = await Stories(tmp_path).tell(CORDON, at="after the call patch nodes #1")
        assert told.complaints == ()
        assert told.died
        good.append(told.facts)
    return good[0]


def _again(log, **fields):
    """The first call that took effect stands there twice in a row."""
    index = next(index for index, entry in enumerate(log) if entry.writes)
    return [*log[: index + 1], replace(log[index], **fields), *log[index + 1 :]]


FAULTS = {
    "a run stays open": (lambda f: replace(f, runs=[{**f.runs[0], "state": "running"}]), "does not end: running"),
    "a run fails": (lambda f: replace(f, runs=[{**f.runs[0], "state": "failed"}]), "ended failed"),
    "a delivery is lost": (lambda f: replace(f, taken={**f.taken, "lost": 1}), "delivery lost was answered 200 and is lost"),
    "a delivery is undecided": (lambda f: replace(f, deliveries=[{**d, "decided_at": None} for d in f.deliveries]), "was never decided"),
    "an alert has no decision": (lambda f: replace(f, decisions=f.decisions[1:]), "has 0 decisions for 1 alerts"),
    "an alert has two": (lambda f: replace(f, decisions=[*f.decisions, f.decisions[0]]), "has 2 decisions for 1 alerts"),
    "the chain is broken": (lambda f: replace(f, chain={"problems": ["entry 3"]}), "does not verify: entry 3"),
    "the gauge stays up": (lambda f: replace(f, in_flight=1.0), "1 runs are open when none is"),
    "no cooldown": (lambda f: replace(f, gates={**f.gates, "cooldown": {"allowed": True}}), "no cooldown follows"),
    "an open run is forgotten": (lambda f: replace(f, while_open=[{"allowed": True, "detail": ""}]), "does not count for concurrency"),
    "a change is not told of": (lambda f: replace(f, changes=f.changes[1:]), "took effect without a record"),
    "a change is not closed": (lambda f: replace(f, changes=[{**f.changes[0], "state": "intended"}, *f.changes[1:]]), "nobody found out"),
    "a call is repeated": (lambda f: replace(f, log=_again(f.log)), "took effect more than once"),
    "a call is repeated blindly": (lambda f: replace(f, log=_again(f.log, status=0)), "sent again without a look"),
    "something else differs": (lambda f: replace(f, now={**f.now, "Node//node-1": b""}), "Node//node-1 differs from its first state"),
    "a change is listed in vain": (lambda f: replace(f, left=[f.changes[0]]), "is listed as changed and is as it was"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_in_what_is_found(facts, fault):
    assert complaints(facts) == []
    spoil, words = FAULTS[fault]
    assert words in "\n".join(complaints(spoil(facts)))
