"""Durable intake beside two bare servers: webhooks a second, latency, and whether anything that was answered 200 was lost.

By turns, each server as a process of its own and the load generator as another. After its turn a server is killed (SIGKILL), and every
delivery that it answered 200 for is looked up in its file. After the last turn our daemon is started again, and must decide on all of
them. Ratios are medians over the rounds. Aim: at least 0.7 of the bare durable server.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import load
from benchmarks.processes import Daemon, Process, free_port
from benchmarks.table import Row

__all__ = ["rows"]

HERE = Path(__file__).resolve().parent
ROUNDS = 3
SECONDS = 4.0
"""How long each server is loaded, each time."""
CONNECTIONS = 64
AIM = 0.7
LONGEST_WAIT = 90.0
"""For the decisions after the last turn."""
PARSE, DURABLE, OURS = "bare parse", "bare durable", "remediator"


@dataclass
class Seen:
    """Of one server, over all rounds: what the median is taken of."""

    rates: list[float] = field(default_factory=list)
    middle: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    refused: int = 0
    lost: int = 0

    def add(self, answered: dict, cpu: float, database: Path | None) -> None:
        latencies = sorted(answered["latencies"])
        count = len(latencies)
        self.rates.append(count / answered["seconds"])
        self.middle.append(latencies[count // 2] * 1000)
        self.late.append(latencies[int(count * 0.99)] * 1000)
        self.cpu.append(cpu / count * 1000)
        self.refused += sum(number for status, number in answered["statuses"].items() if status != "200")
        if database is not None:
            with closing(sqlite3.connect(database)) as connection:
                self.lost += len(set(answered["ids"]) - {row[0] for row in connection.execute("SELECT id FROM delivery")})


def rows() -> list[Row]:
    seen = {name: Seen() for name in (PARSE, DURABLE, OURS)}
    with tempfile.TemporaryDirectory(prefix="intake-") as folder:
        for turn in range(ROUNDS):
            for name, numbers in seen.items():
                place = Path(folder, f"{turn}-{name}")
                place.mkdir()
                _turn(name, place, numbers)
        decided = _decide_the_rest(Path(folder, f"{ROUNDS - 1}-{OURS}"))
    ratios = [ours / bare for ours, bare in zip(seen[OURS].rates, seen[DURABLE].rates, strict=True)]
    return [*_rates(seen, statistics.median(ratios)), *_details(seen), *decided]


def _turn(name: str, folder: Path, seen: Seen) -> None:
    with _server(name, folder) as server:
        server.wait_until_ready() if name == OURS else server.wait_until_open()
        before = server.cpu()
        answered = load.run(server.port, seconds=SECONDS, connections=CONNECTIONS)
        cpu = server.cpu() - before
    seen.add(answered, cpu, {DURABLE: folder / "bare.db", OURS: folder / "journal.db"}.get(name))


def _server(name: str, folder: Path) -> Process:
    if name == OURS:
        return Daemon(folder)
    port = free_port()
    words = [str(HERE / "intake_bare_parse.py"), str(port)]
    if name == DURABLE:
        words = [str(HERE / "intake_bare_durable.py"), str(port), str(folder / "bare.db")]
    return Process([sys.executable, *words], port, folder / "server.log")


def _rates(seen: dict[str, Seen], ratio: float) -> list[Row]:
    """The aim is about the median of the rounds' ratios; what is shown as compared to follows from it."""
    rate = {"name": "intake, to the disk", "measured": statistics.median(seen[OURS].rates), "unit": "/s"}
    size = f"{len(load.make_body(1)):,} bytes, {CONNECTIONS} connections"
    return [
        Row(**rate, beside=DURABLE, compared=rate["measured"] / ratio, aim=AIM, of_ratio=True, at_least=True, note=size),
        Row(**rate, beside=PARSE, compared=statistics.median(seen[PARSE].rates)),
    ]


def _details(seen: dict[str, Seen]) -> list[Row]:
    def row(name: str, numbers: str, unit: str = "ms") -> Row:
        mine, bare = (statistics.median(getattr(seen[server], numbers)) for server in (OURS, DURABLE))
        return Row(name=name, measured=mine, unit=unit, beside=DURABLE, compared=bare)

    return [
        row("intake, p50", "middle"),
        row("intake, p99", "late"),
        row("CPU time a webhook", "cpu"),
        Row(name="answered 200 and lost", measured=seen[OURS].lost, unit="deliveries", aim=0),
        Row(name="answered otherwise", measured=seen[OURS].refused, unit="webhooks"),
    ]


def _decide_the_rest(folder: Path) -> list[Row]:
    """Start the killed daemon again: what it had stored must all be decided in the end."""
    with Daemon(folder) as daemon:
        waiting = daemon.undecided()
        daemon.wait_until_ready()
        took = daemon.wait_until_decided(LONGEST_WAIT)
        left = daemon.undecided()
        alerts = daemon.ask("SELECT count(*) FROM delivery") * load.ALERTS
        without = alerts - daemon.ask("SELECT count(*) FROM decision")
    rate = (waiting - left) / took if took else 0.0
    return [
        Row(name="decided after the restart", measured=rate, unit="deliveries/s", note=f"{waiting:,} waited, {took:.1f} s"),
        Row(name="never decided", measured=without, unit="alerts", aim=0, note=f"of {alerts:,}"),
    ]
