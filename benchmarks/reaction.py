"""From the webhook's answer to the first call of the Kubernetes API that follows from it, with an idle daemon, one alert at a time.

The API server is a stand-in in this process that notes when a request arrives; the webhook is posted from the same event loop, so both
times come from one clock. Each alert names a node that does not exist: the daemon asks the API server for it and refuses. Beside it: a
bare aiohttp client that asks the same server.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.load import make_request
from benchmarks.processes import Daemon
from benchmarks.table import Row

__all__ = ["rows"]

ALERTS = 200
WARM_UP = 10
PAUSE = 0.02
"""Seconds between one alert's last sign of life and the next, so that the daemon is idle again."""
DEADLINE = 10.0
AIM_P50, AIM_P99 = 10, 25
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: reaction}
when:
  alerts: [alertname="Reaction"]
  target: {kind: Node}
mode: auto
ladder:
- name: look
  steps:
  - look: {action: kube.get, kind: Node, name: "${target.name}"}
"""
MISSING = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}).encode()
ANSWER = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(MISSING), MISSING)


class StandIn(asyncio.Protocol):
    """Knows no object; tells who waits when somebody asks for one."""

    asked: asyncio.Queue[tuple[str, float]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:  # only GETs come, which have no body
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.asked.put_nowait((head.split(b" ", 2)[1].decode(), now))
            self.transport.write(ANSWER)


class Sender(asyncio.Protocol):
    """Posts webhooks over one connection; each answer's time goes into ``answered``."""

    def __init__(self) -> None:
        self.answered: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.answered.put_nowait((data[9:12], time.perf_counter()))


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="reaction-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Row]:
    loop = asyncio.get_running_loop()
    StandIn.asked = asyncio.Queue()
    server = await loop.create_server(StandIn, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    (folder / "playbook.yaml").write_text(PLAYBOOK)
    with Daemon(folder, kubernetes=url, more="playbooks: [playbook.yaml]") as daemon:
        await asyncio.to_thread(daemon.wait_until_ready)
        await asyncio.sleep(1)
        _, sender = await loop.create_connection(Sender, "127.0.0.1", daemon.port)
        times = [await _react(sender, number) for number in range(WARM_UP + ALERTS)][WARM_UP:]
    bare = await _bare(url)
    server.close()
    reactions, answers = sorted(t[0] for t in times), sorted(t[1] for t in times)
    return [
        _row("answered -> first API call, p50", _part(reactions, 0.5), _part(bare, 0.5), AIM_P50),
        _row("answered -> first API call, p99", _part(reactions, 0.99), _part(bare, 0.99), AIM_P99),
        _row("webhook sent -> answered, p50", _part(answers, 0.5)),
        _row("webhook sent -> answered, p99", _part(answers, 0.99)),
    ]


def _row(name: str, measured: float, bare: float | None = None, aim: float | None = None) -> Row:
    beside = "" if bare is None else "bare aiohttp GET"
    return Row(name=name, measured=measured, unit="ms", beside=beside, compared=bare, aim=aim)


def _part(times: list[float], part: float) -> float:
    """Milliseconds that this part of ``times`` (sorted, in seconds) does not exceed."""
    return times[min(len(times) - 1, int(len(times) * part))] * 1000


async def _react(sender: Sender, number: int) -> tuple[float, float]:
    """Post one alert. Seconds from its answer to the API call about its node, and from sending to the answer."""
    node = f"node-{number}"
    request = make_request(_body(node, number))
    sent = time.perf_counter()
    sender.transport.write(request)
    async with asyncio.timeout(DEADLINE):
        status, answered = await sender.answered.get()
        if status != b"200":
            raise RuntimeError(f"the webhook was answered {status.decode()}")
        while True:
            path, asked = await StandIn.asked.get()
            if path.partition("?")[0].endswith(f"/nodes/{node}"):
                break
    await asyncio.sleep(PAUSE)
    return asked - answered, answered - sent


def _body(node: str, number: int) -> bytes:
    alert = {
        "status": "firing",
        "labels": {"alertname": "Reaction", "node": node},
        "annotations": {"summary": f"{node} is to be looked at"},
        "startsAt": f"2026-01-05T10:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": f"{number:016x}",
    }
    payload = {
        "version": "4",
        "groupKey": f'{{}}:{{node="{node}"}}',
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


async def _bare(url: str) -> list[float]:
    """Seconds, sorted, from asking with a bare client until the request arrived."""
    times = []
    async with aiohttp.ClientSession() as session:
        for number in range(ALERTS):
            began = time.perf_counter()
            async with session.get(f"{url}/api/v1/nodes/bare-{number}") as answer:
                await answer.read()
            while True:
                path, asked = StandIn.asked.get_nowait()
                if path.endswith(f"bare-{number}"):
                    break
            times.append(asked - began)
            await asyncio.sleep(PAUSE)
    return sorted(times)
