"""kill -9 at any moment: what was acknowledged is there, and the chain holds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

ROUNDS = 20
WRITER = """
import asyncio, sys
from remediator.clock import SystemClock
from remediator.journal import Journal
from remediator.model import Alert, Delivery

async def add(journal, number, worker):
    clock = SystemClock()
    while True:
        now = clock.now()
        alert = Alert(name="A", fingerprint="f", starts_at=now, status="firing", labels={"n": "x" * 2000})
        id_ = f"{sys.argv[2]}-{worker}-{number}"
        number += 1
        await journal.add_delivery(Delivery(id=id_, received_at=now, receiver="r", group_key="g", status="firing", truncated=0, alerts=(alert,)))
        sys.stdout.write(id_ + "\\n")
        sys.stdout.flush()

async def main():
    journal = await Journal.open(sys.argv[1], clock=SystemClock())
    await asyncio.gather(*[add(journal, 0, worker) for worker in range(8)])

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives(store_url, open_journal):
    chance = random.Random(20260105)
    acknowledged: list[str] = []
    for number in range(ROUNDS):
        process = subprocess.Popen([sys.executable, "-c", WRITER, store_url, str(number)], stdout=subprocess.PIPE, text=True)
        try:
            for _ in range(chance.randrange(1, 300)):
                acknowledged.append(process.stdout.readline().strip())
        finally:
            os.kill(process.pid, signal.SIGKILL)
        acknowledged += process.stdout.read().rpartition("\n")[0].split()
        process.stdout.close()
        assert process.wait(20) == -signal.SIGKILL
    journal = await open_journal(store_url)
    kept = {delivery.id for delivery in await journal.undecided(limit=5000)}
    while True:
        more = {delivery.id for delivery in await journal.undecided(limit=5000, after=max(kept))}
        if not more:
            break
        kept |= more
    assert len(acknowledged) > ROUNDS
    assert set(acknowledged) <= kept
    report = await journal.verify()
    assert report.problems == []
    assert report.entries == len(kept)
