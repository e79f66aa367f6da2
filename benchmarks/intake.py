"""Durable intake beside two bare servers: webhooks a second, latency, and whether anything that was answered 200 was lost.

Each server is a process of its own, the load generator another. They are loaded by turns, in many short rounds, every other one the other
way round, and stand still (SIGSTOP) while another is loaded, so that whatever else the machine does hits all alike; ratios are medians
over the rounds, and the lowest and the highest are told. Aim: at least 0.7 of the bare durable server. Our daemon decides while it takes
in, as it does in life; no playbook takes the load's alerts. After the last round the servers are killed (SIGKILL), and every delivery that
was answered 200 is looked up in its file. Then our daemon is started again and must decide on all of them. Where PostgreSQL is installed, a
daemon on it is loaded too; its server runs all the time, and its CPU time is not the daemon's.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import load, postgres
from benchmarks.processes import Daemon, Process, free_port
from benchmarks.table import Row

__all__ = ["rows"]

HERE = Path(__file__).resolve().parent
ROUNDS = 8
SECONDS = 2.0
"""How long each server is loaded, each time. Timers go on while it stands still, so in shorter turns what is due every two seconds would
count double."""
CONNECTIONS = 64
AIM = 0.7
LONGEST_WAIT = 600.0
"""For the decisions after the last turn."""
PARSE, DURABLE, OURS, OTHER = "bare parse", "bare durable", "remediator", "remediator on PostgreSQL"


@dataclass
class Seen:
    """Of one server, over all rounds."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Milliseconds a webhook."""
    latencies: list[float] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    refused: int = 0

    def add(self, answered: dict[str, Any], cpu: float) -> None:
        count = len(answered["ids"])
        self.rates.append(count / answered["seconds"])
        self.cpu.append(cpu / count * 1000)
        self.latencies += answered["latencies"]
        self.ids.update(answered["ids"])
        self.refused += sum(number for status, number in answered["statuses"].items() if status != "200")

    def latency(self, part: float) -> float:
        """Milliseconds that this part of the webhooks did not exceed."""
        return sorted(self.latencies)[int(len(self.latencies) * part)] * 1000


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="intake-") as folder:
        with ExitStack() as stack:
            url = stack.enter_context(postgres.server())
            seen = {name: Seen() for name in (PARSE, DURABLE, OURS, *([OTHER] if url else []))}
            servers = {name: _server(name, Path(folder), url) for name in seen}
            for server in servers.values():
                stack.enter_context(server)
                server.wait_until_ready() if isinstance(server, Daemon) else server.wait_until_open()
                server.pause()
            generator = stack.enter_context(load.Generator())
            generator.prepare()
            for number in range(ROUNDS):
                turns = list(servers.items())
                for name, server in turns if number % 2 == 0 else reversed(turns):
                    _turn(server, generator, seen[name])
            elsewhere = len(seen[OTHER].ids - _kept_by(url)) if url else 0
        lost = {name: len(seen[name].ids - _kept(Path(folder, file))) for name, file in ((DURABLE, "bare.db"), (OURS, "journal.db"))}
        return [*_rates(seen), *_details(seen, lost | {OTHER: elsewhere}), *_decide_the_rest(Path(folder))]


def _turn(server: Process, generator: load.Generator, seen: Seen) -> None:
    before = server.cpu()
    server.resume()
    answered = generator.run(server.port, seconds=SECONDS, connections=CONNECTIONS)
    server.pause()
    seen.add(answered, server.cpu() - before)


def _server(name: str, folder: Path, url: str | None) -> Process:
    if name == OURS:
        return Daemon(folder)
    if name == OTHER:
        (folder / "other").mkdir()
        return Daemon(folder / "other", store=url or "")
    port = free_port()
    words = [str(HERE / "intake_bare_parse.py"), str(port)]
    if name == DURABLE:
        words = [str(HERE / "intake_bare_durable.py"), str(port), str(folder / "bare.db")]
    return Process([sys.executable, *words], port, folder / f"{name}.log")


def _kept(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM delivery")}


def _kept_by(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM delivery")}


def _rates(seen: dict[str, Seen]) -> list[Row]:
    """The aim is about the median of the rounds' ratios; what is shown as compared to follows from it."""
    size = f"{len(load.make_body(1)):,} bytes, {CONNECTIONS} connections"

    def beside(name: str, note: str = "", *, who: str = OURS, what: str = "to the disk", **more: Any) -> Row:
        ours = statistics.median(seen[who].rates)
        ratios = sorted(mine / bare for mine, bare in zip(seen[who].rates, seen[name].rates, strict=True))
        note = f"{note}ratios {ratios[0]:.2f} to {ratios[-1]:.2f}"
        return Row(
            name=f"intake, {what}", measured=ours, unit="/s", beside=name, compared=ours / statistics.median(ratios), note=note, **more
        )

    found = [beside(DURABLE, f"{size}; ", aim=AIM, of_ratio=True, at_least=True), beside(PARSE)]
    return [*found, *([beside(DURABLE, who=OTHER, what="to PostgreSQL")] if OTHER in seen else [])]


def _details(seen: dict[str, Seen], lost: dict[str, int]) -> list[Row]:
    mine, bare = seen[OURS], seen[DURABLE]

    def row(name: str, ours: float, theirs: float) -> Row:
        return Row(name=name, measured=ours, unit="ms", beside=DURABLE, compared=theirs)

    return [
        row("intake, p50", mine.latency(0.5), bare.latency(0.5)),
        row("intake, p99", mine.latency(0.99), bare.latency(0.99)),
        row("CPU time a webhook, decisions included", statistics.median(mine.cpu), statistics.median(bare.cpu)),
        Row(name="answered 200 and lost", measured=lost[OURS], unit="deliveries", aim=0, note=f"{DURABLE}: {lost[DURABLE]}"),
        *([Row(name=f"{OTHER}: answered 200 and lost", measured=lost[OTHER], unit="deliveries", aim=0)] if OTHER in seen else []),
        Row(name="answered otherwise", measured=mine.refused, unit="webhooks"),
    ]


def _decide_the_rest(folder: Path) -> list[Row]:
    """Start the killed daemon again: what it had stored must all be decided in the end."""
    with Daemon(folder) as daemon:
        waiting = daemon.undecided()
        decided = daemon.ask("SELECT count(*) FROM delivery") - waiting
        daemon.wait_until_ready()
        took = daemon.wait_until_decided(LONGEST_WAIT)
        left = daemon.undecided()
        alerts = daemon.ask("SELECT count(*) FROM delivery") * load.ALERTS
        without = alerts - daemon.ask("SELECT count(*) FROM decision")
    rate = (waiting - left) / took if took else 0.0
    return [
        Row(name="decided under the load", measured=decided / (ROUNDS * SECONDS), unit="deliveries/s"),
        Row(name="decided after the restart", measured=rate, unit="deliveries/s", note=f"{waiting:,} waited, {took:.1f} s"),
        Row(name="never decided", measured=without, unit="alerts", aim=0, note=f"of {alerts:,}"),
    ]
