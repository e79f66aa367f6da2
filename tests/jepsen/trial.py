"""A trial: three replicas of the daemon on one PostgreSQL and one simulated cluster, incidents that come to any of them, and a nemesis.

Everything is real but the cluster: processes, signals, sessions, connections. At the end all is mended, what is open has to end by itself,
and what happened is read (``record.py``). Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from jepsen.nemesis import LEADER, Strike
from jepsen.proxy import Proxy
from jepsen.record import Answer, Call, Entry, Limits, Record
from plugins.daemon import TOKENS
from plugins.processes import Program, free_ports

from remediator.clock import SystemClock, iso, parse_time
from remediator.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from plugins.postgres import Server
    from plugins.simulation import RunningSimulation

__all__ = ["Trial"]

LIMITS = Limits(runs=6, disruptive=5, nodes=5)
NODES = 10
LOOK = 0.25
REPEAT = (3.0, 6.0)
"""Seconds between two notifications about an alert that still fires, of few; of many each comes less often."""
FEW = 10
PATIENCE = 120.0
"""For what has to come about by itself once all is mended."""
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {{name: {name}}}
when:
  alerts: ['alertname="{alert}"']
  target: {{kind: Node, name: '${{alert.labels.node}}'}}
mode: auto
deadline: 6h
gates:
  attempts: {{max: 100, per: target, within: 1h}}
  cooldown: 100ms
  {gates}
on_failure: undo
on_resolved: undo
ladder:
- name: only
  steps: [{steps}]
verify:
  kube: {{kind: Node, fields: 'metadata.name=${{target.name}}'}}
  holds: size(objects) == 1
  within: 1h
  hold: 200ms
  every: 200ms
"""
CORDON = "{cordon: {action: node.cordon, timeout: 1h}}"
TAINT = "{taint: {action: node.taint, timeout: 1h, key: example.test/suspect, value: 'yes'}}"
RESTART = "{restart: {action: cilium.restart_agent, timeout: 1h, ready_for: 200ms}}"
PLAYBOOKS = (
    PLAYBOOK.format(name="mark", alert="NodeSuspect", gates="", steps=TAINT),
    PLAYBOOK.format(name="renew", alert="AgentSick", gates="recurrence: {stop_at: 100, within: 1h}", steps=f"{CORDON}, {RESTART}"),
)


