"""Durable intake beside two bare servers: webhooks a second, latency, and whether anything answered 200 was lost.

    python benchmarks/intake.py [--seconds 5] [--connections 64] [--ours COMMAND] [--rounds 3]

Each server runs as a process of its own, the load generator as another; all traffic stays on 127.0.0.1. After its turn a
server is killed (SIGKILL), and every delivery that it answered 200 for is looked up in its database file.
COMMAND starts our daemon; ``{config}``, ``{database}`` and ``{port}`` are filled in. Ratios are medians
over the rounds. Aim: at least 0.7 of the bare durable server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOKEN = "intake-benchmark-token"  # of a server that lives for seconds on the loopback interface
OURS = "remediator serve --config {config} --listen 127.0.0.1:{port}"
AIM = 0.7
BODIES = 512
"""Distinct bodies, so that nothing profits from seeing the same text again and again."""
SETTINGS = """\
apiVersion: remediator.dev/v1
kind: Settings
server: {{listen: '127.0.0.1:{port}', webhook_token_file: token}}
store: {{url: 'sqlite:///{database}'}}
kubernetes: {{server: 'http://127.0.0.1:1'}}
"""


# the load generator, a process of its own


def make_body(number: int) -> bytes:
    """Alertmanager's payload v4 with 10 alerts, about 5 KB."""
    alerts = [
        {
            "status": "firing",
            "labels": {
                "alertname": "CiliumNodeLatencyHigh",
                "node": f"node-{(number + i) % 50}",
                "severity": "critical",
                "instance": f"10.0.{number % 250}.{i}:9962",
                "job": "cilium-agent",
                "namespace": "kube-system",
            },
            "annotations": {
                "summary": f"Node latency on node-{(number + i) % 50} is {number * 7 % 97}.{i} ms",
                "runbook_url": "https://runbooks.example.org/cilium-node-latency",
            },
            "startsAt": f"2026-01-05T10:{number % 60:02d}:{i:02d}.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.org/graph?g0.expr=cilium_latency_seconds+%3E+0.02&g0.tab=1",
            "fingerprint": f"{number * 10 + i:016x}",
        }
        for i in range(10)
    ]
    labels = {"alertname": "CiliumNodeLatencyHigh", "severity": "critical"}
    payload = {
        "version": "4",
        "groupKey": '{}/{severity="critical"}:{alertname="CiliumNodeLatencyHigh"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "remediator",
        "groupLabels": {"alertname": "CiliumNodeLatencyHigh"},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org",
        "alerts": alerts,
    }
    return json.dumps(payload, separators=(",", ":")).encode()


def make_request(number: int) -> bytes:
    body = make_body(number)
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
    """Keeps ``connections`` requests under way until the time or the number of requests is used up."""

    def __init__(self, seconds: float, limit: int) -> None:
        self.requests = [make_request(number) for number in range(BODIES)]
        self.seconds, self.limit = seconds, limit
        self.count = 0
        self.statuses: dict[str, int] = {}
        self.latencies: list[float] = []
        self.ids: list[str] = []
        self.open: set[Connection] = set()
        self.done = asyncio.Event()

    def next_request(self) -> bytes | None:
        if self.count >= self.limit or time.perf_counter() >= self.until:
            return None
        self.count += 1
        return self.requests[self.count % BODIES]

    def answered(self, status: bytes, body: bytes, latency: float) -> None:
        name = status.decode()
        self.statuses[name] = self.statuses.get(name, 0) + 1
        if name == "200":
            self.latencies.append(latency)
            self.ids.append(json.loads(body)["delivery"])

    def finished(self, connection: Connection) -> None:
        self.open.discard(connection)
        if not self.open:
            self.done.set()

    async def run(self, port: int, connections: int) -> dict[str, Any]:
        self.until = time.perf_counter() + self.seconds
        loop = asyncio.get_running_loop()
        self.open = {Connection(self) for _ in range(connections)}
        began = time.perf_counter()
        for connection in list(self.open):
            await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)
        await asyncio.wait_for(self.done.wait(), self.seconds + 30)
        return {"seconds": time.perf_counter() - began, "statuses": self.statuses, "latencies": self.latencies, "ids": self.ids}


