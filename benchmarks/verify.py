"""``journal verify`` on SQLite: entries a second, chain and records, beside reading the same entries and doing nothing with them.

What is written is what a daemon writes for alerts that no playbook takes: a delivery, its decision, its episode, its mark.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.table import Row
from remediator.clock import SystemClock
from remediator.journal import Journal
from remediator.model import Alert, AlertStatus, Decision, DecisionKind, Delivery, Episode

__all__ = ["rows"]

DELIVERIES = 25_000
AT_ONCE = 500
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
AIM = 100_000


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        return [asyncio.run(_measure(Path(folder) / "remediator.db"))]


async def _measure(path: Path) -> Row:
    journal = await Journal.open(f"sqlite:///{path}", clock=SystemClock())
    try:
        for first in range(0, DELIVERIES, AT_ONCE):
            await asyncio.gather(*(_deliver(journal, number) for number in range(first, first + AT_ONCE)))
        began = time.perf_counter()
        report = await journal.verify()
        took = time.perf_counter() - began
    finally:
        await journal.close()
    if not report.ok:
        raise RuntimeError(report.problems[0])
    bare = _bare(path)
    return Row(
        name="journal verify: entries",
        measured=report.entries / took,
        unit="/s",
        beside="read and nothing else",
        compared=report.entries / bare,
        aim=AIM,
        at_least=True,
        note=f"{report.entries:,} entries in {took:.1f} s",
    )


def _bare(path: Path) -> float:
    """Seconds."""
    with sqlite3.connect(path) as store:
        began = time.perf_counter()
        for _ in store.execute("SELECT * FROM entry ORDER BY seq"):
            pass
        took = time.perf_counter() - began
    store.close()
    return took


async def _deliver(journal: Journal, number: int) -> None:
    at = BEGAN + timedelta(seconds=number)
    labels = {"alertname": "NobodyTakesThis", "node": f"node-{number % 200}", "severity": "warning"}
    alert = Alert(name="NobodyTakesThis", fingerprint=f"{number:016x}", starts_at=at, status=AlertStatus.FIRING, labels=labels)
    id_ = f"{number:020d}"
    await journal.add_delivery(
        Delivery(id=id_, received_at=at, receiver="remediator", group_key="", status="firing", truncated=0, alerts=(alert,))
    )
    decision = Decision(id=f"{id_}d", at=at, delivery=id_, alert=alert, decision=DecisionKind.UNMATCHED)
    episode = Episode(
        fingerprint=alert.fingerprint,
        starts_at=at,
        name=alert.name,
        labels=labels,
        first_seen=at,
        last_seen=at,
        decision=DecisionKind.UNMATCHED,
    )
    await journal.decide(id_, [decision], episodes=[episode])
