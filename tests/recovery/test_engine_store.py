"""The engine's own store fails where a step ends: the run goes on, since the journal knows what was done."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import socket
import stat
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from dbos import DBOS
from dbos._dbos import _get_dbos_instance
from dbos._serialization import DefaultSerializer
from dbos._sys_db import SystemDatabase
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from remediator.engine import Engine, EngineError, _store_url
from remediator.journal import Redactor


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


@asynccontextmanager
async def launched(store, body, **more):
    """An engine on that store, for as long as the block takes."""
    engine = Engine(store, body, **more)
    engine.launch()
    try:
        yield engine
    finally:
        await engine.stop(timedelta(seconds=10))


def told(store, statement, **values):
    """What the engine's own tables say; what is asked of them is in SQL, where schema ``dbos`` is the search path."""
    options = {} if store.startswith("sqlite") else {"connect_args": {"options": "-c search_path=dbos"}}
    door = create_engine(_store_url(store), **options)
    try:
        with door.begin() as connection:
            done = connection.execute(text(statement), values)
            return [tuple(row) for row in done] if done.returns_rows else []
    finally:
        door.dispose()


async def until(look):
    async with asyncio.timeout(30):
        while not look():  # noqa: ASYNC110 - what DBOS calls tells nobody
            await asyncio.sleep(0.01)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    return f"sqlite:///{tmp_path}/journal.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


class TestWhatIsKept:
    async def test_of_results_and_faults_it_is_json_without_secrets(self, store):
        """And what a run goes on with is what it would go on with after a crash; the fault itself stays as it is."""
        words = "no: https://bot:hunter2-of-x@vault.test/ password=hunter2-of-y the-token-of-z"
        clean = "no: https://bot:<redacted>@vault.test/ password=<redacted> <redacted>"
        seen = []

        async def say():
            return {"end": "refused", "detail": words, "more": [None, True, 1, 1.5]}

        async def fail():
            raise ValueError(words)

        async def body(_):
            seen.append(await engine.step("one", say))
            try:
                await engine.step("two", fail)
            except ValueError as error:
                seen.append(str(error))
            raise RuntimeError(words)

        async with launched(store, body, redact=Redactor(["the-token-of-z"])) as engine:
            await engine.start("run-1")
            await until(lambda: told(store, "SELECT 1 FROM workflow_status WHERE status = 'ERROR'"))
        result = {"end": "refused", "detail": clean, "more": [None, True, 1, 1.5]}
        assert seen == [result, words]
        rows = told(store, "SELECT function_name, output, error, serialization FROM operation_outputs ORDER BY function_id")
        assert [(name, how) for name, _, _, how in rows] == [("one", "portable_json"), ("two", "portable_json")]
        assert json.loads(rows[0][1]) == result
        assert json.loads(rows[1][2])["message"] == f"ValueError: {clean}"
        ((inputs,),) = told(store, "SELECT inputs FROM workflow_input")
        assert json.loads(inputs)["positionalArgs"] == ["run-1"]
        ((error,),) = told(store, "SELECT error FROM workflow_output")
        assert json.loads(error)["message"] == f"RuntimeError: {clean}"

    async def test_a_new_file_is_for_its_owner_alone(self, work, tmp_path):
        assert stat.S_IMODE((tmp_path / "journal.db.engine").stat().st_mode) == 0o600

    async def test_where_it_cannot_be_kept_it_is_without_secrets_all_the_same(self, work, failing):
        failing["record_operation_result"] = 1
        work.step = lambda name: asyncio.sleep(0, {"end": f"{name} password=hunter2"})
        await work.engine.start("run-1")
        async with asyncio.timeout(30):
            await work.ended.wait()
        assert work.results == [{"end": "one password=<redacted>"}, {"end": "two password=<redacted>"}]


