"""Group commit: one commit for all that wait, faults kept apart, bounds, the end."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import Engine, event, select

from remediator.errors import JournalError, JournalUnavailable
from remediator.journal import writer
from remediator.journal.schema import HEAD
from remediator.model import evolve


async def write(journal, work):
    """As a coroutine, for tasks: what is called as one is handed over when its turn comes."""
    return await journal._writer.write(work)


@pytest.fixture
def commits():
    seen = []
    listen = seen.append
    event.listen(Engine, "commit", listen)
    yield seen
    event.remove(Engine, "commit", listen)


@pytest.fixture
async def held(journal):
    """Holds the writer's thread within a transaction until ``release`` is set."""

    class Held:
        release = threading.Event()
        task: asyncio.Task[None]

    begun = threading.Event()

    def wait(_transaction):
        begun.set()
        assert Held.release.wait(20)

    Held.task = asyncio.create_task(write(journal, wait))
    await asyncio.to_thread(begun.wait, 20)
    yield Held
    Held.release.set()


async def test_all_that_wait_share_one_commit(journal, make, held, commits):
    tasks = [asyncio.create_task(journal.add_delivery(make.delivery(at=number))) for number in range(100)]
    await asyncio.sleep(0)
    assert journal.queue_depth == 101
    held.release.set()
    await asyncio.gather(held.task, *tasks)
    assert len(commits) == 2
    assert journal.queue_depth == 0
    assert len((await journal.deliveries(limit=200)).items) == 100
    assert (await journal.verify()).ok


async def test_what_one_turn_of_the_loop_brings_is_handed_over_together(journal, make, commits):
    await asyncio.gather(*(journal.add_delivery(make.delivery(at=number)) for number in range(100)))
    assert len(commits) == 1
    assert len((await journal.deliveries(limit=200)).items) == 100


async def test_a_batch_is_bounded_however_much_is_handed_over(journal, make, commits, monkeypatch):
    monkeypatch.setattr(writer, "BATCH_UNITS", 40)
    await asyncio.gather(*(journal.add_delivery(make.delivery(at=number)) for number in range(100)))
    assert len(commits) == 3
    monkeypatch.setattr(writer, "BATCH_BYTES", 1)
    await asyncio.gather(*(journal.add_delivery(make.delivery(at=number)) for number in range(100, 105)))
    assert len(commits) == 8
    assert (await journal.verify()).ok
    assert len((await journal.deliveries(limit=200)).items) == 105


async def test_long_work_has_a_transaction_of_its_own_in_its_turn(journal, make, held, commits):
    order = []

    def told(name):
        return lambda transaction: (order.append(name), transaction)[1]

    before, after = make.delivery(), make.delivery()
    tasks = [
        asyncio.create_task(one)
        for one in (
            journal.add_delivery(before),
            write(journal, told("before")),
            journal._writer.hold(told("long")),
            journal._writer.hold(told("long too")),
            write(journal, told("after")),
            journal.add_delivery(after),
        )
    ]
    await asyncio.sleep(0)
    held.release.set()
    _, first, (second, seconds), (third, _), fourth, _ = await asyncio.gather(*tasks)
    assert order == ["before", "long", "long too", "after"]
    assert len({id(one) for one in (first, second, third, fourth)}) == 4
    assert (len(commits), seconds.statements > 0, seconds.commit > 0) == (5, True, True)
    assert len((await journal.deliveries()).items) == 2


async def test_long_work_that_takes_too_long_is_undone_and_its_statements_and_its_commit_are_told_apart(store_url, open_journal):
    now = 0.0
    journal = await open_journal(store_url, ticks=lambda: now)

    def work(transaction):
        nonlocal now
        transaction.log("kept", "", "{}")
        now += 2
        transaction.execute(select(HEAD.c.seq), on=HEAD)
        return "done"

    def on_commit(_connection):
        nonlocal now
        now += 5

    event.listen(Engine, "commit", on_commit)
    try:
        assert await journal._writer.hold(work, within=1) == (None, (2, 0))
        assert await journal.entries(kind="kept") == []
        assert await journal._writer.hold(work, within=2) == ("done", (2, 5))
    finally:
        event.remove(Engine, "commit", on_commit)
    assert len(await journal.entries(kind="kept")) == 1
    assert (await journal.verify()).ok


