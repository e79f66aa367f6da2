"""kill -9 at any moment: what was acknowledged is there, and the chain holds."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys

ROUNDS = 8
# Forks one writer after the other, so that each begins at once. A writer prints its pid, and then each id after its commit.
WRITERS = """
import asyncio, os, sys
from remediator.clock import SystemClock
from remediator.journal import Journal
from remediator.model import Alert, Delivery

def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

async def add(journal, worker):
    number = 0
    while True:
        now = SystemClock().now()
        alert = Alert(name="A", fingerprint="f", starts_at=now, status="firing", labels={"n": "x" * 2000})
        delivery = Delivery(id=f"{os.getpid()}-{worker}-{number}", received_at=now, receiver="r", group_key="g",
                            status="firing", truncated=0, alerts=(alert,))
        await journal.add_delivery(delivery)
        say(delivery.id)
        number += 1

async def write():
    journal = await Journal.open(sys.argv[1], clock=SystemClock())
    say(f"pid {os.getpid()}")
    await asyncio.gather(*[add(journal, worker) for worker in range(8)])

for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        asyncio.run(write())
    os.wait()
"""


def kill_writers(url):
    """The ids that writers acknowledged before they were killed, each after a random number of them."""
    chance = random.Random(20260105)
    acknowledged: list[str] = []
    command = [sys.executable, "-c", WRITERS, url, str(ROUNDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        left = 0
        pid = 0
        for line in process.stdout:
            word, _, number = line.strip().partition(" ")
            if word == "pid":
                pid, left = int(number), chance.randrange(1, 200)
                continue
            acknowledged.append(word)
            left -= 1
            if left == 0:
                os.kill(pid, signal.SIGKILL)
    assert process.returncode == 0
    return acknowledged


async def everything(journal):
    after, found = "", []
    while page := await journal.undecided(limit=5000, after=after):
        found += [delivery.id for delivery in page]
        after = found[-1]
    return found


async def test_what_was_acknowledged_survives(store_url, open_journal):
    acknowledged = await asyncio.to_thread(kill_writers, store_url)
    assert len({id_.partition("-")[0] for id_ in acknowledged}) == ROUNDS
    journal = await open_journal(store_url)
    kept, report = await everything(journal), await journal.verify()
    assert set(acknowledged) <= set(kept)
    assert report.problems == []
    assert report.entries == len(kept)
