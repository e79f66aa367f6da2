from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from remediator.testing import rehearse
from remediator.testing.read import read_file
from remediator.testing.suite import run_one

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
A_DAY = timedelta(days=1)


def test_days_pass_in_no_time_and_in_order():
    seen = []

    async def sleeper(clock, days):
        await clock.sleep(days * A_DAY)
        seen.append((days, clock.now() - START))

    async def main(clock):
        await asyncio.gather(*(sleeper(clock, days) for days in (3, 1, 2)))
        return clock.now()

    assert rehearse(main, start=START) == START + 3 * A_DAY
    assert seen == [(days, days * A_DAY) for days in (1, 2, 3)]


def test_time_stands_still_while_a_thread_works():
    def work():
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    async def main(clock):
        sleeper = asyncio.create_task(clock.sleep(A_DAY))
        await asyncio.to_thread(work)
        before = clock.now()
        await sleeper
        return before, clock.now()

    assert rehearse(main, start=START) == (START, START + A_DAY)


def test_time_stands_still_while_the_loop_has_something_to_do():
    async def main(clock):
        sleeper = asyncio.create_task(clock.sleep(A_DAY))
        for _ in range(1000):
            await asyncio.sleep(0)
        before = clock.now()
        await sleeper
        return before

    assert rehearse(main, start=START) == START


def test_real_timers_go_on_where_nobody_sleeps_on_the_clock():
    async def main(clock):
        await asyncio.sleep(0.01)
        return clock.now()

    assert rehearse(main, start=START) == START


def test_what_the_daemon_tries_again_takes_the_time_of_the_rehearsal(tmp_path):
    """Were its pauses real ones, simulated hours would pass in each."""
    (tmp_path / "look.yaml").write_text(
        "apiVersion: remediator.dev/v1\nkind: Playbook\nmetadata: {name: look, summary: Look}\n"
        "ladder: [{name: look, steps: [{look: {action: kube.get, kind: VolumeAttachment, timeout: 1m}}]}]\n"
    )
    (tmp_path / "look.test.yaml").write_text(
        "apiVersion: remediator.dev/v1\nkind: PlaybookTest\nplaybooks: [look.yaml]\ntests:\n"
        "- name: looks again and again\n  when:\n"
        "  - {at: 0s, fails: {verb: get, path: /volumeattachments, status: 500, times: 3}}\n"
        "  - {at: 0s, run: {playbook: look, target: Node/node-1}}\n"
        "  then: {runs: [{state: done}]}\n"
    )
    result = run_one(read_file(tmp_path / "look.test.yaml"), 0)
    assert result.passed, result.wrong
    assert result.lasted < timedelta(minutes=5)
