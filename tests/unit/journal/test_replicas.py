"""Several replicas write to one store: one chain."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy.exc import SQLAlchemyError

from remediator.errors import JournalError, JournalUnavailable


async def test_replicas_do_not_fork_the_chain(store_url, open_journal, make):
    journals = await asyncio.gather(*[open_journal(store_url) for _ in range(3)])

    async def work(journal, number):
        for _ in range(20):
            delivery = make.delivery(at=number)
            await journal.add_delivery(delivery)
            await journal.decide(delivery.id, [make.decision(delivery=delivery.id)], episodes=[make.episode()])

    await asyncio.gather(*[work(journal, number) for number, journal in enumerate(journals)])
    report = await journals[0].verify()
    assert report.problems == []
    assert report.entries == 3 * 20 * 4
    assert [entry.seq async for entry in journals[1].export()] == list(range(1, 241))


async def test_one_of_them_decides_a_delivery(store_url, open_journal, make):
    journals = [await open_journal(store_url) for _ in range(2)]
    deliveries = [make.delivery() for _ in range(10)]
    for delivery in deliveries:
        await journals[0].add_delivery(delivery)

    async def decide(journal):
        tries = [journal.decide(one.id, [make.decision(delivery=one.id)], runs=[make.run()]) for one in deliveries]
        return await asyncio.gather(*tries, return_exceptions=True)

    results = await asyncio.gather(*map(decide, journals))
    for pair in zip(*results, strict=True):
        assert sorted(type(result).__name__ for result in pair) == [JournalError.__name__, "NoneType"]
    assert len(await journals[0].open_runs()) == 10
    assert (await journals[1].verify()).problems == []


async def test_who_led_before_writes_nothing_more(store_url, open_journal, make):
    """Its last words come after another one leads: a run that ended, an intent, a webhook. Nothing of them is kept."""
    old, new, standby = [await open_journal(store_url) for _ in range(3)]
    assert await old.lead("replica-a") == 1
    run = make.run()
    await old.decide(None, [make.decision()], runs=[run])
    assert await new.lead("replica-b") == 2
    before = await new.last()
    for write in (
        old.save_run(run),
        old.save_change(make.change(run=run.id)),
        old.add_delivery(make.delivery()),
        old.note("start", "", {}),
    ):
        with pytest.raises(JournalUnavailable, match="epoch 2, ours is 1"):
            await write
    assert old.deposed
    assert not old.healthy
    assert await new.last() == before
    await new.save_run(run)
    await standby.add_delivery(make.delivery())  # whoever never led takes webhooks
    assert (new.deposed, standby.deposed) == (False, False)
    assert (await new.verify()).problems == []
    assert [entry.data for entry in await new.entries(kind="leader")] == [{"by": "replica-a", "epoch": 1}, {"by": "replica-b", "epoch": 2}]


async def test_two_that_begin_to_lead_at_once_get_two_numbers(store_url, open_journal):
    journals = [await open_journal(store_url) for _ in range(4)]
    assert sorted(await asyncio.gather(*[journal.lead(str(number)) for number, journal in enumerate(journals)])) == [1, 2, 3, 4]


@pytest.mark.postgres
async def test_a_process_that_stands_still_in_a_transaction_does_not_keep_the_others_from_writing(postgres_database, open_journal, make):
    """It holds the head of the chain, which every writer takes first."""
    stopped, other = [await open_journal(postgres_database, deadline=timedelta(seconds=2)) for _ in range(2)]
    with suppress(SQLAlchemyError), stopped._store.writing.connect() as connection:
        connection.exec_driver_sql("SELECT seq FROM head FOR UPDATE")
        await other.add_delivery(make.delivery())
    await stopped.add_delivery(make.delivery())
    assert (await other.verify()).problems == []