class TestWhatIsReadBack:
    """A run of two steps; the process ends in the second one, and another one goes on."""

    class Life:
        def __init__(self, store):
            self.store, self.entered, self.results = store, [], []
            self.over = False

        def lives(self, *, dies):
            """The body of one life."""

            async def step(name):
                self.entered.append(name)
                if dies and name == "two":
                    await asyncio.Event().wait()
                return {"end": name, "reason": None, "tries": [1, 2.5, True]}

            async def body(_):
                results = [await self.engine.step(name, lambda name=name: step(name)) for name in ("one", "two")]
                self.results, self.over = results, True
                return "healed"

            return body

        async def first(self):
            async with launched(self.store, self.lives(dies=True)) as self.engine:
                await self.engine.start("run-1")
                await until(lambda: "two" in self.entered)

        async def second(self):
            """As at every start: what is open in the journal is started once more."""
            async with launched(self.store, self.lives(dies=False)) as self.engine:
                await self.engine.start("run-1")
                await until(lambda: self.over)
                await until(lambda: told(self.store, "SELECT 1 FROM workflow_status WHERE status = 'SUCCESS'"))

    @pytest.fixture
    def life(self, store):
        return self.Life(store)

    @pytest.mark.parametrize("before", [True, False], ids=["upgrade", "downgrade"])
    async def test_one_release_goes_on_with_what_the_other_kept(self, life, monkeypatch, before):
        """Each row says how it was written, and DBOS reads both ways, whichever of them it writes."""
        for old, live in ((before, life.first), (not before, life.second)):
            with monkeypatch.context() as patch:
                if old:
                    patch.setattr("remediator.engine.DBOSPortableJSONSerializer", DefaultSerializer)
                await live()
        assert life.entered == ["one", "two", "two"], "the first one was not entered again"
        assert life.results == [{"end": name, "reason": None, "tries": [1, 2.5, True]} for name in ("one", "two")]
        kept = {how for (how,) in told(life.store, "SELECT serialization FROM operation_outputs")}
        assert kept == {"py_pickle", "portable_json"}

    @pytest.mark.parametrize("place", ["output", "error"])
    async def test_a_pickle_that_runs_something_runs_nothing(self, life, tmp_path, place):
        """Who may write to the engine's tables must not thereby run code in the daemon. The step is entered again."""
        await life.first()
        other = "error" if place == "output" else "output"
        planted(life.store, f"UPDATE operation_outputs SET {place} = :it, {other} = NULL, serialization = 'py_pickle'", tmp_path)
        await life.second()
        assert not (tmp_path / "ran").exists()
        assert life.entered == ["one", "two", "one", "two"]

    async def test_nor_does_one_in_place_of_a_run(self, life, tmp_path):
        """Nobody can tell which run it was: the engine holds it for ended, so that the daemon gives it up as unknown."""
        await life.first()
        planted(life.store, "UPDATE workflow_input SET inputs = :it", tmp_path)
        told(life.store, "UPDATE workflow_status SET serialization = 'py_pickle'")
        async with launched(life.store, life.lives(dies=False)) as life.engine:
            async with asyncio.timeout(30):
                while not await life.engine.ended("run-1"):  # noqa: ASYNC110 - what DBOS calls tells nobody
                    await asyncio.sleep(0.01)
        assert not (tmp_path / "ran").exists()
        assert (life.entered, life.over) == (["one", "two"], False)


class Trap:
    """Unpickled as DBOS does it, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def planted(store, statement, folder):
    it = base64.b64encode(pickle.dumps(Trap(folder / "ran"))).decode()
    told(store, statement, it=it)


class TestForgetting:
    @pytest.fixture
    async def ended(self, store, monkeypatch):
        """An engine with ended runs 00 to 24 of two steps each, and ``open`` that has not ended; it forgets ten at a time."""
        monkeypatch.setattr("remediator.engine._FORGOTTEN_AT_ONCE", 10)
        go_on = asyncio.Event()

        async def body(run):
            for name in ("one", "two"):
                await engine.step(name, lambda: asyncio.sleep(0, {"end": "done"}))
            if run == "open":
                await go_on.wait()
            return "healed"

        async with launched(store, body) as engine:
            await engine.start("open")
            for number in range(25):
                await engine.start(f"{number:02}")
            await until(lambda: told(store, "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'") == [(25,)])
            yield engine
            go_on.set()

    def left(self, store):
        tables = ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")
        return {id_ for table in tables for (id_,) in told(store, f"SELECT workflow_uuid FROM {table}")}

    async def test_what_is_gone_goes_a_few_at_a_time_and_nothing_open(self, ended, store, monkeypatch):
        asked, removed = [], []
        delete = DBOS.delete_workflows_async

        async def count(ids):
            removed.append(len(ids))
            await delete(ids)

        async def gone(runs):
            asked.append(runs)
            return runs - {"07", "13"} | {"open", "24"}

        monkeypatch.setattr(DBOS, "delete_workflows_async", count)
        assert await ended.forget(gone, before="20") >= 18
        assert max(removed) <= 10
        assert all(len(runs) <= 10 and "open" not in runs for runs in asked)
        left = self.left(store)
        assert {"07", "13", "open"} <= left
        assert not {f"{number:02}" for number in range(20)} - {"07", "13"} & left
        await ended.forget(gone, before="zz")
        assert self.left(store) == {"07", "13", "open"}
        assert not await ended.ended("open")

    async def test_what_is_younger_is_not_even_asked_about(self, ended, store):
        async def gone(_):
            raise AssertionError("asked")

        assert await ended.forget(gone, before="00") == 0
        assert len(self.left(store)) == 26

    async def test_who_does_not_lead_any_more_stops(self, ended):
        async def gone(runs):
            ended._may_act = lambda: False
            return runs

        assert await ended.forget(gone, before="zz") == 10
        ended._may_act = lambda: True

    async def test_a_store_that_does_not_answer_is_given_up(self, ended, store, monkeypatch):
        async def hang(_):
            await asyncio.Event().wait()

        monkeypatch.setattr(DBOS, "delete_workflows_async", hang)
        monkeypatch.setattr("remediator.engine._FORGET_WITHIN", 0.1)
        with pytest.raises(EngineError, match="could not take away"):
            await ended.forget(lambda runs: asyncio.sleep(0, runs), before="zz")
        assert len(self.left(store)) == 26
