"""From the webhook's answer to the first call of the Kubernetes API that follows from it, one alert at a time: idle, and under load.

The API server is a stand-in in this process that notes when a request arrives; the webhook is posted from the same event loop, so both
times come from one clock. ``Look`` alerts name nodes that do not exist: the daemon asks the API server and refuses. ``Change`` alerts name
nodes that do, and a playbook cordons them: match, every gate (Alertmanager is asked too), the decision, the run's start and the intent
come before that call, each on disk. Beside the first call: a bare aiohttp client that asks the same server.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import load
from benchmarks.load import make_request
from benchmarks.processes import Daemon
from benchmarks.table import Row

__all__ = ["rows"]

LOOKS, CHANGES = 200, 40
LOAD = 50
"""Webhooks a second beside, of 10 alerts each."""
WARM_UP = 10
PAUSE = 0.02
"""Seconds between one alert's last call and the next alert, so that the daemon is idle again."""
DEADLINE = 10.0
AIM_P50, AIM_P99 = 10, 25
PLAYBOOKS = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: look}
when:
  alerts: [alertname="Look"]
  target: {kind: Node}
mode: auto
ladder:
- name: look
  steps:
  - look: {action: kube.get, kind: Node, name: "${target.name}"}
---
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: change}
when:
  alerts: [alertname="Change"]
  target: {kind: Node}
mode: auto
ladder:
- name: cordon
  steps:
  - cordon: {action: node.cordon}
"""
MORE = "playbooks: [playbooks.yaml]\nalertmanager: {{url: '{url}'}}"
MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


class StandIn:
    """An API server with every node whose name begins with ``known``, and an Alertmanager that holds one alert."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[str, str, float]] = asyncio.Queue()
        """Method, path, and when it arrived."""
        self.active: list[dict[str, Any]] = []

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        """Status and body; method and path are noted."""
        self.calls.put_nowait((method, path, time.perf_counter()))
        if path.startswith("/api/v2/alerts"):
            return 200, self.active
        if path.partition("?")[0].endswith("/selfsubjectaccessreviews"):
            return 201, {"status": {"allowed": True}}
        name = path.partition("?")[0].rpartition("/")[2]
        if not name.startswith("known"):
            return 404, MISSING
        metadata = {"name": name, "uid": f"uid-of-{name}", "resourceVersion": "1"}
        return 200, {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"unschedulable": method == "PATCH"}}

    async def called(self, method: str, ending: str) -> float:
        """When the next call of this method for a path of this ending arrived."""
        while True:
            seen, path, when = await self.calls.get()
            if seen == method and path.partition("?")[0].endswith(ending):
                return when


class Wire(asyncio.Protocol):
    """HTTP/1.1, as much as the stand-in needs."""

    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0] or 0)
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            method, path, _ = head.decode().split(" ", 2)
            status, thing = self.stand_in.answer(method, path)
            body = json.dumps(thing).encode()
            self.transport.write(
                b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
            )


class Sender(asyncio.Protocol):
    """Posts webhooks over one connection; each answer's status and time go into ``answers``."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.answers.put_nowait((data[9:12], time.perf_counter()))

    async def post(self, alert: dict[str, Any]) -> tuple[float, float]:
        """When it was sent and when it was answered."""
        sent = time.perf_counter()
        self.transport.write(make_request(_body(alert)))
        status, answered = await self.answers.get()
        if status != b"200":
            raise RuntimeError(f"the webhook was answered {status.decode()}")
        return sent, answered


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="reaction-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Row]:
    loop, stand_in = asyncio.get_running_loop(), StandIn()
    server = await loop.create_server(lambda: Wire(stand_in), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    (folder / "playbooks.yaml").write_text(PLAYBOOKS)
    with Daemon(folder, kubernetes=url, more=MORE.format(url=url)) as daemon:
        await asyncio.to_thread(daemon.wait_until_ready)
        await asyncio.sleep(1)
        _, sender = await loop.create_connection(Sender, "127.0.0.1", daemon.port)
        looks = [await _look(sender, stand_in, number) for number in range(WARM_UP + LOOKS)][WARM_UP:]
        changes = [await _change(sender, stand_in, daemon, number) for number in range(WARM_UP + CHANGES)][WARM_UP:]
        loaded = await _under_load(daemon, sender, stand_in)
    bare = await _bare(url, stand_in)
    server.close()
    answers, calls = [answered for answered, _ in looks], [called for _, called in looks]
    return [
        _row("answered -> first API call, p50", _part(calls, 0.5), _part(bare, 0.5), AIM_P50),
        _row("answered -> first API call, p99", _part(calls, 0.99), _part(bare, 0.99), AIM_P99),
        _row(f"under {LOAD} webhooks/s of others: answered -> first API call, p50", _part(loaded, 0.5), _part(calls, 0.5), idle=True),
        _row(f"under {LOAD} webhooks/s of others: answered -> first API call, p99", _part(loaded, 0.99), _part(calls, 0.99), idle=True),
        _row("webhook sent -> answered, p50", _part(answers, 0.5)),
        _row("webhook sent -> answered, p99", _part(answers, 0.99)),
        _row("answered -> first changing call, p50", _part(changes, 0.5)),
        _row("answered -> first changing call, slowest", max(changes) * 1000),
    ]


def _row(name: str, measured: float, beside: float | None = None, aim: float | None = None, *, idle: bool = False) -> Row:
    what = "" if beside is None else "idle" if idle else "bare aiohttp GET"
    return Row(name=name, measured=measured, unit="ms", beside=what, compared=beside, aim=aim)


def _part(times: list[float], part: float) -> float:
    """Milliseconds that this part of ``times`` (in seconds) does not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] * 1000