# the driver


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    """Returns when the port takes connections; a server that ends first or takes over 30 s is an error."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with code {server.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server does not listen after 30 s")


def measure(command: list[str], port: int, args: argparse.Namespace, log: Path) -> dict[str, Any]:
    """Start the server, load it, kill it. Returns what the load generator saw."""
    load = [sys.executable, __file__, "--load", str(port), "--seconds", str(args.seconds)]
    load += ["--connections", str(args.connections), "--requests", str(args.requests)]
    with log.open("wb") as errors, subprocess.Popen(command, stdout=errors, stderr=errors) as server:
        try:
            wait_until_open(port, server)
            answer = subprocess.run(load, stdout=subprocess.PIPE, check=True, timeout=args.seconds + 60)
        finally:
            server.send_signal(signal.SIGKILL)
    return dict(json.loads(answer.stdout))


def lost(ids: list[str], database: Path) -> int:
    """How many of these deliveries the database file does not hold."""
    with sqlite3.connect(database) as connection:
        kept = {row[0] for row in connection.execute("SELECT id FROM delivery")}
    return len(set(ids) - kept)


def ours(args: argparse.Namespace, folder: Path, port: int) -> list[str] | None:
    """The command that starts our daemon, with its settings written; None if there is no such command yet."""
    command = shlex.split(args.ours.format(config=folder / "settings.yaml", port=port, database=folder / "ours.db"))
    beside = Path(sys.executable).parent / command[0]
    program = str(beside) if beside.exists() else shutil.which(command[0])
    if program is None:
        return None
    (folder / "token").write_text(TOKEN)
    (folder / "settings.yaml").write_text(SETTINGS.format(port=port, database=folder / "ours.db"))
    return [program, *command[1:]]


def turn(name: str, args: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """One server's turn; None if it is not there or does not start."""
    port, database = free_port(), None
    if name == "bare parse":
        command: list[str] | None = [sys.executable, str(HERE / "intake_bare_parse.py"), str(port)]
    elif name == "bare durable":
        database = folder / "bare.db"
        command = [sys.executable, str(HERE / "intake_bare_durable.py"), str(port), str(database)]
    else:
        database = folder / "ours.db"
        command = ours(args, folder, port)
    if command is None:
        return None
    log = folder / "server.log"
    try:
        seen = measure(command, port, args, log)
    except RuntimeError as problem:
        print(f"{name}: {problem}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
        return None
    seen["lost"] = lost(seen["ids"], database) if database else None
    return seen


def line(name: str, seen: dict[str, Any]) -> tuple[str, float]:
    latencies = sorted(seen["latencies"]) or [float("nan")]
    rate = len(seen["ids"]) / seen["seconds"]
    p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
    others = {status: count for status, count in seen["statuses"].items() if status != "200"}
    told = "-" if seen["lost"] is None else str(seen["lost"])
    return f"{name:<14}{rate:>12,.0f}{p50:>9.1f}{p99:>9.1f}{told:>6}  {others or ''}", rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each server is loaded")
    parser.add_argument("--requests", type=int, default=200_000, help="at most so many to each server")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server, by turns")
    parser.add_argument("--ours", default=OURS, help=f"starts our daemon; default: {OURS}")
    parser.add_argument("--load", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        json.dump(asyncio.run(run_load(args)), sys.stdout)
        return 0
    return compare(args)


async def run_load(args: argparse.Namespace) -> dict[str, Any]:
    return await Load(args.seconds, args.requests).run(args.load, args.connections)


def compare(args: argparse.Namespace) -> int:
    """Prints the table. 1 if a delivery was lost or the aim is missed, 0 otherwise."""
    print(f"intake: {len(make_body(1)):,} bytes of 10 alerts, {args.connections} connections, {args.seconds:g} s each")
    print(f"{'server':<14}{'webhooks/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'lost':>6}  other answers")
    losses = 0
    ratios: dict[str, list[float]] = {"bare durable": [], "bare parse": []}
    for _ in range(args.rounds):
        rates: dict[str, float] = {}
        for name in ("bare parse", "bare durable", "remediator"):
            with tempfile.TemporaryDirectory(prefix="intake-") as folder:
                seen = turn(name, args, Path(folder))
            if seen is None:
                print(f"{name:<14}{'skipped':>12}")
                continue
            text, rates[name] = line(name, seen)
            print(text, flush=True)
            losses += seen["lost"] or 0
        for name, found in ratios.items():
            if "remediator" in rates and name in rates:
                found.append(rates["remediator"] / rates[name])
    if losses:
        print(f"{losses} deliveries were answered 200 and lost")
    if not ratios["bare durable"]:
        return 1 if losses else 0
    ratio = statistics.median(ratios["bare durable"])
    print(f"remediator / bare durable = {ratio:.2f} (aim {AIM}); / bare parse = {statistics.median(ratios['bare parse']):.2f}")
    return 1 if losses or ratio < AIM else 0


if __name__ == "__main__":
    sys.exit(main())
