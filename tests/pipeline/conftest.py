"""The pipeline in this process: bodies go in as Alertmanager sends them, decisions and runs come out of a real journal.

``decider`` is match and gate alone; ``line`` is everything, with the real engine, on the simulated cluster and a fast clock.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from datetime import timedelta
from functools import partial
from types import MappingProxyType

import aiohttp
import pytest
import structlog
from standins import prepared

from remediator import facts, telemetry
from remediator.beginnings import Beginnings
from remediator.daemon import Daemon
from remediator.decide import Decider
from remediator.episodes import Episodes
from remediator.feed import Feed
from remediator.inbox import Portion
from remediator.model import new_id
from remediator.payload import Limits
from remediator.pipeline import Pipeline
from remediator.playbook import Library
from remediator.receive import parse_delivery
from remediator.settings import load_settings
from remediator.signals import Signals
from remediator.sim.alerting.alert import Alert as SimulatedAlert
from remediator.sim.prometheus.series import Sample

LIMITS = Limits()
A_DAY = timedelta(days=1)


def playbook_text(name="remedy", *, alert="Symptom", steps=None, ladder=None, verify="symptom", mode="auto", kind="Node", **more):
    """A playbook as JSON, which is YAML. ``steps`` is a ladder of one rung; ``verify`` "symptom" looks at the test's own metric."""
    rungs = ladder if ladder is not None else [steps or [{"settle": {"action": "wait", "for": "1s"}}]]
    if verify == "symptom":
        verify = {"query": 'symptom{node="${target.name}"} == 0', "within": "40s", "hold": "10s", "every": "2s"}
    document = {
        "apiVersion": "remediator.dev/v1",
        "kind": "Playbook",
        "metadata": {"name": name},
        "mode": mode,
        "ladder": [{"name": f"rung {number}", "steps": rung} for number, rung in enumerate(rungs)],
        **({"when": {"alerts": [f'alertname="{alert}"'], "target": {"kind": kind}}} if alert else {}),
        **({"verify": verify} if verify else {}),
        **more,
    }
    return json.dumps(document)


def body(*alerts, truncated=0, **more):
    """A webhook call of Alertmanager."""
    firing = any(alert["status"] == "firing" for alert in alerts)
    payload = {
        "version": "4",
        "receiver": "remediator",
        "status": "firing" if firing else "resolved",
        "groupKey": "{}:{}",
        "truncatedAlerts": truncated,
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.test",
        "alerts": list(alerts),
        **more,
    }
    return json.dumps(payload).encode()


class Symptom:
    """The metric ``symptom{node=...}``: 1 while the node has it. What cures it is up to the test."""

    def __init__(self, stage):
        self._stage = stage
        self._has = dict.fromkeys(stage.cluster.node_names(), True)
        self.cured = lambda node: not self._has[node]
        self.told = True
        """False: nobody exposes it any more."""
        self._prometheus = stage.simulation.prometheus
        self._prometheus.extra.append(self._samples)
        self._answer, self._prometheus._route = self._prometheus._route, self._scraped_just_now

    def set(self, node, has):
        self._has[node] = has

    def _scraped_just_now(self, path, form):
        """So that no test waits for the next scrape, or fails because that came late on a busy machine."""
        if self._prometheus.scraping:
            self._prometheus.scrape_once()
        return self._answer(path, form)

    def _samples(self):
        nodes = self._stage.cluster.node_names() if self.told else ()
        return [Sample("symptom", {"node": node}, float(not self.cured(node))) for node in nodes]


GATE = {"gate": {"action": "kube.get", "kind": "ConfigMap", "namespace": "default", "name": "gate"}}
"""A step that goes on when the test opens the gate."""


class Gated:
    """The door to Kubernetes; whoever asks for the object ``gate`` waits until it is opened."""

    def __init__(self, kube):
        self._kube = kube
        self.gate = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._kube, name)

    async def get(self, kind, name, *args, **more):
        if name == "gate":
            await self.gate.wait()
        return await self._kube.get(kind, name, *args, **more)


def leap(clock, **duration):
    """Time passes at once. Whoever sleeps goes on sleeping, and finds that it is late when it wakes."""
    clock._start += timedelta(**duration)


class Outside:
    """What the world outside does: Alertmanager fires and resolves."""

    def __init__(self, stage):
        self._stage = stage
        self._alertmanager = stage.simulation.alertmanager

    def fire(self, name="Symptom", *, node="node-3", since=None, known=True, **labels):
        """An alert begins to fire; as an element of the webhook's ``alerts``. ``known``: whether Alertmanager's API shows it too."""
        now = self._stage.world.clock.now()
        where = {"node": node} if node else {}
        labels = {"alertname": name, "severity": "critical", **where, **labels}
        alert = SimulatedAlert(labels, {}, since or now, now + A_DAY, now)
        if known:
            self._alertmanager.receive([alert])
        return alert.webhook(now)

    def resolve(self, alert):
        """That alert ends."""
        now = self._stage.world.clock.now()
        started = self._alertmanager.alerts.get(alert["fingerprint"])
        start = started.starts_at if started is not None else now - timedelta(minutes=1)
        ended = SimulatedAlert(alert["labels"], {}, start, now, now)
        self._alertmanager.receive([ended])
        return {**ended.webhook(now), "startsAt": alert["startsAt"]}