async def _look(sender: Sender, stand_in: StandIn, number: int) -> tuple[float, float]:
    """One alert about a node that is not there. Seconds from sending to the answer, and from there to the API call about the node."""
    node = f"missing-{number}"
    async with asyncio.timeout(DEADLINE):
        sent, answered = await sender.post(_alert("Look", node, number))
        called = await stand_in.called("GET", f"/nodes/{node}")
    await asyncio.sleep(PAUSE)
    return answered - sent, called - answered


async def _under_load(daemon: Daemon, sender: Sender, stand_in: StandIn) -> list[float]:
    """The same while webhooks that no playbook takes come in all the time, 10 alerts each. Seconds to the API call."""
    bodies = int(LOAD * (WARM_UP + LOOKS) * PAUSE * 4)
    with load.Generator() as generator:
        generator.prepare(first=1_000_000, bodies=bodies)
        sending = asyncio.create_task(
            asyncio.to_thread(generator.run, daemon.port, seconds=DEADLINE * 6, connections=4, requests=bodies, pace=1 / LOAD)
        )
        first = 1_000_000  # other alerts than those of an idle daemon
        found = []
        while not sending.done() and len(found) < WARM_UP + LOOKS:
            found.append((await _look(sender, stand_in, first + len(found)))[1])
        await sending
    return found[WARM_UP:] or found


async def _change(sender: Sender, stand_in: StandIn, daemon: Daemon, number: int) -> float:
    """One alert about a node that is there. Seconds from the answer to the call that cordons it; returns when the run has ended."""
    node = f"known-{number}"
    alert = _alert("Change", node, number)
    state = {"state": "active", "silencedBy": [], "inhibitedBy": []}
    stand_in.active = [{**{key: alert[key] for key in ("fingerprint", "startsAt", "labels")}, "status": state}]
    async with asyncio.timeout(DEADLINE):
        _, answered = await sender.post(alert)
        called = await stand_in.called("PATCH", f"/nodes/{node}")
        while daemon.ask("SELECT count(*) FROM run WHERE ended_at IS NOT NULL") <= number:  # noqa: ASYNC110 - it is another process's file
            await asyncio.sleep(PAUSE)
    return called - answered


def _alert(name: str, node: str, number: int) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": name, "node": node},
        "annotations": {"summary": f"{node} is to be looked at"},
        "startsAt": f"2026-01-05T10:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": f"{name.encode().hex():0>8}{number:08x}"[-16:],
    }


def _body(alert: dict[str, Any]) -> bytes:
    """Alertmanager's payload with this one alert."""
    payload = {
        "version": "4",
        "groupKey": f"{{}}:{{node={json.dumps(alert['labels']['node'])}}}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "remediator",
        "groupLabels": {},
        "commonLabels": alert["labels"],
        "commonAnnotations": alert["annotations"],
        "externalURL": "http://alertmanager.example.org",
        "alerts": [alert],
    }
    return json.dumps(payload, separators=(",", ":")).encode()


async def _bare(url: str, stand_in: StandIn) -> list[float]:
    """Seconds from asking with a bare client until the request arrived."""
    times = []
    async with aiohttp.ClientSession() as session:
        for number in range(LOOKS):
            began = time.perf_counter()
            async with session.get(f"{url}/api/v1/nodes/bare-{number}") as answer:
                await answer.read()
            times.append(await stand_in.called("GET", f"/bare-{number}") - began)
            await asyncio.sleep(PAUSE)
    return times
