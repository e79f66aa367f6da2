"""A commit that hangs for longer than anybody waits, and then lands: a disk that stalled, a standby server that PostgreSQL waited for."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from sqlalchemy import event

from remediator import pipeline
from remediator.errors import JournalUnavailable
from remediator.gates import Limits
from remediator.journal import Journal
from remediator.match import find
from remediator.model import Trigger, TriggerKind
from remediator.windows import Window


class Stall:
    """The first commit after which ``table`` has a row hangs, in the writer's thread, until it is let land."""

    def __init__(self, journal, table):
        self._journal, self._table = journal, table
        self.reached, self._landing = threading.Event(), threading.Event()
        event.listen(journal._store.writing, "commit", self._commits)

    def _commits(self, connection):
        if not self.reached.is_set() and connection.exec_driver_sql(f"SELECT count(*) FROM {self._table}").scalar():
            self.reached.set()
            assert self._landing.wait(60)

    async def asked_again(self):
        """Until whoever waited was told that nobody knows, and something waits for the journal once more."""
        async with asyncio.timeout(60):
            await asyncio.to_thread(self.reached.wait, 60)
            while self._journal.queue_depth:  # noqa: ASYNC110 - a state, not an event
                await asyncio.sleep(0.01)
            while not self._journal.queue_depth:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)

    def lands(self):
        self._landing.set()


@pytest.fixture
async def stall(line, tmp_path):
    """``stall(table)``; nobody waits for the line's journal longer than a second or two."""
    journal = await Journal.open(f"sqlite:///{tmp_path}/stage.db", clock=line.world.clock, deadline=timedelta(seconds=0.5))
    line.world.journal = line.journal = journal
    made = []

    def stall_(table):
        made.append(Stall(journal, table))
        return made[-1]

    yield stall_
    for one in made:
        one.lands()
    await line.stop()
    await journal.close()


@pytest.fixture
def ready(line, symptom, text):
    """The symptom goes by itself, so whatever runs is healed."""
    symptom.cured = lambda _: True
    line.load(text())


async def one_run(line):
    """That there is, once it is healed."""

    async def found():
        return (await line.journal.runs()).items

    await line.until(found, "a run")
    for run in (await line.journal.runs()).items:
        assert (await line.ended(run.id)).state == "healed"
    (run,) = (await line.journal.runs()).items
    return run


async def test_an_episode_has_one_run(line, stall, ready):
    await line.start()
    commit = stall("run")
    delivery = await line.deliver(line.outside.fire())
    await commit.asked_again()
    commit.lands()
    (decision,) = await line.decided(delivery)
    assert decision.decision == "run"
    assert (await one_run(line)).id == decision.run


async def test_so_has_one_that_a_maintenance_window_held(line, stall, ready, later):
    now = line.world.clock.now()
    window = Window.model_validate({"since": now - timedelta(hours=1), "until": now + timedelta(hours=2)})
    line.world.limits = Limits(maintenance=(window,))
    await line.start()
    (held,) = await line.decided(await line.deliver(line.outside.fire()))
    assert held.decision == "held"
    commit = stall("run")
    later(hours=3)
    await commit.asked_again()
    commit.lands()
    run = await one_run(line)
    decisions = (await line.journal.decisions(fingerprint=run.alert.fingerprint)).items
    assert [(decision.decision, decision.run) for decision in decisions] == [("run", run.id), ("held", None)]


async def test_a_webhook_that_was_answered_503_is_decided_when_it_landed(line, stall, ready):
    await line.start()
    commit = stall("delivery")
    with pytest.raises(JournalUnavailable):
        await line.deliver(line.outside.fire())
    await asyncio.sleep(0.1)  # longer than a look on the disk takes
    commit.lands()

    async def landed():
        return (await line.journal.deliveries()).items

    await line.until(landed, "the delivery")
    (delivery,) = await landed()
    (decision,) = await line.decided(delivery)
    assert (await one_run(line)).id == decision.run


async def test_an_intent_that_lands_late_is_looked_at_before_another_one_follows(line, stall, stage, symptom, text):
    """Else it would stay open for ever, as something that was left behind."""
    symptom.cured = lambda node: bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))
    line.load(text(steps=[{"cordon": {"action": "node.cordon"}}]))
    await line.start()
    commit = stall("change")
    await line.deliver(line.outside.fire())
    await commit.asked_again()
    commit.lands()
    await one_run(line)
    assert sorted(change.state for change in (await line.journal.changes()).items) == ["absent", "applied"]
    assert [verb for verb, _ in stage.writes()] == ["patch"]


class TestWhatAPersonAsksFor:
    """Nobody looks at it again as at a delivery, and whoever asked was told 503."""

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr(pipeline, "_LOOK_FOR_ASTRAY", timedelta(seconds=0.2))

    async def asks(self, line, node="node-3"):
        trigger = Trigger(kind=TriggerKind.MANUAL, by="anna", reason="to see")
        target = await find("Node", node, "", line.world.kube)
        judged = await line.pipeline.decider.person(line.world.library.by_name("remedy"), target, trigger)
        return judged.decision

    async def test_it_is_begun_when_it_landed_and_nothing_beside_it(self, line, stall, symptom, text, gate, logged):
        symptom.cured = lambda _: True
        line.load(text(steps=[gate, {"settle": {"action": "wait", "for": "1s"}}]))
        await line.start()
        in_flight = line.counted("remediator_runs_in_flight", playbook="remedy")
        commit = stall("run")
        for _ in range(2):
            with pytest.raises(JournalUnavailable):
                await self.asks(line)
        commit.lands()

        async def begun():
            return line.world.engine.running

        await line.until(begun, "the run begins")
        again = await self.asks(line)
        assert (again.decision, again.reason) == ("refused", "target_busy")
        assert line.counted("remediator_runs_in_flight", playbook="remedy") == in_flight + 1
        line.gate.set()
        run = await one_run(line)
        assert run.trigger.by == "anna"
        assert line.counted("remediator_runs_in_flight", playbook="remedy") == in_flight
        assert not [entry for entry in logged if "never begun" in entry["event"]]

    async def test_the_answer_says_that_it_may_have_been_kept(self, house, text, symptom):
        symptom.cured = lambda _: True
        house.put("remedy.yaml", text(gates={"cooldown": "1s"}))
        await house.start()
        decide = house.journal.decide

        async def without_an_answer(*args, **more):
            house.journal.decide = decide
            await decide(*args, **more)
            raise JournalUnavailable("as the test wants it")

        house.journal.decide = without_an_answer
        asked = {"playbook": "remedy", "target": "Node/node-3", "by": "anna"}
        status, problem = await house.http("POST", "/api/v1/runs", asked)
        assert (status, problem["title"]) == (503, "The journal is unavailable")
        assert "may have been kept" in problem["detail"]
        assert "remediator runs list" in problem["detail"]
        (run,) = (await house.journal.runs()).items
        assert (await house.ended(run.id)).state == "healed"
        status, run = await house.http("POST", "/api/v1/runs", {**asked, "target": "Node/node-2"})
        assert (status, run["target"]["name"]) == (201, "node-2")

    async def test_whatever_else_kept_a_run_from_beginning_it_begins(self, line, stage, ready, logged):
        await line.start()
        (playbook,) = line.world.library.playbooks
        run = await stage.begin(playbook, node="node-3")
        assert (await line.ended(run.id)).state == "healed"
        assert [entry["run"] for entry in logged if "never begun" in entry["event"]] == [run.id]