class Deciding:
    """Match and gate alone: deliveries in, decisions out; the runs that follow are only written down."""

    def __init__(self, stage):
        self.stage = stage
        self.world = stage.world
        self.decider = Decider(stage.world, Episodes())
        self.runs = []

    def load(self, *texts):
        self.world.library = Library(tuple(self.world.load_revision(text) for text in texts))

    async def stored(self, *alerts, **more):
        now = self.world.clock.now()
        delivery = parse_delivery(body(*alerts, **more), id=new_id(now), at=now, sender="10.0.0.7", limits=LIMITS)
        await self.world.journal.add_delivery(delivery)
        return delivery

    async def decide(self, *alerts, again=False, **more):
        """The decisions on one delivery of these alerts, in the order of the alerts."""
        delivery = await self.stored(*alerts, **more)
        return await self.decide_stored(delivery, again=again)

    async def decide_stored(self, delivery, *, again=False):
        assert await self.decider.portions([Portion.whole(delivery, again=again)]) == 1
        self.runs = self.decider.runs_to_begin()
        return await self.decisions(delivery)

    async def decisions(self, delivery):
        page = await self.world.journal.decisions(delivery=delivery.id, limit=5000)
        entries = await self.world.journal.entries(kind="decision", limit=5000)
        order = {entry.ref: entry.seq for entry in entries}
        return sorted(page.items, key=lambda decision: order.get(decision.id, 0))

    async def episode(self, alert):
        page = await self.world.journal.episodes(open_only=False, fingerprint=alert["fingerprint"])
        return page.items[0]

    async def restart(self):
        """As a new process that reads the journal."""
        page = await self.world.journal.episodes(open_only=False, limit=5000)
        self.world.beginnings = Beginnings()
        self.decider = Decider(self.world, Episodes(reversed(page.items)))


class Line:
    """The whole pipeline: receive, match, gate, run, verify, undo, record."""

    def __init__(self, stage, store):
        self.stage = stage
        self.world = stage.world
        self.journal = stage.world.journal
        """For the tests' own looks, whatever the pipeline is given."""
        self.outside = Outside(stage)
        self.store = store
        self.pipeline = None
        stage.world.kube = Gated(stage.world.kube)
        self.gate = stage.world.kube.gate

    def load(self, *texts):
        self.world.library = Library(tuple(self.world.load_revision(text) for text in texts))

    async def start(self):
        self.pipeline = Pipeline(self.world, self.store)
        await self.pipeline.start()

    async def stop(self):
        if self.pipeline is not None:
            pipeline, self.pipeline = self.pipeline, None
            await pipeline.stop(timedelta(seconds=10))

    async def restart(self):
        """A new pipeline on the same journal, with nothing in memory."""
        await self.stop()
        self.world.feed, self.world.signals = Feed(), Signals()
        await self.start()

    async def deliver(self, *alerts, **more):
        return await self.pipeline.receive(body(*alerts, **more), sender="10.0.0.7", limits=LIMITS)

    async def decided(self, delivery):
        """Its decisions, once there are all of them."""
        journal = self.journal

        async def look():
            stored = await journal.delivery(delivery.id)
            return stored is not None and stored.decided_at is not None

        await self.until(look, "the delivery is decided")
        return (await journal.decisions(delivery=delivery.id, limit=5000)).items

    async def run_of(self, *alerts, **more):
        """The id of the one run that these alerts lead to."""
        decisions = await self.decided(await self.deliver(*alerts, **more))
        runs = [decision.run for decision in decisions if decision.decision == "run"]
        assert len(runs) == 1, [(decision.decision, decision.detail) for decision in decisions]
        return runs[0]

    async def when(self, run, look, what="what was waited for"):
        """The run as soon as ``look`` says yes to it. The feed wakes whoever waits, so nothing sleeps."""
        seen = 0
        deadline = time.monotonic() + 60
        while True:
            seen = self.world.feed.version(run)
            stored = await self.journal.run(run)
            if stored is not None and look(stored):
                return stored
            assert time.monotonic() < deadline, f"{what}: not within a minute; the run is {stored}"
            await self._next_change(run, seen)

    async def _next_change(self, run, seen):
        try:
            async with asyncio.timeout(0.5):
                await self.world.feed.next_change(run, seen)
        except TimeoutError:
            pass  # looked at again; the caller's deadline ends it

    async def ended(self, run):
        return await self.when(run, lambda stored: not stored.state.open, "the run's end")

    async def step_begins(self, run, name):
        """Wait until the step is on its way."""
        return await self.when(run, lambda r: any(s.name == name and s.state == "running" for s in r.steps), f"the step {name}")

    @staticmethod
    def counted(metric, **labels):
        """What a metric stands at; it goes on over tests, so compare."""
        return telemetry.METRICS.registry.get_sample_value(metric, labels) or 0

    async def until(self, look, what="it", *, seconds=100, every=1):
        return await until(self.world.clock, look, what, seconds=seconds, every=every)


