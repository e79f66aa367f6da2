"""The harness of the crash tests: a story that is told to a daemon on a simulated cluster, through deaths at chosen boundaries.

The cluster and its Alertmanager live in this process, the daemon is a process of its own (mortal.py) and is started again when it died.
First a story is told without a death; that writes down every boundary. Then it is told once for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from recovery.checker import OPEN, Facts, complaints
from standins import prepared
from standins.forks import fork

from remediator.clock import FastClock, iso
from remediator.sim import Simulation
from remediator.sim.alerting.alert import Alert
from remediator.sim.cluster import Timing
from remediator.sim.objects import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from standins.forks import Child

RATE = 30
PATIENCE = 180.0
"""Real seconds for what takes two: the machine may be busy."""
SETTLING = 180.0
"""Real seconds for the cluster until it is as it should be."""
LOOK = 0.05
_AT_ONCE = 2
"""Stories told at the same time: they wait for one another's processor only a part of their time."""
_ENOUGH = 5
"""Complaints from which on no further story is begun."""
OTHER = "node-5"
ALERT = "Crash"
_PROMPT = Timing(
    pod_start=timedelta(seconds=1),
    agent_start=timedelta(seconds=1),
    agent_taint=timedelta(seconds=1),
    bgp_status=timedelta(seconds=2),
    bgp_connect=timedelta(seconds=1),
)
_MADE_BY_OTHERS = frozenset(
    ("Pod", "Event", "Lease", "Endpoints", "EndpointSlice", "ReplicaSet", "ControllerRevision", "CiliumNode", "CiliumEndpoint")
) | {"CiliumBGPNodeConfig"}
"""Kinds whose objects follow from others, or change all the time."""
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {{name: story, summary: A playbook of the crash tests}}
when:
  alerts: [alertname="{alert}"]
  target: {target}
mode: auto
deadline: 6h
gates:
  attempts: {{max: 2, per: target, within: 2d}}
  cooldown: 1d
on_failure: undo
on_resolved: undo
ladder:
- name: only
  steps: [{steps}]
verify:
  kube: {{kind: {kind}, fields: "metadata.name=${{target.name}}"}}
  holds: size(objects) == 1
  within: 3h
  hold: 1s
  every: 1s
