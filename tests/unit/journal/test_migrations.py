"""Opening: the schema, whoever comes first, and what is refused."""

from __future__ import annotations

import asyncio
import re
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from standins import old_journal

from remediator.errors import JournalUnavailable
from remediator.journal.migrate import migrate
from remediator.journal.migrations import HEAD, NEEDS, VERSION_TABLE
from remediator.journal.store import Store


def engine_of(url):
    return create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def described(url):
    """What the database itself says of its schema."""
    engine = engine_of(url)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            statement = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name NOT LIKE :version"
            rows = connection.execute(text(statement), {"version": f"{VERSION_TABLE}%"})
            found = {(row.type, row.name): re.sub(r"\s+", " ", row.sql or "") for row in rows}
        else:
            columns = connection.execute(
                text(
                    "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default, collation_name"
                    " FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> :version"
                ),
                {"version": VERSION_TABLE},
            )
            indexes = connection.execute(
                text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> :version"),
                {"version": VERSION_TABLE},
            )
            found = {tuple(row[:2]): tuple(row[2:]) for row in columns} | {row.indexname: row.indexdef for row in indexes}
    engine.dispose()
    return found


@pytest.fixture
def other_url(request, store_url, tmp_path):
    """A second empty store of the same kind."""
    if store_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path}/other.db"
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create()
    yield url
    server.drop(url)


def rows(url):
    """All that is in the tables from the start, by table."""
    engine = engine_of(url)
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        found = {table: [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()] for table in tables}
    engine.dispose()
    return found


async def test_a_new_journal_has_what_the_migrations_build(journal, store_url, other_url):
    old_journal.begin(other_url)
    before = described(other_url)
    store = Store(other_url, deadline=timedelta(seconds=10))
    migrate(store)
    store.close()
    assert described(store_url) == described(other_url) != before
    assert rows(store_url) == rows(other_url)
    assert {table for table, found in rows(store_url).items() if found} == {"head", VERSION_TABLE}


async def test_a_database_that_holds_other_tables_of_these_names_is_refused_and_left_alone(store_url, open_journal):
    say(store_url, "CREATE TABLE run (mine TEXT)", "INSERT INTO run VALUES ('kept')")
    before = described(store_url)
    with pytest.raises(JournalUnavailable, match="run"):
        await open_journal(store_url)
    assert described(store_url) == before
    assert rows(store_url) == {"run": [{"mine": "kept"}]}


def test_the_last_version_is_the_head():
    assert ScriptDirectory.from_config(old_journal.scripts()).get_heads() == [HEAD]


async def test_many_may_open_at_once(store_url, open_journal, make):
    journals = await asyncio.gather(*[open_journal(store_url) for _ in range(4)])
    await asyncio.gather(*[journal.add_delivery(make.delivery()) for journal in journals for _ in range(10)])
    assert len((await journals[0].deliveries()).items) == 40
    assert (await journals[0].verify()).problems == []


def test_many_may_switch_a_file_to_write_ahead_logging_at_once(tmp_path):
    for number in range(20):
        stores = [Store(f"sqlite:///{tmp_path}/{number}.db", deadline=timedelta(seconds=10)) for _ in range(6)]
        together = threading.Barrier(len(stores))

        def prepare(store, together=together):
            together.wait(10)
            store.prepare()

        with ThreadPoolExecutor(len(stores)) as threads:
            list(threads.map(prepare, stores))


async def test_a_journal_that_is_up_to_date_is_opened_as_it_is(store_url, open_journal, make):
    first = await open_journal(store_url)
    delivery = make.delivery()
    await first.add_delivery(delivery)
    await first.close()
    second = await open_journal(store_url)
    assert await second.delivery(delivery.id) == delivery


def say(url, *statements, **values):
    """Do that to the database."""
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), values)
    engine.dispose()


@pytest.mark.parametrize("needs", ["9998", "9999", None])
async def test_a_newer_journal_is_refused(journal, store_url, open_journal, needs):
    say(store_url, f"UPDATE {VERSION_TABLE} SET version_num = '9999', needs = :needs", needs=needs)
    with pytest.raises(JournalUnavailable, match=r"newer version .* \(its schema is 9999, this one knows"):
        await open_journal(store_url)