class Replica:
    """One daemon with its own ways to the database and to the cluster."""

    def __init__(self, number: int, folder: Path, database: str, cluster: int) -> None:
        self.number = number
        self.name = f"replica-{number}"
        self.folder = folder / self.name
        self._database = database
        self.to_database = Proxy(int(database.rpartition("@")[2].partition(":")[2].partition("/")[0]))
        self.to_cluster = Proxy(cluster)
        (self.port,) = free_ports(1)
        self.program: Program | None = None
        self.wanted = True
        """False while it is to stay dead."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, settings: dict[str, Any]) -> None:
        (self.folder / "playbooks").mkdir(parents=True)
        for index, text in enumerate(PLAYBOOKS):
            (self.folder / "playbooks" / f"{index}.yaml").write_text(text)
        for name, token in TOKENS.items():
            (self.folder / name).write_text(token)
        head, _, tail = self._database.partition("@")
        cluster = f"http://127.0.0.1:{self.to_cluster.port}"
        document = {
            "apiVersion": "remediator.dev/v1",
            "kind": "Settings",
            "server": {"listen": f"127.0.0.1:{self.port}", **{f"{name}_token_file": name for name in TOKENS}},
            "store": {"url": f"{head}@127.0.0.1:{self.to_database.port}/{tail.partition('/')[2]}"},
            "kubernetes": {"server": cluster, "events": False},
            "alertmanager": {"url": f"{cluster}/alertmanager"},
            "playbooks": ["playbooks"],
            **settings,
        }
        (self.folder / "settings.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items()))

    def start(self) -> None:
        argv = [sys.executable, "-m", "remediator", "serve", "--config", "settings.yaml"]
        self.program = Program(argv, self.folder / "output.log", self.folder, env={**os.environ, "POD_NAME": self.name, "NODE_NAME": ""})

    def signal(self, number: signal.Signals) -> None:
        if self.program is not None and not self.program.ended:
            os.kill(self.program.pid, number)


@dataclass
class Incident:
    """One alert on one node, from its beginning to its resolution."""

    number: int
    name: str
    node: str
    starts_at: datetime
    """As Alertmanager has it."""
    lasts: float | None
    """Seconds after which it ends by itself; None: once its run has ended."""
    resolved_at: datetime | None = None

    @property
    def labels(self) -> dict[str, str]:
        return {"alertname": self.name, "node": self.node, "incident": str(self.number)}

    def alert(self) -> dict[str, Any]:
        ends = {"endsAt": iso(self.resolved_at)} if self.resolved_at else {}
        status = "resolved" if self.resolved_at else "firing"
        return {"status": status, "labels": self.labels, "annotations": {}, "startsAt": iso(self.starts_at), **ends}


@dataclass
class Trial:
    """``async with`` it: the replicas are up, and ended at the end. Then ``play``, and ``read``."""

    folder: Path
    server: Server
    database: str
    cluster: RunningSimulation
    seed: int
    replicas: list[Replica] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """What the nemesis did."""
    _ways: dict[int, str] = field(default_factory=dict)
    """The port of a connection to the cluster -> the replica by whose way it was made last."""
    states: dict[str, str] = field(default_factory=dict)
    """incident -> the state of its run"""

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _begin(self) -> None:
        self._chance = random.Random(self.seed)
        self._stack = contextlib.AsyncExitStack()
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)))
        self._first = await self._nodes()
        self._firing: dict[int, Incident] = {}
        port = int(self.cluster.url.rpartition(":")[2])
        for number in range(3):
            replica = Replica(number, self.folder, self.database, port)
            self.replicas.append(replica)
            replica.to_cluster.on_line = lambda port, name=replica.name: self._ways.update({port: name})
            self._stack.push_async_callback(replica.to_database.close)
            self._stack.push_async_callback(replica.to_cluster.close)
            await self._mend(replica)
            replica.configure(SETTINGS)
            replica.start()
        self._keep(self._supervise())
        self._keep(self._collect())
        self._keep(self._watch_runs())
        await self._until("somebody leads", self._leader)

    async def __aexit__(self, *_: object) -> None:
        for replica in self.replicas:
            replica.wanted = False
            replica.signal(signal.SIGCONT)
            if replica.program is not None and not replica.program.ended:
                await asyncio.to_thread(replica.program.kill)
        await self._stack.aclose()

    # --- what happens --------------------------------------------------------------------------------------------------

    async def play(self, strikes: Iterable[Strike], *, incidents: int, seconds: float) -> None:
        """Incidents over ``seconds`` with strikes among them; then all is mended, and everything has to come to its end."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for strike in strikes:
                group.create_task(self._at(began + strike.at, lambda strike=strike: self._strike(strike)))
            for one in [self._incident(number) for number in range(incidents)]:
                at = began + seconds * one[0] / incidents
                group.create_task(self._at(at, lambda one=one: self._suffer(*one)))
            group.create_task(self._at(began + seconds, self._heal))
        for replica in self.replicas:
            await self._until(f"{replica.name} is ready", lambda replica=replica: self._ready(replica))
        await self._until("everything is decided and over", self._over)

    async def _at(self, moment: float, what: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        await what()

    def _incident(self, number: int) -> tuple[int, str, str, float | None]:
        """Drawn before anything happens, in one order."""
        name = self._chance.choice(("NodeSuspect", "AgentSick"))
        lasts = self._chance.uniform(1, 20) if self._chance.random() < 0.2 else None
        return number, name, f"node-{self._chance.randint(2, NODES)}", lasts

    async def _suffer(self, number: int, name: str, node: str, lasts: float | None) -> None:
        """As Prometheus and Alertmanager would: it fires, is told again and again, and resolves once its run ended or by itself."""
        clock = await self._ask("GET", "/sim/clock")
        one = Incident(number, name, node, parse_time(clock["now"]).replace(microsecond=0), lasts)
        self._firing[number] = one
        await self._post(one)
        began = told = time.monotonic()
        await self._deliver([one])
        pause = self._pause()
        while not (self.states.get(str(number)) if lasts is None else time.monotonic() - began > lasts):
            await asyncio.sleep(LOOK)
            if time.monotonic() - told > pause:
                told, pause = time.monotonic(), self._pause()
                others = [other for other in self._firing.values() if other is not one]
                await self._deliver([one, *self._chance.sample(others, min(len(others), self._chance.randint(0, 2)))])
        del self._firing[number]
        one.resolved_at = parse_time((await self._ask("GET", "/sim/clock"))["now"])
        await self._post(one)
        await self._deliver([one])

    def _pause(self) -> float:
        return self._chance.uniform(*REPEAT) * max(1.0, len(self._firing) / FEW)

    async def _post(self, one: Incident) -> None:
        ends = one.resolved_at or one.starts_at + timedelta(days=30)
        await self._ask(
            "POST", "/alertmanager/api/v2/alerts", [{"labels": one.labels, "startsAt": iso(one.starts_at), "endsAt": iso(ends)}]
        )

    async def _deliver(self, incidents: list[Incident]) -> None:
        """To any replica, until one has said 200."""
        alerts = [one.alert() for one in incidents]
        status = "firing" if any(alert["status"] == "firing" for alert in alerts) else "resolved"
        body = {"version": "4", "status": status, "receiver": "remediator", "groupKey": "{}", "truncatedAlerts": 0, "alerts": alerts}
        while True:
            answer = await self._send(self._chance.choice(self.replicas), body)
            self.answers.append(answer)
            if answer.status == 200:
                return
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))

    async def _send(self, replica: Replica, body: dict[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {TOKENS['webhook']}"}
        try:
            async with self._session.post(f"{replica.url}/api/v1/alerts", json=body, headers=headers) as reply:
                told = await reply.json()
                if reply.status == 200:
                    return Answer(200, told["delivery"], told["alerts"])
                return Answer(reply.status, retry_after="Retry-After" in reply.headers)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer(0)

    # --- the nemesis ---------------------------------------------------------------------------------------------------

    async def _strike(self, strike: Strike) -> None:
        replica = self.replicas[await self._leader_number() if strike.replica == LEADER else strike.replica]
        self.told.append(f"{strike} -> {replica.name}")
        if strike.kind == "kill":
            replica.wanted = False
            replica.signal(signal.SIGKILL)
            await asyncio.sleep(strike.lasts)
            replica.wanted = True
        elif strike.kind == "pause":
            replica.signal(signal.SIGSTOP)
            await asyncio.sleep(strike.lasts)
            replica.signal(signal.SIGCONT)
        elif strike.kind == "sessions":
            ports = ", ".join(map(str, replica.to_database.lines)) or "0"
            with contextlib.suppress(Exception):  # the server may be down for another strike
                sql = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port IN ({ports})"
                await asyncio.to_thread(self.server.sql, sql)
        elif strike.kind == "database restarted":
            await self._restart_database(strike.lasts)
        else:
            proxy = replica.to_database if strike.kind.startswith("database") else replica.to_cluster
            if strike.kind.endswith("refused"):
                await proxy.refuse()
            else:
                proxy.swallow()
            await asyncio.sleep(strike.lasts)
            await proxy.open()

    async def _restart_database(self, lasts: float) -> None:
        how = self._chance.choice((signal.SIGINT, signal.SIGQUIT))
        await asyncio.to_thread(self.server.stop, how)
        await asyncio.sleep(lasts)
        self.server.start()  # in this thread: it dies with the one that started it

    async def _heal(self) -> None:
        for replica in self.replicas:
            replica.wanted = True
            replica.signal(signal.SIGCONT)
            await self._mend(replica)

    async def _mend(self, replica: Replica) -> None:
        await replica.to_database.open()
        await replica.to_cluster.open()

    async def _supervise(self) -> None:
        """As a kubelet: who ended is started again."""
        while True:
            await asyncio.sleep(0.5)
            for replica in self.replicas:
                if replica.wanted and replica.program is not None and replica.program.ended:
                    replica.start()

    # --- looking -------------------------------------------------------------------------------------------------------

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)

        async def end() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self._stack.push_async_callback(end)

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """Of the cluster, which is never in trouble."""
        async with self._session.request(method, self.cluster.url + path, json=body) as reply:
            assert reply.status < 300, f"{method} {path}: {await reply.text()}"
            text = await reply.read()
            return json.loads(text) if text.strip() else None

    async def _leader(self) -> str:
        try:
            lease = await self._ask("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/remediator")
        except AssertionError:
            return ""
        return str(lease["spec"].get("holderIdentity") or "")

    async def _leader_number(self) -> int:
        name = (await self._leader()).rpartition("_")[0]
        return next((replica.number for replica in self.replicas if replica.name == name), 0)

    async def _get(self, replica: Replica, path: str) -> Any:
        headers = {"Authorization": f"Bearer {TOKENS['read']}"}
        async with self._session.get(replica.url + path, headers=headers) as reply:
            return await reply.json() if reply.status == 200 else None

    async def _of_any(self, path: str) -> Any:
        for replica in self._chance.sample(self.replicas, len(self.replicas)):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                if (found := await self._get(replica, path)) is not None:
                    return found
        return None

    async def _ready(self, replica: Replica) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            return (await self._get(replica, "/api/v1/status"))["ready"]
        return False

    async def _watch_runs(self) -> None:
        """Which incident's run has ended, as people and Prometheus would see it."""
        while True:
            await asyncio.sleep(1)
            for run in ((await self._of_any("/api/v1/runs?limit=200")) or {"items": ()})["items"]:
                if run["ended_at"]:
                    self.states[run["alert"]["labels"]["incident"]] = run["state"]

    async def _over(self) -> bool:
        """Read where it is kept, whoever answers or not."""
        try:
            journal = await Journal.open(self.database, clock=SystemClock())
        except Exception as error:  # noqa: BLE001 - said by the wait if it lasts
            self.told.append(f"the database cannot be read: {error}")
            return False
        try:
            left = await journal.changes(left_behind=True)
            return not (await journal.undecided(1) or await journal.open_runs() or left.items)
        finally:
            await journal.close()

    async def _until(self, what: str, look: Callable[[], Awaitable[Any]]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await look():
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s\n{self.story()}"
            await asyncio.sleep(LOOK)

    def story(self) -> str:
        """For whoever looks for what went wrong."""
        ends = [f"{one.name}:\n{one.program.output()[-3000:]}" for one in self.replicas if one.program is not None]
        return "\n".join([f"seed {self.seed}", *self.told, *ends])

    # --- what is read --------------------------------------------------------------------------------------------------

    async def _collect(self) -> None:
        """The cluster keeps only the last calls, so they are fetched meanwhile."""
        while True:
            await self._fetch()
            await asyncio.sleep(2)

    async def _fetch(self) -> None:
        clock = await self._ask("GET", "/sim/clock")
        real, now = datetime.now(UTC), parse_time(clock["now"])
        after = max(self.calls, default=0)
        for item in (await self._ask("GET", f"/sim/requests?writes=1&service=kubernetes&after={after}"))["items"]:
            at = real - (now - parse_time(item["at"])) / clock["rate"]
            self.calls[item["seq"]] = _call(item, at, self._ways.get(item["peer"], ""))

    async def _nodes(self) -> dict[str, Any]:
        """What people see of them, but for what the cluster itself keeps up to date."""
        return {node["metadata"]["name"]: _outlined(node) for node in (await self._ask("GET", "/api/v1/nodes"))["items"]}

    async def read(self) -> Record:
        """Once all is over."""
        await self._fetch()
        journal = await Journal.open(self.database, clock=SystemClock())
        try:
            entries = [_entry(entry) async for entry in journal.export()]
            report = await journal.verify()
        finally:
            await journal.close()
        calls = tuple(self.calls[seq] for seq in sorted(self.calls))
        return Record(tuple(self.answers), calls, tuple(entries), LIMITS, tuple(report.problems), self._first, await self._nodes())


SETTINGS = {
    "election": {"enabled": True, "namespace": "kube-system"},
    "demotion": {"failures": 0},
    "limits": {
        "concurrent_runs": LIMITS.runs,
        "concurrent_disruptive": LIMITS.disruptive,
        "concurrent_per_zone": LIMITS.disruptive,
        "disruptive_per_hour": 10_000,
        "max_disturbed": LIMITS.nodes,
        "storm": {"episodes": 500, "within": "1s", "cooldown": "1s"},
        "breaker": {"failures": 1000, "runs": 10_000},
    },
}


def _entry(entry: Any) -> Entry:
    data = json.loads(bytes(entry.data))
    text = json.loads(entry.record) if entry.record is not None and entry.kind == "delivery" else None
    return Entry(entry.seq, entry.at, entry.kind, entry.ref, data, text)


def _call(item: dict[str, Any], at: datetime, sender: str) -> Call:
    body, holder, cordons = item["body"], None, None
    if item["resource"] == "leases.coordination.k8s.io" and item["name"] in ("", "remediator"):
        holder = body["spec"].get("holderIdentity", "")
    if item["resource"] == "nodes":
        cordons = _cordons(body)
    return Call(at, item["verb"], item["resource"], item["name"], item["audit_id"], sender, holder, cordons)


def _cordons(body: Any) -> bool | None:
    """What a patch of a node says of ``spec.unschedulable``; removed is as good as false."""
    if isinstance(body, list):
        said = [step for step in body if step["path"] == "/spec/unschedulable" and step["op"] != "test"]
        return bool(said[-1].get("value")) if said else None
    spec = (body or {}).get("spec") or {}
    return bool(spec["unschedulable"]) if "unschedulable" in spec else None


def _outlined(node: dict[str, Any]) -> Any:
    metadata, spec = node["metadata"], dict(node["spec"])
    taints = [taint for taint in spec.pop("taints", ()) if not taint["key"].startswith(("node.kubernetes.io/", "node.cilium.io/"))]
    return [metadata.get("labels"), metadata.get("annotations"), spec, taints]
