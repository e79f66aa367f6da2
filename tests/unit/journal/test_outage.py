"""A store that cannot: everybody is told, nothing is half kept, and it goes on when the store does."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import Engine, create_engine, event

from remediator.errors import JournalUnavailable


@pytest.fixture
async def sqlite_journal(open_journal, tmp_path):
    return await open_journal(f"sqlite:///{tmp_path}/journal.db", deadline=timedelta(seconds=1))


@pytest.fixture
def pragmas():
    """Statements for every connection that is opened from now on."""
    wanted: list[str] = []

    def apply(connection, _):
        for pragma in wanted:
            connection.execute(pragma)

    event.listen(Engine, "connect", apply)
    yield wanted
    event.remove(Engine, "connect", apply)


def reconnect(journal):
    """Have the writer open a new connection next."""
    return journal._writer.write(lambda transaction: transaction._connection.invalidate())


async def fails(journal, make, match):
    before = await journal.entries()
    writes = [journal.add_delivery(make.delivery()), journal.save_run(make.run()), journal.note("start", "daemon", {})]
    results = await asyncio.gather(*writes, return_exceptions=True)
    for result in results:
        assert isinstance(result, JournalUnavailable), result
        assert match in str(result)
    assert not journal.healthy
    assert await journal.entries() == before


async def recovers(journal, make, eventually):
    delivery = make.delivery()
    await eventually(lambda: journal.add_delivery(delivery))
    assert journal.healthy
    assert await journal.delivery(delivery.id) == delivery
    report = await journal.verify()
    assert report.problems == []
    return report.entries


@pytest.mark.parametrize(
    ("pragma", "match"),
    [("PRAGMA max_page_count = 1", "database or disk is full"), ("PRAGMA query_only = ON", "readonly")],
    ids=["full", "read-only"],
)
async def test_a_database_that_takes_nothing(sqlite_journal, make, pragmas, eventually, pragma, match):
    await sqlite_journal.add_delivery(make.delivery())
    pragmas.append(pragma)
    with pytest.raises(JournalUnavailable):
        await reconnect(sqlite_journal)
    # Large enough for a new page.
    run = make.run(detail="x" * 100_000)
    with pytest.raises(JournalUnavailable, match=match):
        await sqlite_journal.save_run(run)
    assert not sqlite_journal.healthy
    assert await sqlite_journal.run(run.id) is None
    pragmas.clear()
    assert await recovers(sqlite_journal, make, eventually) == 2


async def test_a_disk_that_is_full(sqlite_journal, make, tmp_path, eventually):
    for _ in range(20):
        await sqlite_journal.add_delivery(make.delivery())
    entries = len(await sqlite_journal.entries())
    largest = max(path.stat().st_size for path in tmp_path.glob("journal.db*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        writes = [sqlite_journal.add_delivery(make.delivery(receiver="x" * 50_000)) for _ in range(3)]
        results = await asyncio.gather(*writes, return_exceptions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {type(result) for result in results} == {JournalUnavailable}
    assert await recovers(sqlite_journal, make, eventually) == entries + 1


async def test_a_database_that_somebody_else_holds(sqlite_journal, make, tmp_path, eventually):
    await sqlite_journal.add_delivery(make.delivery())
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await fails(sqlite_journal, make, "database is locked")
        other.execute("ROLLBACK")
    assert await recovers(sqlite_journal, make, eventually) == 2


async def test_a_commit_that_fails(store_url, open_journal, make, eventually):
    journal = await open_journal(store_url)
    await journal.add_delivery(make.delivery())

    def broken(_):
        raise OSError(28, "No space left on device")

    event.listen(journal._store.writing, "commit", broken)
    try:
        await fails(journal, make, "No space left")
    finally:
        event.remove(journal._store.writing, "commit", broken)
    assert await recovers(journal, make, eventually) == 2


async def test_it_finds_out_by_itself_when_the_store_is_back(sqlite_journal, make, pragmas):
    pragmas.append("PRAGMA query_only = ON")
    with pytest.raises(JournalUnavailable):
        await reconnect(sqlite_journal)
    with pytest.raises(JournalUnavailable):
        await sqlite_journal.add_delivery(make.delivery())
    pragmas.clear()
    async with asyncio.timeout(20):
        while not sqlite_journal.healthy:  # noqa: ASYNC110 - the journal promises a state here, not an event
            await asyncio.sleep(0.02)
    assert (await sqlite_journal.verify()).entries == 0


async def test_a_commit_that_took_place_all_the_same_is_a_success(store_url, open_journal, make):
    """The answer to the commit is lost, as with a connection cut at that moment."""
    journal = await open_journal(store_url)
    writing = journal._store.writing
    commit = writing.dialect.do_commit
    lost = []

    def commit_and_lose(connection):
        commit(connection)
        if not lost:
            lost.append(True)
            raise writing.dialect.loaded_dbapi.OperationalError("connection lost")

    writing.dialect.do_commit = commit_and_lose
    delivery = make.delivery()
    await journal.add_delivery(delivery)
    assert lost
    assert journal.healthy
    await journal.add_delivery(make.delivery())
    assert (await journal.verify()).entries == 2


@pytest.fixture
def private_server(postgres_server):
    if not postgres_server.stoppable:
        pytest.skip("needs a private PostgreSQL that may be stopped; REMEDIATOR_TEST_POSTGRES names one that may not")
    return postgres_server


@pytest.mark.postgres
async def test_a_server_that_is_stopped(private_server, postgres_database, open_journal, make, eventually):
    journal = await open_journal(postgres_database, deadline=timedelta(seconds=2))
    await journal.add_delivery(make.delivery())
    private_server.stop()
    try:
        with pytest.raises(JournalUnavailable):
            await journal.add_delivery(make.delivery())
        with pytest.raises(JournalUnavailable):
            await journal.deliveries()
        assert not journal.healthy
    finally:
        private_server.start()
    assert await recovers(journal, make, eventually) == 2


@pytest.mark.postgres
async def test_a_server_that_restarted_unnoticed(private_server, postgres_database, open_journal, make):
    journal = await open_journal(postgres_database)
    await journal.add_delivery(make.delivery())
    await journal.deliveries()
    private_server.stop()
    private_server.start()
    await journal.add_delivery(make.delivery())
    assert len((await journal.deliveries()).items) == 2
    assert journal.healthy


@pytest.mark.postgres
async def test_a_server_that_does_not_answer(private_server, postgres_database, open_journal, make, eventually):
    journal = await open_journal(postgres_database, deadline=timedelta(seconds=2))
    await journal.add_delivery(make.delivery())
    await journal.deliveries()
    private_server.freeze()
    try:
        async with asyncio.timeout(40):
            writes = [journal.add_delivery(make.delivery()) for _ in range(3)]
            results = await asyncio.gather(*writes, return_exceptions=True)
            assert {type(result) for result in results} == {JournalUnavailable}
            with pytest.raises(JournalUnavailable, match="did not answer"):
                await journal.deliveries()
    finally:
        private_server.thaw()
    await recovers(journal, make, eventually)


@pytest.mark.postgres
async def test_close_does_not_wait_for_a_server_that_does_not_answer(private_server, postgres_database, open_journal, make):
    journal = await open_journal(postgres_database, deadline=timedelta(seconds=2))
    await journal.add_delivery(make.delivery())
    await journal.deliveries()
    private_server.freeze()
    try:
        async with asyncio.timeout(40):
            tasks = [asyncio.create_task(work) for work in (journal.add_delivery(make.delivery()), journal.deliveries())]
            await asyncio.sleep(0)
            await journal.close()
            results = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        private_server.thaw()
    assert {type(result) for result in results} == {JournalUnavailable}


async def gives_up(journal, make):
    """The first delivery whose commit nobody waited for long enough: it cannot be seen, and that is not the last word."""
    async with asyncio.timeout(20):
        while True:
            delivery = make.delivery()
            try:
                await journal.add_delivery(delivery)
            except JournalUnavailable:
                break
    assert await journal.delivery(delivery.id) is None
    with pytest.raises(JournalUnavailable):
        await journal.settled()
    return delivery


async def test_a_commit_that_lands_late_is_there_once_that_is_settled(sqlite_journal, make, eventually):
    landing = threading.Event()
    once = iter([True])

    def hang(_):
        if next(once, False):
            assert landing.wait(60)

    event.listen(sqlite_journal._store.writing, "commit", hang)
    delivery = await gives_up(sqlite_journal, make)
    landing.set()
    await eventually(sqlite_journal.settled)
    assert await sqlite_journal.delivery(delivery.id) == delivery
    assert (await sqlite_journal.verify()).problems == []


@pytest.mark.postgres
async def test_so_is_one_that_postgresql_held_for_a_standby(private_server, postgres_database, open_journal, make, eventually):
    """The server goes on waiting when the connection of who asked is cut, and its commit takes place when the standby is there again."""

    def synchronous(name):
        engine = create_engine(postgres_database.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("SET synchronous_commit = local")
            connection.exec_driver_sql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()

    journal = await open_journal(postgres_database, deadline=timedelta(seconds=1))
    await journal.add_delivery(make.delivery())
    synchronous("away")
    try:
        delivery = await gives_up(journal, make)
    finally:
        synchronous("")
    await eventually(journal.settled)
    assert await journal.delivery(delivery.id) == delivery
    assert (await journal.verify()).problems == []