async def test_a_newer_journal_that_this_version_can_work_with_is_left_as_it_is(journal, store_url, open_journal, make):
    delivery = make.delivery()
    await journal.add_delivery(delivery)
    say(
        store_url,
        "ALTER TABLE delivery ADD COLUMN later TEXT",
        "CREATE TABLE later (id TEXT)",
        f"UPDATE {VERSION_TABLE} SET version_num = '9999', needs = :needs",
        needs=HEAD,
    )
    before = described(store_url)
    older = await open_journal(store_url)
    another = make.delivery()
    await older.add_delivery(another)
    assert [one.id for one in (await older.deliveries()).items] == [another.id, delivery.id]
    assert (await older.verify()).problems == []
    assert described(store_url) == before


async def test_the_next_version_finds_what_this_one_needs(journal, store_url):
    """Also where a journal was made before that was kept: then its schema has no column for it."""
    say(store_url, f"ALTER TABLE {VERSION_TABLE} DROP COLUMN needs", f"UPDATE {VERSION_TABLE} SET version_num = '0003'")
    say(store_url, "ALTER TABLE head DROP COLUMN epoch", "DROP TABLE verified", "DROP INDEX run_disruptive")
    store = Store(store_url, deadline=timedelta(seconds=10))
    try:
        migrate(store)
        with store.snapshot() as connection:
            assert tuple(connection.execute(text(f"SELECT version_num, needs FROM {VERSION_TABLE}")).one()) == (HEAD, "0004")
    finally:
        store.close()


def test_every_version_says_who_can_still_work_with_it_and_the_last_one_what_all_say_together():
    """From the first on whose programs look at it; what can be left out there is that nobody but itself can."""
    scripts = {
        script.revision: getattr(script.module, "needs", "")
        for script in ScriptDirectory.from_config(old_journal.scripts()).walk_revisions()
    }
    silent = [revision for revision, needs in scripts.items() if revision > "0004" and needs not in scripts]
    assert silent == [], "say needs = the version of the last release, or its own where it cannot be helped"
    assert max(needs or revision for revision, needs in scripts.items()) == NEEDS


@pytest.mark.parametrize(
    "url", ["mysql://root@127.0.0.1/x", "sqlite://", "sqlite:///:memory:", "not a url", "", "sqlite:////no/such/folder/journal.db"]
)
async def test_what_is_no_store_is_refused(open_journal, url):
    with pytest.raises(JournalUnavailable):
        await open_journal(url)


async def test_a_server_that_is_not_there_is_named_without_its_password(open_journal):
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra `postgres`)")
    with pytest.raises(JournalUnavailable) as problem:
        await open_journal("postgresql://anna:hunter2@127.0.0.1:9/journal")
    assert "127.0.0.1" in str(problem.value)
    assert "hunter2" not in str(problem.value)


async def test_a_password_in_the_query_is_not_shown_either(open_journal):
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra `postgres`)")
    with pytest.raises(JournalUnavailable) as problem:
        await open_journal("postgresql://anna@127.0.0.1:9/journal?password=hunter2")
    assert "hunter2" not in str(problem.value)


async def test_postgresql_without_its_driver_says_what_to_install(open_journal, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(JournalUnavailable, match=r"remediator\[postgres\]"):
        await open_journal("postgresql://anna@127.0.0.1:9/journal")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(open_journal, tmp_path):
    path = tmp_path / "journal.db"
    path.write_text("dear diary, " * 500)
    with pytest.raises(JournalUnavailable, match="not a database"):
        await open_journal(f"sqlite:///{path}")
    assert path.read_text().startswith("dear diary")


async def test_the_file_is_for_its_owner_alone(open_journal, tmp_path, make):
    journal = await open_journal(f"sqlite:///{tmp_path}/journal.db")
    await journal.add_delivery(make.delivery())
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in sorted(tmp_path.iterdir())}
    assert found == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}


async def test_sqlite_is_as_safe_as_it_can_be(open_journal, tmp_path):
    journal = await open_journal(f"sqlite:///{tmp_path}/journal.db")

    def settings(transaction):
        names = ("journal_mode", "synchronous", "busy_timeout")
        return [transaction._connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await journal._writer.write(settings) == ["wal", 2, 10_000]
