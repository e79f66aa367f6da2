"""Who may act on a store: one daemon alone, or any number that elect; the seat of one that died is free again."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest

from remediator.errors import Occupied


async def test_a_second_one_that_is_alone_is_refused_and_told_who_is_there(store_url, open_journal):
    first, second = [await open_journal(store_url) for _ in range(2)]
    await first.sit(alone=True, by="pod-a")
    with pytest.raises(Occupied, match=r"pod-a.*set election\.enabled for all"):
        await second.sit(alone=True, by="pod-b")
    await first.close()
    await second.sit(alone=True, by="pod-b")


async def test_a_second_one_waits_for_the_first_to_go(store_url, open_journal, monkeypatch):
    first, second = [await open_journal(store_url) for _ in range(2)]
    await first.sit(alone=True, by="pod-a")
    monkeypatch.setattr("remediator.journal.journal.log.warning", lambda *_, **__: first._seat.close())
    await second.sit(alone=True, by="pod-b", within=timedelta(minutes=1))
    with pytest.raises(Occupied, match="pod-b"):
        await first.sit(alone=True, by="pod-a")


@pytest.mark.postgres
async def test_those_that_elect_sit_together_and_none_beside_one_that_is_alone(postgres_database, open_journal):
    a, b, alone = [await open_journal(postgres_database) for _ in range(3)]
    await a.sit(alone=False, by="pod-a")
    await b.sit(alone=False, by="pod-b")
    with pytest.raises(Occupied, match=r"pod-a .*, of those that elect; .*pod-b .*, of those that elect"):
        await alone.sit(alone=True, by="pod-c")
    await a.close()
    await b.close()
    await alone.sit(alone=True, by="pod-c")
    with pytest.raises(Occupied, match="pod-c"):
        await (await open_journal(postgres_database)).sit(alone=False, by="pod-d")


@pytest.mark.postgres
async def test_a_seat_whose_session_was_cut_is_taken_again(postgres_database, postgres_server, open_journal):
    first, second = [await open_journal(postgres_database) for _ in range(2)]
    await first.sit(alone=True, by="pod-a")
    _cut(postgres_server, "pod-a")
    await first.keep_seat()
    assert not first.deposed
    with pytest.raises(Occupied, match="pod-a"):
        await second.sit(alone=True, by="pod-b")


@pytest.mark.postgres
async def test_who_lost_the_seat_to_another_one_must_act_no_more(postgres_database, postgres_server, open_journal):
    first, second = [await open_journal(postgres_database) for _ in range(2)]
    await first.sit(alone=True, by="pod-a")
    _cut(postgres_server, "pod-a")
    await second.sit(alone=True, by="pod-b")
    await first.keep_seat()
    assert (first.deposed, second.deposed) == (True, False)


def _cut(server, who):
    server.sql(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'remediator {who}'")


def test_the_seat_of_a_process_that_was_killed_is_free(tmp_path):
    """On a file: the system lets go of it, so that nobody has to remove anything by hand."""
    program = (
        "import asyncio, os, signal\n"
        "from remediator.clock import SystemClock\n"
        "from remediator.journal import Journal\n"
        "async def go():\n"
        f"    journal = await Journal.open('sqlite:///{tmp_path}/journal.db', clock=SystemClock())\n"
        "    await journal.sit(alone=True, by='pod')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(go())\n"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ)).returncode == -9


@pytest.mark.postgres
async def test_whether_another_one_could_lead_from_elsewhere(postgres_database, open_journal):
    a, same, other = [await open_journal(postgres_database) for _ in range(3)]
    await a.sit(alone=False, by="pod-a", node="node-1")
    await same.sit(alone=False, by="pod-b", node="node-1")
    assert not await a.others_elsewhere()
    await other.sit(alone=False, by="pod-c", node="node-2")
    assert (await a.others_elsewhere(), await other.others_elsewhere()) == (True, True)
    await other.close()
    assert not await a.others_elsewhere()


async def test_who_is_alone_has_nobody_to_hand_over_to(store_url, open_journal):
    journal = await open_journal(store_url)
    assert not await journal.others_elsewhere()
    await journal.sit(alone=True, by="pod-a", node="node-1")
    assert not await journal.others_elsewhere()
