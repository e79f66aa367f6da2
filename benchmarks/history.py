"""Lists of a store with a million runs on SQLite: how long each query takes that a page or a command asks.

The runs are put in by SQL: a run every 30 s, on 1,000 targets, by 20 playbooks, one in 100,000 open. The aim is about the slowest answer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.table import Row
from remediator.clock import SystemClock
from remediator.journal import Journal
from remediator.journal.rows import run_row
from remediator.model import Run, RunState, Target, Trigger, TriggerKind, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["rows"]

RUNS = 1_000_000
TARGETS = 1000
PLAYBOOKS = 20
OPEN_ONE_IN = 100_000
APART = timedelta(seconds=30)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
AIM_MS = 100
REPEAT = 10
ENDS = (RunState.HEALED, RunState.HEALED, RunState.HEALED, RunState.NOT_HEALED, RunState.FAILED)


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="history-") as folder:
        return asyncio.run(_measure(Path(folder) / "remediator.db"))


async def _measure(path: Path) -> list[Row]:
    url = f"sqlite:///{path}"
    await (await Journal.open(url, clock=SystemClock())).close()
    with sqlite3.connect(path) as store:
        store.executemany("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _runs())
    store.close()
    journal = await Journal.open(url, clock=SystemClock())
    try:
        return [await _timed(name, ask) for name, ask in (await _questions(journal)).items()]
    finally:
        await journal.close()


def _runs() -> Iterator[tuple[Any, ...]]:
    for number in range(RUNS):
        began = BEGAN + number * APART
        still = number % OPEN_ONE_IN == 0
        run = Run(
            id=f"{number:020d}",
            playbook=f"playbook-{number % PLAYBOOKS}",
            revision="0123456789ab",
            trigger=Trigger(kind=TriggerKind.ALERT, by="alertmanager"),
            target=Target(kind="Node", name=f"node-{number % TARGETS}"),
            state=RunState.RUNNING if still else ENDS[number // PLAYBOOKS % len(ENDS)],
            started_at=began,
            ended_at=None if still else began + APART,
            deadline=began + timedelta(hours=1),
        )
        yield run_row(run, encode(run).decode())


async def _questions(journal: Journal) -> dict[str, Callable[[], Awaitable[object]]]:
    deep = (await journal.runs(since=BEGAN, limit=500)).next
    latest = BEGAN + (RUNS - 2000) * APART
    ask = partial(partial, journal.runs)
    return {
        "runs list": ask(),
        "runs list, next page": ask(cursor=deep),
        "runs list --playbook": ask(playbook="playbook-7"),
        "runs list --target": ask(target="Node/node-7"),
        "runs list --playbook --target": ask(playbook="playbook-7", target="Node/node-7"),
        "runs list --playbook --target, none fit": ask(playbook="playbook-7", target="Node/node-8"),
        "runs list --state failed": ask(state=[RunState.FAILED]),
        "runs list --state failed --playbook": ask(state=[RunState.FAILED], playbook="playbook-7"),
        "runs list --state, all ends": ask(state=[state for state in RunState if not state.open]),
        "runs list --state, all open": ask(state=[state for state in RunState if state.open]),
        "runs list --state expired, there are none": ask(state=[RunState.EXPIRED]),
        "runs list, dry runs, there are none": ask(dry_run=True),
        "runs list, dry runs of a playbook, there are none": ask(dry_run=True, playbook="playbook-7"),
        "runs list, live runs of a target": ask(dry_run=False, target="Node/node-7"),
        "runs list --since": ask(since=latest),
        "open runs": journal.open_runs,
        "history of a target": partial(journal.history, "Node/node-7", since=latest),
    }


async def _timed(name: str, ask: Callable[[], Awaitable[object]]) -> Row:
    slowest = 0.0
    for _ in range(REPEAT):
        began = time.perf_counter()
        await ask()
        slowest = max(slowest, time.perf_counter() - began)
    return Row(name=f"history: {name}", measured=slowest * 1000, unit="ms", aim=AIM_MS, note=f"slowest of {REPEAT}")
