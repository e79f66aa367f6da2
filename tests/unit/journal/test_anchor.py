"""The anchor outside: what was rewritten as a whole or cut back shows, pruning does not, and a bad file is never passed over."""

from __future__ import annotations

import asyncio
import json
import resource
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from remediator.errors import JournalError
from remediator.journal import lines_of, take_in


@pytest.fixture
def file(tmp_path):
    return tmp_path / "anchor.jsonl"


@pytest.fixture
async def anchored(store_url, open_journal, file, make):
    """A journal with two marks outside, the first in its middle."""
    journal = await open_journal(store_url, anchor=file)
    await make.story(journal, "a")
    assert await journal.anchor() == ()
    await make.story(journal, "b")
    assert await journal.anchor() == ()
    return journal


@pytest.fixture
def outsider(store_url):
    """SQL that somebody runs past the journal."""

    def run(*statements):
        engine = create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    return run


def marks(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


EMPTIED = [f"DELETE FROM {name}" for name in ("entry", "delivery", "episode", "decision", "run", "step", "change")]


async def test_a_journal_that_only_grew_agrees(anchored, file):
    assert await anchored.anchor() == ()
    assert [mark["seq"] for mark in marks(file)] == [entry.seq for entry in await anchored.entries() if entry.hash in file.read_text()]
    assert len(marks(file)) == 2, "where nothing was written, nothing is marked"
    assert file.stat().st_mode & 0o777 == 0o600
    report = await anchored.verify()
    assert (report.ok, report.anchored, anchored.faults) == (True, marks(file)[-1]["seq"], ())


async def test_without_one_nothing_is_compared(store_url, open_journal, make):
    journal = await open_journal(store_url)
    await make.story(journal, "a")
    assert await journal.anchor() == ()
    assert (await journal.verify()).anchored is None


async def test_a_journal_written_anew_with_a_chain_of_its_own_shows(
    anchored, outsider, open_journal, file, make, tmp_path, store_url, clock
):
    """All that the chain can say of it is right."""
    other = await open_journal(f"sqlite:///{tmp_path}/other.db")
    for name in ("a", "another", "c"):
        await make.story(other, name)
    lines = [line async for line in lines_of(other.export())]
    outsider(*EMPTIED, "UPDATE head SET seq = 0, hash = '" + "0" * 64 + "'")
    await asyncio.to_thread(take_in, store_url, lines, source="forged", by="eve", now=clock.now())
    plain = await open_journal(store_url)
    assert (await plain.verify()).problems == [], "the chain is whole"
    before = file.read_bytes()
    report = await anchored.verify()
    last = marks(file)[-1]
    words = f"entry {last['seq']} is not the one that the anchor has of 2026-01-05T10:00:00.000000Z: the log was rewritten"
    assert (report.ok, report.problems, report.anchored) == (False, [words], None)
    assert await anchored.anchor() == (words,)
    assert anchored.faults == (words,)
    assert file.read_bytes() == before, "what was found is not written over"


async def test_a_log_that_was_cut_back_with_its_head_shows(anchored, outsider, open_journal, file, store_url):
    first, last = (mark["seq"] for mark in marks(file))
    kept = (await anchored.entries(after=first - 1, limit=1))[0]
    outsider(f"DELETE FROM entry WHERE seq > {first}", f"UPDATE head SET seq = {kept.seq}, hash = '{kept.hash}'")
    outsider(
        *(
            f"DELETE FROM {name} WHERE id LIKE '%-b%' OR id LIKE '62@%'"
            for name in ("delivery", "episode", "decision", "run", "step", "change")
        )
    )
    assert (await (await open_journal(store_url)).verify()).problems == []
    (words,) = (await anchored.verify()).problems
    assert words == f"the log ends at entry {first}, but the anchor has entry {last} of 2026-01-05T10:00:00.000000Z: it was cut back"


async def test_pruning_is_no_fault(anchored, file, make, clock):
    clock.advance(timedelta(hours=1))
    newest = marks(file)[-1]["seq"]
    await anchored.prune(before=make.time(30), keep=len(await anchored.entries()) - newest)
    assert (await anchored.verify()).pruned.through == newest, "the last mark is all that is left to compare"
    assert (await anchored.verify()).problems == []
    assert await anchored.anchor() == ()
    assert len(marks(file)) == 3
    assert (await anchored.verify()).anchored == marks(file)[-1]["seq"]


async def test_who_says_that_everything_was_pruned_is_not_believed(anchored, file, make, clock):
    clock.advance(timedelta(hours=1))
    await make.story(anchored, "c")
    clock.advance(timedelta(hours=1))
    await anchored.prune(before=clock.now() - timedelta(minutes=1))
    (words,) = (await anchored.verify()).problems
    assert f"the anchor ends at entry {marks(file)[-1]['seq']} of" in words
    assert "pruning never goes beyond what was anchored" in words


async def test_a_moved_journal_keeps_its_anchor(anchored, file, open_journal, tmp_path, clock):
    lines = [line async for line in lines_of(anchored.export())]
    url = f"sqlite:///{tmp_path}/moved.db"
    await asyncio.to_thread(take_in, url, lines, source="j", by="anna", now=clock.now())
    moved = await open_journal(url, anchor=file)
    assert await moved.anchor() == ()
    assert (await moved.verify()).anchored == marks(file)[-1]["seq"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.unlink(), "cannot be read: No such file or directory"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-9]),
            r":2 is not a mark of the journal: the file was altered, or its writing was cut",
        ),
        (lambda file: file.write_bytes(b"\xff\n" + file.read_bytes()), ":1 is not a mark"),
    ],
)
async def test_one_that_cannot_be_read_is_a_fault(anchored, file, spoil, words):
    spoil(file)
    report = await anchored.verify()
    assert not report.ok
    assert words in report.problems[0]
    assert words in (await anchored.anchor())[0]
    assert not file.exists() or len(file.read_bytes().splitlines()) < 4


async def test_a_mark_that_is_cut_by_a_full_disk_leaves_nothing_behind(anchored, file, make, open_journal, store_url):
    """The system writes as much as there is room for, and says so by a number alone."""
    await make.story(anchored, "c")
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, hard))
    try:
        problems = await anchored.anchor()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert "anchor.jsonl cannot be written: No space left on device" in problems[0]
    assert await anchored.anchor() == (), "there is room again"
    assert len(marks(file)) == 3
    again = await open_journal(store_url, anchor=file)
    assert (await again.verify()).problems == []


async def test_one_that_cannot_be_read_at_the_start_refuses_it(tmp_path, open_journal):
    url = f"sqlite:///{tmp_path}/j.db"
    with pytest.raises(JournalError, match=r"store\.anchor: .*/no/anchor cannot be written: No such file or directory"):
        await open_journal(url, anchor=tmp_path / "no" / "anchor")
    (tmp_path / "bad").write_text("{}\n")
    with pytest.raises(JournalError, match=r"store\.anchor: .*/bad:1 is not a mark"):
        await open_journal(url, anchor=tmp_path / "bad")