async def test_long_work_at_the_very_end_is_done_too(journal):
    work = [asyncio.create_task(write(journal, lambda tx: "short")), asyncio.create_task(journal._writer.hold(lambda tx: "long"))]
    await asyncio.sleep(0)
    await journal.close()
    assert await work[0] == "short"
    assert (await work[1])[0] == "long"


async def test_one_bad_record_does_not_fail_the_others(journal, make, held):
    taken = make.delivery()
    writes = [journal.add_delivery(taken), journal.add_delivery(taken), journal.decide("nothing", [])]
    writes += [journal.add_delivery(make.delivery()), journal.save_run(make.run())]
    tasks = [asyncio.create_task(write) for write in writes]
    await asyncio.sleep(0)
    held.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), JournalError, JournalError, type(None), type(None)]
    assert not isinstance(results[1], JournalUnavailable)
    assert journal.healthy
    assert len((await journal.deliveries()).items) == 2
    report = await journal.verify()
    assert report.problems == []
    assert report.entries == 3


async def test_a_bad_record_is_undone_whole(journal, make, held):
    run = make.run()
    bad = journal.decide(None, [make.decision(), make.decision(id="same"), make.decision(id="same")], runs=[run])
    tasks = [asyncio.create_task(write) for write in (bad, journal.note("start", "daemon", {}))]
    await asyncio.sleep(0)
    held.release.set()
    with pytest.raises(JournalError):
        await tasks[0]
    await tasks[1]
    assert (await journal.decisions()).items == ()
    assert await journal.run(run.id) is None
    assert [entry.kind for entry in await journal.entries()] == ["start"]


async def test_a_fault_in_our_own_code_reaches_who_asked_and_nobody_else(journal, make):
    def fault(_transaction):
        raise ZeroDivisionError("a defect")

    with pytest.raises(JournalError, match="a defect"):
        await write(journal, fault)
    await journal.add_delivery(make.delivery())
    assert journal.healthy


async def test_order_is_kept_within_a_batch(journal, make, held):
    delivery, run = make.delivery(), make.run()
    writes = [
        journal.add_delivery(delivery),
        journal.decide(delivery.id, [], runs=[run]),
        journal.save_run(evolve(run, detail="first")),
        journal.save_step(run.id, make.step(0, detail="stepped")),
        journal.save_run(evolve(run, detail="second")),
        journal.save_run(evolve(run, detail="third", steps=run.steps[:1])),
    ]
    tasks = [asyncio.create_task(write) for write in writes]
    await asyncio.sleep(0)
    held.release.set()
    await asyncio.gather(*tasks)
    assert await journal.run(run.id) == evolve(run, detail="third", steps=run.steps[:1])
    assert (await journal.verify()).problems == []


async def test_the_queue_is_bounded(store_url, open_journal, make):
    journal = await open_journal(store_url, queue_limit=3)
    tasks = [asyncio.create_task(journal.add_delivery(make.delivery())) for _ in range(5)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 3 + [JournalUnavailable] * 2
    await journal.add_delivery(make.delivery())
    assert len((await journal.deliveries()).items) == 4


async def test_the_queue_is_bounded_in_bytes(journal, make, held):
    large = make.delivery(alerts=(make.alert(annotations={"d": "x" * (3 << 20)}),))
    tasks = [asyncio.create_task(journal.add_delivery(evolve(large, id=f"d{number}"))) for number in range(25)]
    await asyncio.sleep(0)
    held.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = results.count(None)
    assert 20 <= kept < 25
    assert len((await journal.deliveries()).items) == kept
    await journal.add_delivery(large)


async def test_a_caller_that_goes_away_takes_nothing_with_it(journal, make, held):
    first, second = make.delivery(), make.delivery()
    tasks = [asyncio.create_task(journal.add_delivery(delivery)) for delivery in (first, second)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    held.release.set()
    await tasks[1]
    assert len((await journal.deliveries()).items) == 2
    assert journal.queue_depth == 0


async def test_close_commits_what_waits(store_url, open_journal, make):
    journal = await open_journal(store_url)
    tasks = [asyncio.create_task(journal.add_delivery(make.delivery())) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(journal.close(), journal.close())
    await asyncio.gather(*tasks)
    with pytest.raises(JournalUnavailable, match="closed"):
        await journal.add_delivery(make.delivery())
    with pytest.raises(JournalUnavailable, match="closed"):
        await journal.deliveries()
    again = await open_journal(store_url)
    assert len((await again.deliveries()).items) == 50
    assert (await again.verify()).ok
