"""Episodes that fell out of memory: the journal knows them, so what is decided on them is what it would have been."""

from __future__ import annotations

import pytest

from remediator import pipeline
from remediator.decide import Decider
from remediator.episodes import Episodes
from remediator.telemetry import METRICS

UNMATCHED = "remediator_decisions_total", {"decision": "unmatched", "reason": "unmatched"}


@pytest.fixture
def forgetful(deciding, text, symptom):
    """A decider that remembers one episode."""
    deciding.load(text())
    deciding.decider = Decider(deciding.world, Episodes(most=1))
    return deciding


def told(decisions):
    return [(str(one.decision), one.reason or "") for one in decisions]


async def test_a_repeat_of_one_is_a_duplicate_and_goes_on_where_it_was(forgetful, outside):
    (first,) = await forgetful.decide(alert := outside.fire())
    assert first.decision == "run"
    before = await forgetful.episode(alert)
    await forgetful.decide(outside.fire("Other"))
    (again,) = await forgetful.decide(alert)
    assert (told([again]), again.run) == ([("duplicate", "duplicate")], first.run)
    after = await forgetful.episode(alert)
    assert (after.first_seen, after.deliveries, after.run) == (before.first_seen, 2, first.run)


async def test_the_end_of_one_is_told_to_its_run(forgetful, outside):
    """The pipeline asks which run an alert that ends led to, and undoes what is due."""
    (first,) = await forgetful.decide(alert := outside.fire())
    await forgetful.decide(outside.fire("Other"))
    await forgetful.decide(ended := outside.resolve(alert))
    assert (await forgetful.episode(alert)).run == first.run
    stored = await forgetful.stored(ended)
    assert forgetful.decider.episode(stored.alerts[0]).run == first.run


async def test_what_an_earlier_life_decided_is_neither_decided_nor_counted_again(forgetful, outside, later):
    (first,) = await forgetful.decide_stored(delivery := await forgetful.stored(outside.fire("Other")))
    later(minutes=1)
    nothing = Episodes()
    nothing.more_on_disk()
    forgetful.decider = Decider(forgetful.world, nothing)
    before = METRICS.registry.get_sample_value(*UNMATCHED)
    assert [one.id for one in await forgetful.decide_stored(delivery, again=True)] == [first.id]
    assert METRICS.registry.get_sample_value(*UNMATCHED) == before


async def test_after_a_start_that_did_not_read_all_that_fires(line, outside, symptom, text, monkeypatch):
    line.load(text())
    await line.start()
    symptom.cured = lambda _: True
    run = await line.ended(await line.run_of(alert := outside.fire()))
    for name in ("Other", "Third"):
        await line.decided(await line.deliver(outside.fire(name)))
    monkeypatch.setattr(pipeline, "_EPISODES_AT_START", 1)
    monkeypatch.setattr(pipeline, "KEPT", 1)
    await line.restart()
    (again,) = await line.decided(await line.deliver(alert))
    assert (told([again]), again.run) == ([("duplicate", "duplicate")], run.id)


async def test_free_memory_is_given_back_when_the_last_of_many_alerts_is_decided(line, outside, text, monkeypatch):
    given = []
    monkeypatch.setattr(pipeline, "give_back", lambda: given.append(line.pipeline.undecided))
    monkeypatch.setattr(pipeline, "_MANY", 4)
    line.load(text())
    await line.start()
    for number in range(8):
        await line.decided(await line.deliver(outside.fire(f"A{number}"), outside.fire(f"B{number}")))

    async def four_times():
        return len(given) >= 4

    await line.until(four_times, "memory was given back four times")
    assert given == [0] * 4
