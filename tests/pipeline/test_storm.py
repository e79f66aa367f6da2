"""Deliveries that wait: decided together, a run never waits for them, nothing is decided twice or left out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator import decide, facts, inbox
from remediator.errors import JournalUnavailable
from remediator.inbox import Inbox
from remediator.model import new_id


@pytest.fixture
def remedy(deciding, text, monkeypatch):
    monkeypatch.setattr(decide, "_SLICE", timedelta(hours=1))  # however slow this machine is now
    deciding.load(text())
    return deciding


async def decided(remedy, delivery):
    stored = await remedy.world.journal.delivery(delivery.id)
    return stored.decided_at is not None


async def test_what_leads_to_nothing_is_decided_together(remedy, outside):
    waiting = [(await remedy.stored(outside.fire("Unknown", node=f"node-{n}")), False) for n in range(1, 5)]
    assert await remedy.decider.deliveries(waiting) == 4
    for delivery, _ in waiting:
        assert [d.decision for d in await remedy.decisions(delivery)] == ["unmatched"]
        assert await decided(remedy, delivery)
    assert remedy.decider.runs_to_begin() == []


async def test_a_run_is_handed_out_before_more_is_decided_and_only_once(remedy, outside):
    deliveries = [await remedy.stored(outside.fire(name)) for name in ("Unknown", "Symptom", "Unknown")]
    assert await remedy.decider.deliveries([(delivery, False) for delivery in deliveries]) == 2
    assert [await decided(remedy, delivery) for delivery in deliveries] == [True, True, False]
    (run,) = remedy.decider.runs_to_begin()
    assert run.delivery == deliveries[1].id
    assert remedy.decider.runs_to_begin() == []


async def test_an_episode_counts_every_delivery_of_a_slice(remedy, outside):
    alert = outside.fire("Unknown")
    waiting = [(await remedy.stored(alert), False) for _ in range(3)]
    assert await remedy.decider.deliveries(waiting) == 3
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
    waiting = [(await remedy.stored(outside.fire(node=f"node-{n}", known=False)), False) for n in (1, 2, 3, 1)]
    assert await remedy.decider.deliveries(waiting) == 4
    found = [(d.reason, d.target.name) for one, _ in waiting for d in await remedy.decisions(one)]
    assert found == [("not_firing", f"node-{n}") for n in (1, 2, 3, 1)]
    assert asked == [1]


async def test_a_run_makes_the_facts_old(remedy, outside):
    """Two alerts of one node in one delivery and a second delivery: the run of the first stands in the way of the others."""
    alerts = [outside.fire(), outside.fire(pod="another"), outside.fire(pod="a third")]
    waiting = [(await remedy.stored(*alerts[:2]), False), (await remedy.stored(alerts[2]), False)]
    assert await remedy.decider.deliveries(waiting) == 1
    assert await remedy.decider.deliveries(waiting[1:]) == 1
    found = [(d.decision, d.reason) for one, _ in waiting for d in await remedy.decisions(one)]
    assert found == [("run", None), ("refused", "target_busy"), ("refused", "target_busy")]


async def test_who_got_no_answer_keeps_no_other_delivery_from_asking(remedy, outside, monkeypatch):
    active, calls = remedy.world.alertmanager.active, []

    async def silent_once():
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return await active()

    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=0.05))
    monkeypatch.setattr(remedy.world.alertmanager, "active", silent_once)
    waiting = [(await remedy.stored(outside.fire("Symptom", node="node-1", known=False)), False) for _ in range(2)]
    assert await remedy.decider.deliveries(waiting) == 1
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))
    assert await remedy.decider.deliveries(waiting[1:]) == 1
    first, second = [(await remedy.decisions(one))[0] for one, _ in waiting]
    assert "unreadable" in {verdict.reason for verdict in first.gates}
    assert [verdict.reason for verdict in second.gates if not verdict.allowed] == ["not_firing"]


async def test_time_ends_a_slice(remedy, outside, monkeypatch):
    monkeypatch.setattr(decide, "_SLICE", timedelta(0))
    waiting = [(await remedy.stored(outside.fire("Unknown")), False) for _ in range(3)]
    assert await remedy.decider.deliveries(waiting) == 1


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
        await remedy.decider.deliveries([(earlier, False), (delivery, False)])
    (run,) = remedy.decider.runs_to_begin()
    assert run.target.name == "node-2"

    monkeypatch.setattr(journal, "decide", keep)
    assert await remedy.decider.deliveries([(earlier, True), (delivery, True)]) == 2
    assert [len(await remedy.decisions(one)) for one in (earlier, delivery)] == [1, 2]
    assert [again.id for again in remedy.decider.runs_to_begin()] == [run.id], "to the engine a second start is none"


async def test_the_inbox_gives_out_what_only_the_disk_holds(remedy, outside, monkeypatch):
    monkeypatch.setattr(inbox, "_IN_MEMORY", 3)
    monkeypatch.setattr(inbox, "_PAGE", 2)
    journal, now = remedy.world.journal, remedy.world.clock.now()
    waits = Inbox(journal)
    ids = []
    for number in range(8):
        delivery = decide.evolve(await remedy.stored(outside.fire("Unknown")), id=new_id(now + timedelta(seconds=number)))
        await journal.add_delivery(delivery)
        waits.put(delivery)
        ids.append(delivery.id)
    taken = []
    while len(taken) < len(ids):
        batch = await waits.next(2)
        assert len(batch) <= 2
        for delivery, _ in batch:
            await journal.decide(delivery.id, [], decided_at=now)
        waits.done(len(batch))
        taken += [delivery.id for delivery, _ in batch if delivery.id in ids]
    assert taken == ids


async def test_what_failed_is_looked_at_carefully(remedy, outside):
    waits = Inbox(remedy.world.journal)
    for _ in range(3):
        waits.put(await remedy.stored(outside.fire("Unknown")))
    waits.retry(2)
    assert [again for _, again in await waits.next(5)] == [True, True, False]
    assert len(waits) == 3
