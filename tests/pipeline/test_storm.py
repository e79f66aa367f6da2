"""Deliveries that wait: decided together, a run never waits for them, nothing is decided twice or left out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator import decide, facts
from remediator.errors import JournalUnavailable
from remediator.inbox import Portion


@pytest.fixture
def remedy(deciding, text, monkeypatch):
    monkeypatch.setattr(decide, "_SLICE", timedelta(hours=1))  # however slow this machine is now
    deciding.load(text())
    return deciding


def delivery_of(portion):
    return portion.delivery


async def decided(remedy, delivery):
    stored = await remedy.world.journal.delivery(delivery.id)
    return stored.decided_at is not None


async def test_what_leads_to_nothing_is_decided_together(remedy, outside):
    waiting = [Portion.whole(await remedy.stored(outside.fire("Unknown", node=f"node-{n}"))) for n in range(1, 5)]
    assert await remedy.decider.portions(waiting) == 4
    for delivery in (portion.delivery for portion in waiting):
        assert [d.decision for d in await remedy.decisions(delivery)] == ["unmatched"]
        assert await decided(remedy, delivery)
    assert remedy.decider.runs_to_begin() == []


async def test_a_run_is_handed_out_before_more_is_decided_and_only_once(remedy, outside):
    deliveries = [await remedy.stored(outside.fire(name)) for name in ("Unknown", "Symptom", "Unknown")]
    assert await remedy.decider.portions([Portion.whole(delivery) for delivery in deliveries]) == 2
    assert [await decided(remedy, delivery) for delivery in deliveries] == [True, True, False]
    (run,) = remedy.decider.runs_to_begin()
    assert run.delivery == deliveries[1].id
    assert remedy.decider.runs_to_begin() == []


async def test_an_episode_counts_every_delivery_of_a_slice(remedy, outside):
    alert = outside.fire("Unknown")
    waiting = [Portion.whole(await remedy.stored(alert)) for _ in range(3)]
    assert await remedy.decider.portions(waiting) == 3
    episode = await remedy.episode(alert)
    assert (episode.deliveries, episode.labels) == (3, alert["labels"])
    await remedy.decide(alert)
    assert (await remedy.episode(alert)).labels == alert["labels"]


async def test_deliveries_of_a_slice_share_what_they_ask(remedy, outside, monkeypatch):
    asked, active = [], remedy.world.alertmanager.active

    async def counted():
        asked.append(1)
        return await active()

    monkeypatch.setattr(remedy.world.alertmanager, "active", counted)
    waiting = [Portion.whole(await remedy.stored(outside.fire(node=f"node-{n}", known=False))) for n in (1, 2, 3, 1)]
    assert await remedy.decider.portions(waiting) == 4
    found = [(d.reason, d.target.name) for one in map(delivery_of, waiting) for d in await remedy.decisions(one)]
    assert found == [("not_firing", f"node-{n}") for n in (1, 2, 3, 1)]
    assert asked == [1]


async def test_a_run_makes_the_facts_old(remedy, outside):
    """Two alerts of one node in one delivery and a second delivery: the run of the first stands in the way of the others."""
    alerts = [outside.fire(), outside.fire(pod="another"), outside.fire(pod="a third")]
    waiting = [Portion.whole(await remedy.stored(*alerts[:2])), Portion.whole(await remedy.stored(alerts[2]))]
    assert await remedy.decider.portions(waiting) == 1
    assert await remedy.decider.portions(waiting[1:]) == 1
    found = [(d.decision, d.reason) for one in map(delivery_of, waiting) for d in await remedy.decisions(one)]
    assert found == [("run", None), ("refused", "target_busy"), ("refused", "target_busy")]


async def test_who_got_no_answer_keeps_no_other_delivery_from_asking(remedy, outside, monkeypatch):
    active, calls = remedy.world.alertmanager.active, []

    async def silent_once():
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return await active()

    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=1))
    monkeypatch.setattr(remedy.world.alertmanager, "active", silent_once)
    waiting = [Portion.whole(await remedy.stored(outside.fire("Symptom", node="node-1", known=False))) for _ in range(2)]
    assert await remedy.decider.portions(waiting) == 1
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))
    assert await remedy.decider.portions(waiting[1:]) == 1
    first, second = [(await remedy.decisions(one))[0] for one in map(delivery_of, waiting)]
    assert "unreadable" in {verdict.reason for verdict in first.gates}
    assert [verdict.reason for verdict in second.gates if not verdict.allowed] == ["not_firing"]


async def test_time_ends_a_slice(remedy, outside, monkeypatch):
    monkeypatch.setattr(decide, "_SLICE", timedelta(0))
    waiting = [Portion.whole(await remedy.stored(outside.fire("Unknown"))) for _ in range(3)]
    assert await remedy.decider.portions(waiting) == 1


async def test_a_run_on_disk_begins_though_the_rest_of_its_delivery_cannot_be_kept(remedy, outside, monkeypatch):
    earlier = await remedy.stored(outside.fire("Unknown", node="node-1"))
    delivery = await remedy.stored(outside.fire(node="node-2"), outside.fire("Unknown", node="node-3"))
    journal, keep = remedy.world.journal, remedy.world.journal.decide

    async def fails_to_close(closes, decisions, **more):
        if closes == delivery.id:
            raise JournalUnavailable("no space left on the device")
        await keep(closes, decisions, **more)

    monkeypatch.setattr(journal, "decide", fails_to_close)
    with pytest.raises(JournalUnavailable):
        await remedy.decider.portions([Portion.whole(earlier), Portion.whole(delivery)])
    (run,) = remedy.decider.runs_to_begin()
    assert run.target.name == "node-2"

    monkeypatch.setattr(journal, "decide", keep)
    assert await remedy.decider.portions([Portion.whole(earlier, again=True), Portion.whole(delivery, again=True)]) == 2
    assert [len(await remedy.decisions(one)) for one in (earlier, delivery)] == [1, 2]
    assert [again.id for again in remedy.decider.runs_to_begin()] == [run.id], "to the engine a second start is none"
