"""After a storm the journal keeps no connections for readers that nobody uses, and goes on reading and writing."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool


@pytest.fixture
def closed():
    """Connections that were closed meanwhile."""
    seen = []

    def remember(connection, _):
        seen.append(connection)

    event.listen(Pool, "close", remember)
    yield seen
    event.remove(Pool, "close", remember)


async def test_connections_of_readers_are_closed_and_opened_again(open_journal, tmp_path, make, closed):
    journal = await open_journal(f"sqlite:///{tmp_path}/journal.db")
    await journal.add_delivery(first := make.delivery())
    await asyncio.gather(*(journal.undecided() for _ in range(20)))
    assert closed == []
    await journal.give_back()
    assert closed
    await journal.add_delivery(second := make.delivery(at=1))
    assert await journal.undecided() == [first, second]


async def test_who_reads_meanwhile_gets_an_answer(journal, make):
    await journal.add_delivery(delivery := make.delivery())
    reads = [asyncio.ensure_future(journal.undecided()) for _ in range(20)]
    await journal.give_back()
    assert await asyncio.gather(*reads, journal.undecided()) == [[delivery]] * 21