@pytest.fixture(autouse=True)
def logged():
    """Every log entry of the test; nothing is printed."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def text():
    return playbook_text


@pytest.fixture
def gate():
    return GATE


@pytest.fixture
def gated():
    return Gated


@pytest.fixture
def later(stage):
    """``later(minutes=5)``: so much time has passed."""
    return partial(leap, stage.world.clock)


@pytest.fixture
def symptom(stage):
    return Symptom(stage)


@pytest.fixture
def outside(stage):
    return Outside(stage)


@pytest.fixture
def unhurried(monkeypatch):
    """A busy machine is no hanging system: facts may take longer than in production, except where that is what is tested."""
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


@pytest.fixture
def deciding(stage, unhurried):
    return Deciding(stage)


@pytest.fixture
async def line(stage, tmp_path, unhurried):
    prepared.engine_beside(tmp_path / "stage.db")
    line = Line(stage, f"sqlite:///{tmp_path}/stage.db")
    yield line
    await line.stop()


class House:
    """A whole daemon in this process, on the simulated cluster, with its files in a folder."""

    TOKENS = MappingProxyType({name: f"the-{name}-token-is-a-secret-{n}" for n, name in enumerate(("webhook", "read", "write", "door"))})

    def __init__(self, stage, folder):
        self.stage, self.folder = stage, folder
        self.outside = Outside(stage)
        self.daemon = None
        for name, token in self.TOKENS.items():
            (folder / name).write_text(token)
        (folder / "playbooks").mkdir()

    def put(self, name, text):
        (self.folder / "playbooks" / name).write_text(text)

    async def start(self, **settings):
        door = {"token_file": "door"}
        document = {
            "apiVersion": "remediator.dev/v1",
            "kind": "Settings",
            "server": {"listen": "127.0.0.1:0", **{f"{name}_token_file": name for name in ("webhook", "read", "write")}},
            "store": {"url": "sqlite:///remediator.db"},
            "playbooks": ["playbooks"],
            "kubernetes": {"server": self.stage.simulation.url},
            "prometheus": {"url": self.stage.simulation.prometheus_url, "max_age": "5m", **door},
            "alertmanager": {"url": self.stage.simulation.alertmanager_url, **door},
            **settings,
        }
        (self.folder / "settings.yaml").write_text(json.dumps(document))
        self.daemon = await Daemon.build(load_settings(self.folder / "settings.yaml", {}), clock=self.stage.world.clock)
        await self.daemon.start()
        return self.daemon

    async def watching(self):
        """Until the watch on the playbooks has begun, which it does in its task's first turn."""
        await asyncio.sleep(0)

    async def stop(self):
        if self.daemon is not None:
            daemon, self.daemon = self.daemon, None
            await daemon.stop()

    @property
    def operations(self):
        return self.daemon.operations

    @property
    def journal(self):
        return self.daemon.world.journal

    async def http(self, method, path, data=None, *, token="write"):
        """Status and JSON (or text)."""
        headers = {"Authorization": f"Bearer {self.TOKENS.get(token, token)}", "Content-Type": "application/json"}
        payload = data if isinstance(data, bytes) else None if data is None else json.dumps(data).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.daemon.url + path, data=payload, headers=headers) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def until(self, look, what="it", *, seconds=100):
        return await until(self.stage.world.clock, look, what, seconds=seconds)

    async def ended(self, run):
        async def over():
            stored = await self.journal.run(run)
            return stored if stored is not None and not stored.state.open else None

        return await self.until(over, "the run's end")


async def until(clock, look, what, *, seconds=100, every=1):
    """The first truthy result of ``look``; bounded in real time, polled on the fast clock."""
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await clock.sleep(timedelta(seconds=every))
    return found


@pytest.fixture
async def house(stage, tmp_path, unhurried, monkeypatch):
    """``house.log`` is what the daemon logs, as text."""
    folder = tmp_path / "house"
    folder.mkdir()
    prepared.engine_beside(folder / "remediator.db")
    house = House(stage, folder)
    house.log = io.StringIO()
    monkeypatch.setattr(telemetry, "_given", {"stream": house.log, "json": True})
    yield house
    await house.stop()
