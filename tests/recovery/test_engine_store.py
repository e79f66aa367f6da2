"""The engine's own store fails where a step ends: the run goes on, since the journal knows what was done."""

from __future__ import annotations

import asyncio
import os
import socket
from datetime import timedelta

import pytest
from dbos._dbos import _get_dbos_instance
from dbos._sys_db import SystemDatabase
from sqlalchemy.exc import OperationalError

from remediator.engine import Engine, EngineError


@pytest.fixture
def failing(monkeypatch):
    """Methods of the engine's store that fail as on a full disk, by how often they still do."""
    left: dict[str, int] = {}

    def fail(name):
        found = getattr(SystemDatabase, name)

        def method(*args, **kwargs):
            if left.get(name, 0) > 0:
                left[name] -= 1
                raise OperationalError("INSERT", {}, Exception("database or disk is full"))
            return found(*args, **kwargs)

        monkeypatch.setattr(SystemDatabase, name, method)

    for name in ("record_operation_result", "check_operation_execution", "init_workflow"):
        fail(name)
    return left


class Work:
    """A run of two steps that counts how often each was entered."""

    def __init__(self):
        self.entered = {"one": 0, "two": 0}
        self.ended = asyncio.Event()
        self.engine = None
        self.results = []

    async def body(self, run):
        for name in self.entered:
            self.results.append(await self.engine.step(name, lambda name=name: self.step(name)))
        self.ended.set()
        return "healed"

    async def step(self, name):
        self.entered[name] += 1
        return {"end": name}


@pytest.fixture
async def work(tmp_path):
    work = Work()
    work.engine = Engine(f"sqlite:///{tmp_path}/journal.db", work.body)
    work.engine.launch()
    yield work
    await work.engine.stop(timedelta(seconds=10))


@pytest.mark.parametrize("times", [1, 4])
async def test_the_result_of_a_step_cannot_be_kept(work, failing, times):
    failing["record_operation_result"] = times
    await work.engine.start("run-1")
    async with asyncio.timeout(30):
        await work.ended.wait()
    assert work.results == [{"end": "one"}, {"end": "two"}]
    assert work.entered == {"one": 1, "two": 1}


async def test_whether_a_step_was_done_cannot_be_read(work, failing):
    failing["check_operation_execution"] = 1
    await work.engine.start("run-1")
    async with asyncio.timeout(30):
        await work.ended.wait()
    assert work.results == [{"end": "one"}, {"end": "two"}]


async def test_a_run_whose_start_cannot_be_kept_may_be_started_again(work, failing):
    failing["init_workflow"] = 1
    with pytest.raises(EngineError, match="full"):
        await work.engine.start("run-1")
    await work.engine.start("run-1")
    async with asyncio.timeout(30):
        await work.ended.wait()
    assert work.entered == {"one": 1, "two": 1}


async def test_a_fault_of_the_step_itself_is_not_mistaken_for_one_of_the_store(tmp_path):
    entered, seen = [], asyncio.Event()

    async def broken():
        entered.append(True)
        raise ValueError("a fault of the step")

    async def body(_):
        with pytest.raises(ValueError, match="of the step"):
            await engine.step("one", broken)
        seen.set()
        return "unknown"

    engine = Engine(f"sqlite:///{tmp_path}/journal.db", body)
    engine.launch()
    await engine.start("run-1")
    async with asyncio.timeout(30):
        await seen.wait()
    await engine.stop(timedelta(seconds=10))
    assert entered == [True]


@pytest.mark.parametrize("fails", [False, True], ids=["result", "fault"])
async def test_what_comes_of_a_step_is_not_kept_once_another_process_leads(tmp_path, fails):
    """A step that was under way while its process stood still: the next leader enters it again, and the run is not held for ended."""
    leads, entered, healed = [True], [], asyncio.Event()

    async def work():
        entered.append(leads[0])
        if len(entered) == 1:
            leads[0] = False
            if fails:
                raise RuntimeError("whatever comes of a process that stood still")
        return {"end": len(entered)}

    async def body(run):
        assert await engine.step("one", work) == {"end": 2}
        healed.set()
        return "healed"

    engine = Engine(f"sqlite:///{tmp_path}/journal.db", body, may_act=lambda: leads[0])
    engine.launch()
    await engine.start("run-1")
    async with asyncio.timeout(30):
        while engine.running or not entered:  # noqa: ASYNC110 - what DBOS calls tells nobody
            await asyncio.sleep(0.01)
    assert not healed.is_set()
    assert not await engine.ended("run-1")
    assert await engine.stop(timedelta(seconds=10))

    leads[0] = True
    engine = Engine(f"sqlite:///{tmp_path}/journal.db", body, may_act=lambda: leads[0])
    engine.launch()
    async with asyncio.timeout(30):
        await healed.wait()
    assert entered == [True, True]
    await engine.stop(timedelta(seconds=10))


@pytest.mark.postgres
async def test_a_postgresql_whose_machine_is_gone_without_a_word_is_given_up(postgres_database):
    """By default the kernel asks after two hours whether the other side is still there, and a run would stand still so long."""

    async def body(_):
        return "healed"

    engine = Engine(postgres_database, body)
    engine.launch()
    try:
        with _get_dbos_instance()._sys_db.engine.connect() as connection:
            line = connection.connection.dbapi_connection.fileno()
            with socket.socket(fileno=os.dup(line)) as handle:
                assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
                assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
    finally:
        await engine.stop(timedelta(seconds=10))


async def test_a_run_that_another_process_took_and_left_is_taken_up(tmp_path, monkeypatch):
    """The store holds it for being worked on, but nobody works on it: as if a leader that was followed had asked for it first."""
    entered, ended = [], asyncio.Event()

    async def body(run):
        entered.append(run)
        if len(entered) == 1:
            await asyncio.Event().wait()
        ended.set()
        return "healed"

    store = f"sqlite:///{tmp_path}/journal.db"
    engine = Engine(store, body)
    engine.launch()
    await engine.start("run-1")
    async with asyncio.timeout(30):
        while not entered:  # noqa: ASYNC110 - what DBOS calls tells nobody
            await asyncio.sleep(0.01)
    assert [await engine.take_up_astray() for _ in range(3)] == [frozenset()] * 3, "it is under way"
    await engine.stop(timedelta(seconds=10))

    monkeypatch.setattr("dbos._dbos.startup_recovery_thread", lambda *_: None)
    engine = Engine(store, body)
    engine.launch()
    assert [await engine.take_up_astray() for _ in range(2)] == [frozenset(), frozenset({"run-1"})], "once it is seen twice"
    async with asyncio.timeout(30):
        await ended.wait()
    assert entered == ["run-1"] * 2
    await engine.stop(timedelta(seconds=10))
