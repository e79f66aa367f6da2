"""The load generator, a process of its own: keeps many webhooks under way at once, and says what was answered.

Bodies are Alertmanager's payload v4 with 10 alerts, about 5 KB; body N has alerts that no other body has. They are sent in turn, from
the first again after the last. ``python -m benchmarks.load`` takes orders as lines of JSON and answers each with one: seconds, statuses,
latencies (in seconds) and the ids of the deliveries answered 200.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from benchmarks.processes import ROOT, TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALERTS", "Generator", "make_body", "make_request"]

ALERTS = 10
"""In each body."""


NAMES = ("CiliumNodeLatencyHigh",)


def make_body(number: int, nodes: int = 50, names: Sequence[str] = NAMES) -> bytes:
    """Alertmanager's payload v4 with 10 alerts about as many of ``nodes``, about 5 KB; all of one of ``names``, which take turns."""
    alertname = names[number % len(names)]
    alerts = [
        {
            "status": "firing",
            "labels": {
                "alertname": alertname,
                "node": _node(number, i, nodes),
                "severity": "critical",
                "instance": f"10.0.{number % 250}.{i}:9962",
                "job": "cilium-agent",
                "namespace": "kube-system",
            },
            "annotations": {
                "summary": f"Node latency on {_node(number, i, nodes)} is {number * 7 % 97}.{i} ms",
                "runbook_url": "https://runbooks.example.org/cilium-node-latency",
            },
            "startsAt": f"2026-01-05T10:{number % 60:02d}:{i:02d}.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.org/graph?g0.expr=cilium_latency_seconds+%3E+0.02&g0.tab=1",
            "fingerprint": f"{number * ALERTS + i:016x}",
        }
        for i in range(ALERTS)
    ]
    payload = {
        "version": "4",
        "groupKey": f'{{}}/{{severity="critical"}}:{{alertname="{alertname}"}}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "remediator",
        "groupLabels": {"alertname": alertname},
        "commonLabels": {"alertname": alertname, "severity": "critical"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org",
        "alerts": alerts,
    }
    return json.dumps(payload, separators=(",", ":")).encode()


def _node(number: int, index: int, nodes: int) -> str:
    """Numbered from 1, as the simulated cluster does."""
    return f"node-{(number * ALERTS + index) % nodes + 1}"


def make_request(body: bytes) -> bytes:
    """The webhook call as it goes over the wire."""
    head = (
        "POST /api/v1/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Alertmanager/0.28.1\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way; bare, so that the generator costs little."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        early = self.load.early()
        if early > 0:
            asyncio.get_running_loop().call_later(early, self.send)
            return
        request = self.load.next_request()
        if request is None:
            self.load.finished(self)
            return
        self.sent = time.perf_counter()
        self.transport.write(request)  # type: ignore[attr-defined]  # it is a TCP transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self.buffer.lower().find(b"content-length:") + 15
        length = int(self.buffer[start : self.buffer.find(b"\r", start)])
        if len(self.buffer) < end + 4 + length:
            return
        self.load.answered(self.buffer[9:12], self.buffer[end + 4 :], time.perf_counter() - self.sent)
        self.buffer = b""
        self.send()

    def connection_lost(self, _: Exception | None) -> None:
        self.load.finished(self)


class Load:
    """Keeps requests under way on every connection until the time or the number of requests is used up."""

    def __init__(self, requests: list[bytes], seconds: float, limit: int, pace: float = 0.0) -> None:
        self.requests, self.seconds, self.limit, self.pace = requests, seconds, limit, pace
        self.count = 0
        self.began = 0.0
        self.statuses: dict[str, int] = {}
        self.latencies: list[float] = []
        self.ids: list[str] = []
        self.times: list[float] = []
        """When each of ``ids`` was answered, by the clock of the machine that all of its processes share."""
        self.open: set[Connection] = set()
        self.done = asyncio.Event()

    def early(self) -> float:
        """Seconds until the next request is due; what waits for its turn may be several connections, of which the first takes it."""
        return self.began + self.count * self.pace - time.perf_counter() if self.count < self.limit else 0.0

    def next_request(self) -> bytes | None:
        if self.count >= self.limit or time.perf_counter() >= self.until:
            return None
        self.count += 1
        return self.requests[(self.count - 1) % len(self.requests)]

    def answered(self, status: bytes, body: bytes, latency: float) -> None:
        name = status.decode()
        self.statuses[name] = self.statuses.get(name, 0) + 1
        if name == "200":
            self.latencies.append(latency)
            self.ids.append(json.loads(body)["delivery"])
            self.times.append(time.perf_counter())

    def finished(self, connection: Connection) -> None:
        self.open.discard(connection)
        if not self.open:
            self.done.set()

    async def run(self, port: int, connections: int) -> dict[str, Any]:
        began = self.began = time.perf_counter()
        self.until = began + self.seconds
        loop = asyncio.get_running_loop()
        self.open = {Connection(self) for _ in range(connections)}
        for connection in list(self.open):
            await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)
        await asyncio.wait_for(self.done.wait(), self.seconds + 30)
        took = time.perf_counter() - began
        return {"seconds": took, "statuses": self.statuses, "latencies": self.latencies, "ids": self.ids, "times": self.times}


class Generator:
    """The process, ready to load one server after the other. As ``with``."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def prepare(self, *, first: int = 0, bodies: int = 512, nodes: int = 50, names: Sequence[str] = NAMES) -> None:
        """Make the bodies ``first`` and so on; returns when they are made."""
        self._ask({"first": first, "bodies": bodies, "nodes": nodes, "names": list(names)})

    def run(self, port: int, *, seconds: float, connections: int = 64, requests: int = 200_000, pace: float = 0.0) -> dict[str, Any]:
        """Load the server on ``port``: no request begins after ``seconds``, at most ``requests`` of them. What was seen.

        ``pace``: seconds from the beginning of one request to that of the next, at least.
        """
        return self._ask({"port": port, "seconds": seconds, "connections": connections, "requests": requests, "pace": pace})

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))


def main() -> None:
    requests: list[bytes] = []
    for line in sys.stdin:
        order = json.loads(line)
        seen: dict[str, Any] = {}
        if "port" in order:
            load = Load(requests, order["seconds"], order["requests"], order["pace"])
            seen = asyncio.run(load.run(order["port"], order["connections"]))
        else:
            numbers = range(order["first"], order["first"] + order["bodies"])
            requests = [make_request(make_body(number, order["nodes"], order["names"])) for number in numbers]
        print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
