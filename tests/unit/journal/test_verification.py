"""A verification in pieces: it goes on from the last good one, several processes find what one finds, and a mark is never believed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import create_engine, text

from remediator.errors import JournalUnavailable
from remediator.journal import verification

STRANGER = "INSERT INTO revision (id, playbook, data) VALUES ('v', 'p', 't')"


def tamper(url, *statements):
    """SQL that somebody runs past the journal."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def outsider(store_url):
    return partial(tamper, store_url)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(verification, "_PIECE", 5)


async def filled(journal, make, names="abc"):
    for name in names:
        await make.story(journal, name)
    return len(await journal.entries())


async def test_the_next_one_reads_what_came_since(journal, make, outsider, clock):
    first = await filled(journal, make)
    report = await journal.verify(full=False)
    assert (report.ok, report.entries, report.since) == (True, first, None)
    clock.advance(timedelta(hours=1))
    await make.story(journal, "d")
    report = await journal.verify(full=False)
    assert (report.ok, report.entries > first, report.since.seq, report.since.whole) == (True, True, first, True)
    assert report.since.at == clock.now() - timedelta(hours=1)

    await make.story(journal, "e")
    outsider("UPDATE run SET state = 'failed' WHERE id = 'r-e'")
    report = await journal.verify(full=False)
    assert report.problems == ["run r-e: the column state says 'failed', its record 'healed'"]


async def test_what_was_altered_in_what_was_verified_shows_in_a_full_one_and_in_all_after_it(journal, make, outsider):
    last = await filled(journal, make)
    assert (await journal.verify()).ok
    outsider("UPDATE decision SET playbook = 'other' WHERE id = 'x-a'", "UPDATE entry SET data = '{}' WHERE seq = 2")
    await make.story(journal, "d")
    report = await journal.verify(full=False)
    assert (report.ok, report.since.seq) == (True, last), "as the documentation says"
    words = ["entry 2 (decided d-a) was altered: its hash is not that of its content", "decision x-a: the column playbook says 'other'"]
    for full in (True, False):
        report = await journal.verify(full=full)
        assert (report.ok, report.since) == (False, None)
        assert all(any(word in problem for problem in report.problems) for word in words), report.problems
    assert journal.faults


async def test_one_that_was_stopped_goes_on_from_where_it_was(journal, make, outsider, monkeypatch):
    last = await filled(journal, make)
    checked = []

    def dying(store, piece, check=verification.check_piece):
        if len(checked) == 3:
            raise JournalUnavailable("killed")
        checked.append(piece)
        return check(store, piece)

    monkeypatch.setattr(verification, "check_piece", dying)
    outsider(STRANGER)
    with pytest.raises(JournalUnavailable):
        await journal.verify(full=False)
    reached = checked[-1].end.seq
    monkeypatch.undo()
    report = await journal.verify(full=False)
    assert (report.since.seq, report.since.whole) == (reached, False)
    assert 0 < reached < last
    assert report.problems == ["revision v has no entry in the log"], "what the first one did not come to is looked for"


async def test_a_log_that_was_rewritten_or_cut_back_does_not_agree_with_the_mark(journal, make, outsider, clock):
    last = await filled(journal, make)
    await journal.verify()
    told = clock.now().strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    kept = (await journal.entries(after=last - 2, limit=1))[0]
    (row,) = await journal.entries(after=last - 1)
    outsider(f"DELETE FROM entry WHERE seq = {last}", f"UPDATE head SET seq = {kept.seq}, hash = '{kept.hash}'")
    report = await journal.verify(full=False)
    assert report.problems[0] == f"the log ends at entry {kept.seq}, but entry {last} was verified at {told}: it was cut back"
    assert report.since is None, "then everything is read"

    outsider(
        f"INSERT INTO entry SELECT {last}, at, 'other', ref, data, '{kept.hash}', '{row.hash}' FROM entry WHERE seq = {kept.seq}",
        f"UPDATE head SET seq = {last}, hash = '{row.hash}'",
        f"""INSERT INTO verified VALUES (1, '{{"seq"\\:{last},"hash"\\:"{row.hash}","at"\\:"{told}","whole"\\:true}}')""",
    )
    report = await journal.verify(full=False)
    assert report.problems[0] == f"entry {last} is not the one that was verified at {told}: the log was rewritten"


async def test_a_mark_that_was_pruned_is_passed_over(journal, make, clock):
    await filled(journal, make)
    await journal.verify()
    clock.advance(timedelta(hours=1))
    await filled(journal, make, "d")
    await journal.prune(before=clock.now() + timedelta(minutes=1), keep=3)
    report = await journal.verify(full=False)
    assert (report.problems, report.pruned.through > report.since.seq) == ([], True)


async def test_pruning_meanwhile_is_no_fault(journal, make, clock, monkeypatch):
    last = await filled(journal, make)
    loop, calls = asyncio.get_running_loop(), []

    def pruned_first(store, piece, check=verification.check_piece):
        calls.append(piece)
        if len(calls) == 2:
            clock.advance(timedelta(hours=1))
            pruning = journal.prune(before=clock.now(), keep=last - calls[2 - 1].end.seq - 2)
            asyncio.run_coroutine_threadsafe(pruning, loop).result(30)
        return check(store, piece)

    monkeypatch.setattr(verification, "check_piece", pruned_first)
    report = await journal.verify()
    assert (report.problems, report.pruned.through >= calls[1].end.seq) == ([], True)


async def test_processes_find_what_one_thread_finds(tmp_path, open_journal, make):
    """Most of its time is the start of the processes; on one store, for the two differ in nothing that processes do."""
    url = f"sqlite:///{tmp_path}/journal.db"
    journal = await open_journal(url)
    await filled(journal, make, "abcdef")
    assert (await journal.verify(jobs=2)).problems == []
    tamper(url, "UPDATE run SET state = 'failed' WHERE id = 'r-b'", "UPDATE entry SET data = '{}' WHERE seq = 3", STRANGER)
    alone, together = await journal.verify(), await journal.verify(jobs=2)
    assert alone.problems == together.problems
    assert len(alone.problems) >= 4
