"""Death at every third point of a story (on request at all), from the webhook to the undo; then a second life that must mend it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from recovery.life import Fate, Lives, Outage, receive

from remediator import facts
from remediator.approval import answer
from remediator.clock import FastClock, iso
from remediator.daemon import Daemon
from remediator.errors import JournalUnavailable
from remediator.kube.errors import Unreachable
from remediator.model import Answer, ChangeState, DecisionKind, Mode, RunState
from remediator.settings import load_settings
from remediator.sim import Simulation
from remediator.sim.alerting.alert import Alert

RATE = 50
STEP = 1 if os.environ.get("REMEDIATOR_EVERY_BOUNDARY") else 3
"""At every how manieth point the long matrices die; ``test_every_boundary.py`` dies at each call in a process of its own."""
AFTER = timedelta(days=365)


class Stage:
    """A simulated cluster, and lives of a pipeline on it. Each ``Story`` has an episode of its own."""

    def __init__(self, simulation, lives):
        self.simulation = simulation
        self.lives = lives
        self.journal = lives.world.journal
        self.asks = False
        """Whether people are asked; somebody says yes as soon as they are."""
        self._nodes = itertools.cycle(simulation.cluster.node_names())
        self._falls = None
        simulation.cluster.store.subscribe(self._changed)

    def story(self, name, *, protected):
        self.simulation.cluster.heal()
        node = next(self._nodes)
        self._mark(node, None)
        self._falls = node if protected else None
        return Story(self, name, node)

    def _changed(self, change):
        """Somebody protects the node as soon as it is cordoned: the restart that comes next must be refused by its gates."""
        if change.table == ("", "nodes") and change.obj["metadata"]["name"] == self._falls and change.obj["spec"].get("unschedulable"):
            node, self._falls = self._falls, None
            asyncio.get_running_loop().call_soon(self._mark, node, "true")

    def _mark(self, node, value):
        cluster = self.simulation.cluster
        kind = cluster.kind("Node")
        changed = cluster.store.edit(kind, cluster.get("Node", node))
        marks = changed["metadata"].setdefault("annotations", {})
        marks.pop("remediator.dev/protected", None)
        marks.update({"remediator.dev/protected": value} if value else {})
        cluster.store.replace(kind, changed)


class Story:
    """An agent hangs, the alert is delivered, a run follows, the alert resolves. It can be told again after a death at any point."""

    def __init__(self, stage, name, node):
        self.stage, self.name, self.node = stage, name, node
        self.cluster, self.journal = stage.simulation.cluster, stage.journal
        self.before = self.agents()
        self.taken = {}
        self.calls_before = len(self.cluster.request_log)
        self.alert = self.fire()

    def agents(self):
        return {node: self.cluster.agent_pod(node)["metadata"]["uid"] for node in self.cluster.node_names()}

    def fire(self):
        self.cluster.kill_agent(self.node, "hung")
        now = self.cluster.clock.now()
        labels = {"alertname": self.name, "node": self.node, "story": iso(now)}
        alert = Alert(labels, {}, now, now + AFTER, now)
        self.stage.simulation.alertmanager.receive([alert])
        return alert

    def body(self, status):
        ends = {"endsAt": iso(self.cluster.clock.now())} if status == "resolved" else {}
        labels, fingerprint = self.alert.labels, self.alert.fingerprint
        alert = {"status": status, "labels": labels, "startsAt": iso(self.alert.starts_at), "fingerprint": fingerprint, **ends}
        return {"version": "4", "status": status, "receiver": "remediator", "groupKey": "{}", "truncatedAlerts": 0, "alerts": [alert]}

    async def tell(self, pipeline):
        if "firing" not in self.taken.values():
            self.taken[await receive(pipeline, self.body("firing"))] = "firing"
        if self.stage.asks:
            await self.until(partial(self.people_said_yes, pipeline._world))
        await self.until(self.run_ended)
        self.taken[await receive(pipeline, self.body("firing"))] = "firing"  # Alertmanager repeats itself
        if "resolved" not in self.taken.values():
            self.taken[await receive(pipeline, self.body("resolved"))] = "resolved"
        await self.until(self.all_decided)
        await self.until(self.nothing_left)
        await self.until(self.engine_idle)

    async def until(self, look):
        async with asyncio.timeout(30):
            while not await look():  # noqa: ASYNC110 - bounded polling; the journal has no event for it
                await asyncio.sleep(0.02)

    async def decisions(self):
        page = await self.journal.decisions(fingerprint=self.alert.fingerprint, limit=200)
        return [d for d in page.items if d.delivery in self.taken or d.alert.episode[1] == self.episode]

    @property
    def episode(self):
        return self.alert.starts_at.replace(microsecond=self.alert.starts_at.microsecond // 1000 * 1000)

    async def run(self):
        runs = {d.run for d in await self.decisions() if d.decision is DecisionKind.RUN}
        assert len(runs) <= 1, "one episode led to more than one run"
        return await self.journal.run(runs.pop()) if runs else None

    async def people_said_yes(self, world):
        """As ``Operations.approve`` does, in this life; a yes that is on disk from an earlier one is not said again."""
        run = await self.run()
        if run is None:
            return False
        async with world.signals.writing(run.id):
            stored = await world.journal.run(run.id)
            if stored.state is RunState.AWAITING_APPROVAL:
                try:
                    await world.journal.save_run(answer(stored, Answer(by="anna", at=world.clock.now(), approved=True)))
                except JournalUnavailable:
                    return False  # it was answered 503, and is said again
        world.signals.tell(run.id)
        return True

    async def run_ended(self):
        run = await self.run()
        return run is not None and not run.state.open

    async def all_decided(self):
        return not await self.journal.undecided()

    async def engine_idle(self):
        return all(self.stage.lives.store.begun.values())

    async def nothing_left(self):
        return not (await self.journal.changes(left_behind=True)).items

    def calls(self):
        """What was meant to change the cluster since the story began."""
        entries = list(self.cluster.request_log)[self.calls_before :]
        return [entry for entry in entries if entry.mutating]

    async def reckon(self, state):
        """Raises AssertionError for whatever was lost, done twice, done to another, or told wrongly."""
        run = await self.run()
        assert run.state is state, run.detail
        assert [len(asked.answers) for asked in run.approvals] == ([1] if self.stage.asks else [])
        changes = [change for step in run.steps for change in step.changes]
        by_request = {change.request_id: change for change in changes}
        calls = self.calls()
        sent = Counter(call.audit_id for call in calls)
        assert set(sent) <= set(by_request), "a call without an intent on disk"
        assert set(sent.values()) <= {1}, "a call was sent twice for one intent"
        effective = Counter(e.body["preconditions"]["uid"] for e in calls if e.verb == "delete" and e.writes)
        replaced = {node: uid for node, uid in self.before.items() if self.agents()[node] != uid}
        assert replaced == ({self.node: self.before[self.node]} if state is RunState.HEALED else {})
        assert effective == Counter(replaced.values())
        node = self.cluster.get("Node", self.node)
        assert not node["spec"].get("unschedulable")
        assert "remediator.dev/cordoned-by" not in (node["metadata"].get("annotations") or {})
        cordons = [c for c in changes if c.action == "node.cordon" and not c.undoes and c.state is not ChangeState.ABSENT]
        assert [c.state for c in cordons] == ([ChangeState.UNDONE] if "Badly" in self.name else []), "an undo of ours is not told as one"
        decided = Counter(d.delivery for d in await self.decisions())
        assert {id_: decided[id_] for id_ in self.taken} == dict.fromkeys(self.taken, 1), "not one decision for each delivery"
        report = await self.journal.verify()
        assert report.ok, report.problems


SETTINGS = """
apiVersion: remediator.dev/v1
kind: Settings
server: {{listen: '127.0.0.1:0', insecure: true}}
store: {{url: 'sqlite:///journal.db'}}
playbooks: [playbooks]
modes: {{'*': auto}}
kubernetes: {{server: '{simulation.url}'}}
alertmanager: {{url: '{simulation.alertmanager_url}'}}
limits: {{disruptive_per_hour: 10000, max_disturbed: 100%, storm: {{episodes: 500}}, breaker: {{failures: 1000, runs: 10000}}}}
"""


@pytest.fixture
async def stage(playbook_texts, tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))  # a busy machine is no silent API server
    (tmp_path / "playbooks").mkdir()
    for index, text in enumerate(playbook_texts(patience="30m", hold="2s", every="1s", ready_for="2s")):
        (tmp_path / "playbooks" / f"{index}.yaml").write_text(text)
    async with Simulation(nodes=5, clock=FastClock(RATE)) as simulation:
        (tmp_path / "settings.yaml").write_text(SETTINGS.format(simulation=simulation))
        daemon = await Daemon.build(load_settings(tmp_path / "settings.yaml", env={}), clock=simulation.clock)
        try:
            yield Stage(simulation, Lives(daemon.world, monkeypatch))
        finally:
            await daemon.stop()


@pytest.fixture
def asking(stage):
    stage.asks = True
    stage.lives.world = replace(stage.lives.world, mode_of=lambda _: Mode.SUGGEST)
    return stage


STORIES = [
    pytest.param("AgentHung", False, RunState.HEALED, id="restart"),
    pytest.param("AgentHungBadly", False, RunState.HEALED, id="cordon, restart, undone when resolved"),
    pytest.param("AgentHungBadly", True, RunState.CANCELLED, id="cordon, restart refused, undone"),
]


async def one_story(stage, name, another, state, fates):
    """Die at each of ``fates`` that wants it, then live to the end. What is wrong at the end; empty if nothing."""
    story = stage.story(name, protected=another)
    try:
        for fate in [*fates, Fate()]:
            if await stage.lives.live(story.tell, fate):
                break
        await story.reckon(state)
    except (AssertionError, TimeoutError) as error:
        where = " and ".join(fate.passed[fate.at] for fate in fates if fate.happened)
        return f"{type(fates[0]).__name__} {where}: {type(error).__name__} {error}"
    return ""


async def at_every_point(stage, name, another, state, make, step=1):
    """What is wrong after a death or outage at every ``step``-th point, and how many of them there were."""
    wrong = []
    for count, at in enumerate(itertools.count(0, step)):
        fate = make(at)
        if fault := await one_story(stage, name, another, state, [fate]):
            wrong.append(fault)
        if not fate.happened or len(wrong) > 2:
            return wrong, count
    raise AssertionError("unreachable")


async def test_a_death_at_every_eleventh_point(stage):
    """Of the longest story; every point of each of them in the long tests."""
    wrong, deaths = await at_every_point(stage, *STORIES[1].values, Fate, step=11)
    assert wrong == []
    assert deaths >= 4


async def test_an_outage_of_the_journal_at_every_eleventh_point(stage):
    wrong, outages = await at_every_point(stage, *STORIES[1].values, lambda at: Outage(at, 1), step=11)
    assert wrong == []
    assert outages >= 3


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "another", "state"), STORIES)
async def test_a_death_at_every_point(stage, name, another, state):
    wrong, deaths = await at_every_point(stage, name, another, state, Fate, step=STEP)
    assert wrong == []
    assert deaths * STEP >= 40


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "another", "state"), STORIES)
async def test_several_deaths_in_one_story(stage, name, another, state):
    chance = random.Random(20260105)
    for _ in range(12):
        deaths = [chance.randrange(50) for _ in range(chance.randrange(2, 5))]
        assert await one_story(stage, name, another, state, [Fate(at) for at in deaths]) == "", deaths


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "another", "state"), STORIES)
async def test_an_outage_of_the_journal_at_every_point(stage, name, another, state):
    wrong, outages = await at_every_point(stage, name, another, state, lambda at: Outage(at, 1), step=STEP)
    assert wrong == []
    assert outages * STEP >= 30


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_longer_outage_of_the_journal(stage):
    wrong, outages = await at_every_point(stage, *STORIES[1].values, lambda at: Outage(at, 4), step=3)
    assert wrong == []
    assert outages >= 10


async def test_a_death_at_every_ninth_point_where_people_are_asked(asking):
    wrong, deaths = await at_every_point(asking, *STORIES[0].values, Fate, step=9)
    assert wrong == []
    assert deaths >= 5


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "another", "state"), STORIES)
async def test_a_death_at_every_point_where_people_are_asked(asking, name, another, state):
    wrong, deaths = await at_every_point(asking, name, another, state, Fate, step=STEP)
    assert wrong == []
    assert deaths * STEP >= 50


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_an_outage_of_the_journal_at_every_point_where_people_are_asked(asking):
    wrong, outages = await at_every_point(asking, *STORIES[0].values, lambda at: Outage(at, 1), step=STEP)
    assert wrong == []
    assert outages * STEP >= 30


class Deaf:
    """A Kubernetes door whose first DELETE takes effect without an answer, and that cannot be asked anything afterwards."""

    def __init__(self, kube):
        self._kube = kube
        self._cut = False

    def __getattr__(self, name):
        return getattr(self._kube, name)

    async def delete(self, *args, **kwargs):
        await self._kube.delete(*args, **kwargs)
        self._cut = True
        raise Unreachable("connection lost", call="DELETE", maybe_applied=True)

    async def get(self, *args, **kwargs):
        if self._cut:
            raise Unreachable("no route to host", call="GET")
        return await self._kube.get(*args, **kwargs)


async def test_what_nobody_could_tell_is_looked_at_again_after_a_death(stage, monkeypatch):
    """Dead between "nobody can say" and the end of the step: taken for absent, the call would be sent again, and hit the new agent."""
    monkeypatch.setattr("remediator.playbook.model.StepSpec.timeout_for", lambda *_: timedelta(minutes=2))
    story = stage.story("AgentHung", protected=False)
    well = stage.lives.world
    stage.lives.world = replace(well, kube=Deaf(well.kube))
    fate = Fate("before save_step Step unknown")
    assert not await stage.lives.live(story.tell, fate)
    run = await story.run()
    assert [change.state for change in run.steps[0].changes] == ["unknown"]
    stage.lives.world = well
    await stage.lives.live(story.tell, Fate())
    run = await story.run()
    assert [change.state for change in run.steps[0].changes] == ["kept"]
    deletes = [entry for entry in story.calls() if entry.verb == "delete"]
    assert [entry.body["preconditions"]["uid"] for entry in deletes] == [story.before[story.node]]