"""


@dataclass(frozen=True)
class Plot:
    """What one story does."""

    steps: str
    """Of its only rung, as YAML."""
    undone: bool = False
    """Whether something is put back once the alert resolved."""
    node: str = "node-3"
    """Of the alert, and the target where ``name`` names no other."""
    kind: str = "Node"
    name: str = ""
    namespace: str = ""
    prepare: Callable[[Simulation], Awaitable[None]] | None = None
    files: tuple[tuple[str, str], ...] = ()
    """Beside the playbook: name and text."""

    def playbook(self) -> str:
        named = f", name: {self.name}, namespace: {self.namespace}" if self.name else ""
        inside = f", namespace: {self.namespace}" if self.name else ""
        return PLAYBOOK.format(alert=ALERT, target=f"{{kind: {self.kind}{named}}}", steps=self.steps, kind=f"{self.kind}{inside}")


@dataclass(frozen=True)
class Told:
    """How a story went."""

    complaints: tuple[str, ...]
    boundaries: tuple[str, ...]
    """Those that its first life passed."""
    died: bool
    facts: Facts


@dataclass
class Stories:
    """Tells them, each on a cluster, a store and a folder of its own."""

    folder: Path
    store: Callable[[], contextlib.AbstractContextManager[str]] | None = None
    """Makes a store of its own; a SQLite file where there is none."""
    count: int = field(default=0, init=False)

    async def tell_all(self, plot: Plot, boundaries: Sequence[str]) -> list[str]:
        """Once for each boundary, a few at a time; what was wrong, and where."""
        wrong: list[str] = []
        ways = asyncio.Semaphore(_AT_ONCE)

        async def one(at: str) -> None:
            async with ways:
                if len(wrong) > _ENOUGH:
                    return
                told = await self.tell(plot, at=at)
                wrong.extend(f"killed {at}: {complaint}" for complaint in told.complaints)
                if not told.died:
                    wrong.append(f"{at} was not reached")

        async with asyncio.TaskGroup() as group:
            for at in boundaries:
                group.create_task(one(at))
        return wrong

    async def tell(self, plot: Plot, *, at: str = "", faults: Sequence[str] = ()) -> Told:
        """``at``: the boundary at which the first life ends."""
        self.count += 1
        folder = self.folder / f"story-{self.count}"
        folder.mkdir()
        prepared.engine_beside(folder / "journal.db")
        with self.store() if self.store else contextlib.nullcontext("sqlite:///journal.db") as store:
            async with Story(folder, plot, store, at, faults) as story:
                told = await story.told()
        if not told.complaints:
            shutil.rmtree(folder)
        return told


class Story:
    """An alert fires, a run follows, the alert is repeated and resolves, what was changed goes back."""

    def __init__(self, folder: Path, plot: Plot, store: str, at: str, faults: Sequence[str]) -> None:
        self._folder, self._plot, self._store = folder, plot, store
        self._at, self._faults = at, faults
        self._stack = contextlib.AsyncExitStack()
        self._facts = Facts(taken={})
        self._lives = 0
        self._failure = ""
        self.url = f"http://127.0.0.1:{_free_port()}"

    async def __aenter__(self) -> Self:
        clock = FastClock(RATE)
        self._clock, self._origin, self._began = clock, time.monotonic(), clock.now()
        self._simulation = await self._stack.enter_async_context(Simulation(nodes=5, clock=clock, timing=_PROMPT))
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)))
        if self._plot.prepare:
            await self._plot.prepare(self._simulation)
        self._facts.first = self._shape()
        self._configure()
        self._alert = self._fire()
        self._daemon = self._live(self._at)
        keeper = asyncio.create_task(self._keep_alive())
        self._stack.push_async_callback(self._end, keeper)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def told(self) -> Told:
        try:
            await self._tell()
            found = complaints(self._facts)
        except AssertionError as error:
            found = [str(error)]
        if found:
            found.append(self._daemon.output()[-3000:])
        record = (self._folder / "life-1").read_text() if (self._folder / "life-1").exists() else ""
        return Told(tuple(found), tuple(record.splitlines()), self._lives > 1, self._facts)

    async def _tell(self) -> None:
        await self._deliver("firing")
        await self._until("the run ends", self._ended)
        await self._deliver("firing")  # Alertmanager repeats itself
        await self._until("all is decided", self._decided)
        await self._right()
        await self._deliver("resolved")
        await self._until("all is decided", self._decided)
        if self._plot.undone:
            await self._until("nothing is left behind", self._nothing_left)
        await self._until("the engine is through", self._engine_is_through)
        await self._right()

    # --- the process ---------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        (self._folder / "playbooks").mkdir()
        for name, text in (("story.yaml", self._plot.playbook()), *self._plot.files):
            (self._folder / "playbooks" / name).write_text(text)
        document = {
            "apiVersion": "remediator.dev/v1",
            "kind": "Settings",
            "server": {"listen": self.url.removeprefix("http://"), "insecure": True},
            "store": {"url": self._store},
            "playbooks": ["playbooks"],
            "modes": {"*": "auto"},
            "kubernetes": {"server": self._simulation.url, "events": False},  # aside from the run, so they would be boundaries by chance
            "alertmanager": {"url": self._simulation.alertmanager_url},
        }
        (self._folder / "settings.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items()))

    def _live(self, at: str) -> Child:
        self._lives += 1
        order = {
            "began": iso(self._began),
            "origin": self._origin,
            "rate": RATE,
            "record": f"life-{self._lives}",
            "at": at,
            "faults": list(self._faults),
        }
        return fork("recovery.mortal:main", "settings.yaml", json.dumps(order), output=self._folder / "daemon.log")

    async def _keep_alive(self) -> None:
        """What a kubelet does."""
        while True:
            await asyncio.sleep(LOOK)
            if self._daemon.status is None:
                continue
            if self._daemon.status != -9 or self._lives > 1:
                self._failure = f"the daemon ended with {self._daemon.status}"
                return
            self._daemon = self._live("")

    async def _end(self, keeper: asyncio.Task[None]) -> None:
        keeper.cancel()
        await asyncio.wait({keeper})
        await self._daemon.kill()

    # --- what happens --------------------------------------------------------------------------------------------------

    def _fire(self) -> Alert:
        now = self._clock.now()
        alert = Alert({"alertname": ALERT, "node": self._plot.node}, {}, now, now + timedelta(days=365), now)
        self._simulation.alertmanager.receive([alert])
        return alert

    async def _deliver(self, status: str) -> None:
        """As Alertmanager does: again until it is answered 200."""
        ends = {"endsAt": iso(self._clock.now())} if status == "resolved" else {}
        alert = {"status": status, "labels": self._alert.labels, "fingerprint": self._alert.fingerprint, **ends}
        alert["startsAt"] = iso(self._alert.starts_at)
        body = {"version": "4", "status": status, "receiver": "remediator", "groupKey": "{}", "truncatedAlerts": 0, "alerts": [alert]}

        async def post() -> Any:
            async with self._session.post(f"{self.url}/api/v1/alerts", json=body) as answer:
                told = await answer.json()
                assert answer.status in (200, 503), told
                return told if answer.status == 200 else None

        told = await self._until("a delivery is taken", post)
        self._facts.taken[told["delivery"]] = told["alerts"]

    async def _until(self, what: str, look: Callable[[], Awaitable[Any]], *, seconds: float = PATIENCE) -> Any:
        """The first truthy result of ``look``; while nobody lives it is asked again."""
        deadline = time.monotonic() + seconds
        while True:
            lives = self._lives
            try:
                found = await look()
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                found = None
            if found and lives == self._lives:
                return found
            assert not self._failure, self._failure
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
            await asyncio.sleep(LOOK)

    async def _get(self, path: str) -> Any:
        async with self._session.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def _items(self, path: str) -> list[dict[str, Any]]:
        page = await self._get(f"{path}{'&' if '?' in path else '?'}limit=500")
        assert page["next"] is None
        return list(page["items"])

    async def _ended(self) -> bool:
        runs = await self._items("/api/v1/runs")
        if self._lives > 1 and len(self._facts.while_open) == 0:
            await self._ask_while_open(runs)
        return bool(runs) and all(run["state"] not in OPEN for run in runs)

    async def _ask_while_open(self, runs: list[dict[str, Any]]) -> None:
        """After a restart: may another target have a run now? The answer counts if the run was open before and after it."""
        verdict = (await self._gates(OTHER))["concurrency"]
        still = {run["id"] for run in await self._items("/api/v1/runs") if run["state"] in OPEN}
        if any(run["id"] in still and run["disruptive"] for run in runs):
            self._facts.while_open.append(verdict)

    async def _gates(self, node: str) -> dict[str, dict[str, Any]]:
        async with self._session.post(f"{self.url}/api/v1/match", json={"labels": {**self._alert.labels, "node": node}}) as answer:
            assert answer.status == 200, await answer.text()
            return {verdict["gate"]: verdict for verdict in (await answer.json())["gates"]}

    async def _decided(self) -> bool:
        """Everything that is on disk."""
        return all(delivery["decided_at"] for delivery in await self._items("/api/v1/deliveries"))

    async def _nothing_left(self) -> bool:
        return not await self._items("/api/v1/changes?left_behind=true")

    async def _engine_is_through(self) -> bool:
        """The last boundary of a life comes after all that can be seen from outside: wait for it, or for the death there."""
        if self._lives > 1:
            return True
        passed = (self._folder / "life-1").read_text().splitlines()
        starts, ends = ("after the engine kept the start of", "after the engine kept the end of")
        return sum(line.startswith(starts) for line in passed) == sum(line.startswith(ends) for line in passed)

    # --- the reckoning -------------------------------------------------------------------------------------------------

    async def _right(self) -> None:
        """What has to be true is. The cluster gets the time to settle: agents come back, taints go."""

        async def look() -> bool:
            await self._gather()
            return not complaints(self._facts)

        try:
            await self._until("it can be asked", self._gather)
            await self._until("all is as it should be", look, seconds=SETTLING)
        except AssertionError as error:
            raise AssertionError("; ".join(complaints(self._facts)) or str(error)) from None

    async def _gather(self) -> bool:
        facts = self._facts
        facts.deliveries = await self._items("/api/v1/deliveries")
        facts.decisions = await self._items("/api/v1/decisions")
        facts.runs = await self._items("/api/v1/runs")
        facts.left = await self._items("/api/v1/changes?left_behind=true")
        facts.changes = facts.left + await self._items("/api/v1/changes?left_behind=false")
        facts.chain = await self._get("/api/v1/journal/verify")
        facts.gates = await self._gates(self._plot.node)
        facts.in_flight = await self._gauge()
        facts.log = [entry for entry in self._simulation.cluster.request_log if entry.service == "kubernetes"]
        facts.silences = [(comment, over) for comment, over, _ in self._silences()]
        facts.now = self._shape()
        return True

    async def _gauge(self) -> float:
        async with self._session.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("remediator_runs_in_flight{"))

    def _shape(self) -> dict[str, Any]:
        """What people would see of the cluster's objects, without what others keep up to date."""
        cluster = self._simulation.cluster
        kinds = {resource.kind for resource in cluster.kinds.all() if not resource.shared_with} - _MADE_BY_OTHERS
        objects = {
            "/".join((kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])): _outlined(obj)
            for kind in sorted(kinds)
            for obj in cluster.objects(kind)
        }
        return objects | {f"Silence//{run}": comment.encode() for comment, over, run in self._silences() if not over}

    def _silences(self) -> list[tuple[str, bool, str]]:
        """Comment, whether it is over, and the run that made it."""
        now = self._clock.now()
        found = self._simulation.alertmanager.silences.values()
        return [(s.comment, s.state(now) == "expired", s.comment.partition("remediator run ")[2].partition(",")[0]) for s in found]


def _outlined(obj: dict[str, Any]) -> bytes:
    metadata, spec = obj["metadata"], dict(obj.get("spec") or {})
    taints = [taint for taint in spec.pop("taints", ()) if not taint["key"].startswith(("node.kubernetes.io/", "node.cilium.io/"))]
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if not name.startswith("deployment.")}
    rest = {name: value for name, value in obj.items() if name not in ("metadata", "spec", "status")}
    return encode([metadata.get("labels"), annotations, spec, taints, rest])


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
