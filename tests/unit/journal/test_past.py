"""The benchmarks' long history is one that the daemon could have written."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from benchmarks import past
from remediator.model import RunState


async def test_it_is_whole_and_ends_as_histories_do(store_url, open_journal, clock):
    await (await open_journal(store_url)).close()
    count = await asyncio.to_thread(past.fill, store_url, 2000, until=clock.now())
    journal = await open_journal(store_url)
    report = await journal.verify()
    assert (report.problems, report.entries, 1500 < count < 2500) == ([], count, True)
    runs = (await journal.runs(limit=500)).items
    assert {(run.state, len(run.steps), len(run.steps[0].changes)) for run in runs} == {(RunState.HEALED, 2, 1)}
    assert len((await journal.episodes()).items) == past.STILL_OPEN
    assert len((await journal.changes(left_behind=True)).items) == past.LEFT_BEHIND
    assert (await journal.runs(since=clock.now() - timedelta(days=1))).items
    done = await journal.prune(before=clock.now() - timedelta(days=90))
    assert (done.removed["entry"] > count / 5, (await journal.verify()).problems) == (True, [])
