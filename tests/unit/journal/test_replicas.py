"""Several replicas write to one store: one chain."""

from __future__ import annotations

import asyncio

from remediator.errors import JournalError


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
