"""A journal on each of the two stores, and a maker of records."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import event

from remediator.clock import ManualClock
from remediator.errors import JournalUnavailable
from remediator.journal import Journal, Redactor
from remediator.model import (
    Alert,
    AlertStatus,
    Change,
    ChangeState,
    Decision,
    DecisionKind,
    Delivery,
    Episode,
    Evidence,
    Pause,
    Resource,
    Run,
    RunState,
    Step,
    StepState,
    Target,
    Trigger,
    TriggerKind,
    Verdict,
    evolve,
)

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
SECRET = "s3cr3t-Value-of-the-webhook"


class Make:
    """Records with everything filled in; any field can be set. ``at`` is minutes after the start."""

    def __init__(self) -> None:
        self._count = 0

    def id(self, at: float = 0) -> str:
        self._count += 1
        return f"{round(at * 1000):010d}{self._count:016d}"

    @staticmethod
    def time(at: float) -> datetime:
        return START + timedelta(minutes=at)

    def alert(self, at: float = 0, **fields) -> Alert:
        usual = {
            "name": "CiliumAgentDown",
            "fingerprint": "00000000000000aa",
            "starts_at": self.time(at),
            "status": AlertStatus.FIRING,
            "labels": {"alertname": "CiliumAgentDown", "node": "node-3"},
            "annotations": {"summary": "The agent on node-3 is down — «Ärger»"},
        }
        return Alert(**{**usual, **fields})

    def delivery(self, at: float = 0, **fields) -> Delivery:
        usual = {
            "id": self.id(at),
            "received_at": self.time(at),
            "receiver": "remediator",
            "group_key": '{}:{alertname="CiliumAgentDown"}',
            "status": "firing",
            "truncated": 0,
            "alerts": (self.alert(at),),
            "sender": "10.0.0.7",
            "extra": {"groupLabels": {"alertname": "CiliumAgentDown"}},
        }
        return Delivery(**{**usual, **fields})

    def decision(self, at: float = 0, **fields) -> Decision:
        usual = {
            "id": self.id(at),
            "at": self.time(at),
            "alert": self.alert(at),
            "decision": DecisionKind.UNMATCHED,
            "gates": (Verdict(gate="paused", allowed=True, at=self.time(at)),),
        }
        return Decision(**{**usual, **fields})

    def episode(self, at: float = 0, **fields) -> Episode:
        usual = {
            "fingerprint": "00000000000000aa",
            "starts_at": self.time(at),
            "name": "CiliumAgentDown",
            "labels": {"node": "node-3"},
            "first_seen": self.time(at),
            "last_seen": self.time(at),
            "decision": DecisionKind.RUN,
        }
        return Episode(**{**usual, **fields})

    def step(self, index: int = 0, **fields) -> Step:
        usual = {
            "name": f"step-{index}",
            "action": "cilium.restart_agent",
            "rung": 0,
            "index": index,
            "state": StepState.PENDING,
            "evidence": (Evidence(name="pod", at=self.time(0), data={"phase": "Running", "restarts": 1.5}),),
        }
        return Step(**{**usual, **fields})

    def run(self, at: float = 0, **fields) -> Run:
        usual = {
            "id": self.id(at),
            "playbook": "cilium-agent-down",
            "revision": "0123456789ab",
            "trigger": Trigger(kind=TriggerKind.ALERT),
            "alert": self.alert(at),
            "target": Target(kind="Node", name="node-3", uid="u-3"),
            "parameters": {"timeout": "30s"},
            "state": RunState.RUNNING,
            "started_at": self.time(at),
            "deadline": self.time(at + 30),
            "steps": (self.step(0), self.step(1)),
        }
        return Run(**{**usual, **fields})

    def change(self, run: str, at: float = 0, **fields) -> Change:
        usual = {
            "id": self.id(at),
            "run": run,
            "step": "step-0",
            "action": "cilium.restart_agent",
            "verb": "delete",
            "resource": Resource(kind="Pod", namespace="kube-system", name="cilium-x"),
            "before": {"uid": "p-1"},
            "state": ChangeState.INTENDED,
            "at": self.time(at),
        }
        return Change(**{**usual, **fields})

    def pause(self, at: float = 0, **fields) -> Pause:
        usual = {"id": self.id(at), "reason": "maintenance", "by": "anna", "at": self.time(at)}
        return Pause(**{**usual, **fields})

    async def story(self, journal, name, *, state=RunState.HEALED, left=False, resolved=True, undo=False):
        """One alert from its delivery to the end of its run, in pieces as the daemon writes them; in all ways in which it may stay."""
        alert = self.alert(fingerprint=name.encode().hex())
        await journal.add_delivery(self.delivery(id=f"d-{name}", alerts=(alert,)))
        run = self.run(id=f"r-{name}", alert=alert, state=RunState.RUNNING)
        episode = self.episode(fingerprint=alert.fingerprint, run=run.id)
        decision = self.decision(id=f"x-{name}", delivery=f"d-{name}", alert=alert, decision=DecisionKind.RUN, run=run.id)
        await journal.decide(f"d-{name}", [decision], episodes=[episode], runs=[run])
        await journal.save_step(run.id, self.step(0, state=StepState.RUNNING))
        change = self.change(run.id, id=f"c-{name}")
        await journal.save_change(change)
        await journal.save_step(run.id, self.step(0, state=StepState.SUCCEEDED))
        await journal.note("told", run.id, {"id": name})
        if not state.open:
            steps = self.step(0, state=StepState.SUCCEEDED), self.step(1)
            await journal.save_run(evolve(run, state=state, ended_at=self.time(5), steps=steps))
        if not left:
            await journal.save_change(evolve(change, state=ChangeState.UNDONE))
        if undo:
            await journal.note("undo", run.id, {"by": "anna"})
        if resolved:
            await journal.save_episode(evolve(episode, resolved_at=self.time(6)))


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def secret() -> str:
    return SECRET


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store_url(request, tmp_path):
    """The URL of an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/journal.db"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
async def open_journal(clock):
    """Opens journals and closes them with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_(url: str, **options) -> Journal:
            # However slow the machine is: slices of pruning are as large as on a quick one.
            quick = partial(next, itertools.count(0, 1e-6))
            journal = await Journal.open(url, clock=clock, redact=Redactor([SECRET]), **{"ticks": quick, **options})
            stack.push_async_callback(journal.close)
            return journal

        yield open_


@pytest.fixture
async def journal(store_url, open_journal) -> Journal:
    return await open_journal(store_url)


@pytest.fixture
def eventually():
    """Waits, at most 20 seconds, until a write is taken."""

    async def eventually_(write) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await write()
                except JournalUnavailable:
                    await asyncio.sleep(0.02)

    return eventually_


@pytest.fixture
def plan_of(journal):
    """``await plan_of(query)``: the database's plan for the first statement of ``query(connection)``, in small letters.

    PostgreSQL takes a whole table for dear, as in a large one.
    """

    def plan(query, transaction):
        connection, statements = transaction._connection, []
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        event.listen(connection, "before_cursor_execute", lambda *told: statements.append(told[2:4]))
        query(connection)
        statement, values = statements[0]
        rows = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{statement}", values).all()
        return " ".join(str(column) for row in rows for column in row).lower()

    return lambda query: journal._writer.write(partial(plan, query))
