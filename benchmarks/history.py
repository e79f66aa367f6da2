"""Long histories on SQLite and PostgreSQL: how long answers take, the start, pruning, verifying, export and import, beside their aims.

A million entries (``HISTORY=10000000``: so many) that daemons wrote over four months, put straight into the store (``past``). Answers are
those of a real daemon over HTTP, and of the journal's lists, of which the plans are printed: a plan that reads a whole table would show.
``HISTORY_STORES`` names stores instead of new ones, separated by spaces; one that is empty is filled, one that is filled is taken as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from benchmarks import past
from benchmarks.postgres import server
from benchmarks.processes import ROOT, Daemon
from benchmarks.table import Row
from remediator.clock import SystemClock
from remediator.journal import Journal, lines_of, take_in
from remediator.journal.store import Store
from remediator.journal.writer import Writer
from remediator.model import RunState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from remediator.journal.writer import Held

__all__ = ["rows"]

ENTRIES = 1_000_000
IMPORTED = 200_000
"""Of a store of its own: an import is one transaction and needs as much room again."""
ASKED = 200
"""Times each question is asked over HTTP: the slowest but one is p99."""
REPEAT = 20
PRUNED = 20_000
AIM_MS = 100
START_S = 2.0
HOLD_MS = 50
VERIFY = 100_000
FLAT = 1.3
"""Peak memory of eight times as much beside that of once."""
AGE = timedelta(days=90)


def rows() -> list[Row]:
    entries = int(os.environ.get("HISTORY", ENTRIES))
    with tempfile.TemporaryDirectory(prefix="history-") as name, ExitStack() as stack:
        folder = Path(name)
        stores = os.environ.get("HISTORY_STORES", "").split()
        if not stores:
            postgres = stack.enter_context(server())
            stores = [f"sqlite:///{folder}/remediator.db", *([postgres] if postgres else [])]
        return [row for url in stores for row in _of_store(url, entries, folder)] + _moved(folder)


def _of_store(url: str, entries: int, folder: Path) -> Iterator[Row]:
    name = "SQLite" if url.startswith("sqlite") else "PostgreSQL"
    count, took = asyncio.run(_filled(url, entries))
    name = f"{name}, {count / 1e6:.3g} M entries"
    if took:
        yield Row(name=f"{name}: filled", measured=count / took, unit="entries/s", note=f"{took:.0f} s")
    answers = [*_over_http(name, url, folder), *asyncio.run(_lists(name, url))]
    yield from answers
    yield _slowest(name, answers)
    yield from asyncio.run(_verified(name, url))
    yield from asyncio.run(_pruned(name, url))
    seen = _child("--export", url)
    yield Row(name=f"{name}: export", measured=seen["entries"] / seen["seconds"], unit="entries/s", note=_memory(seen))


def _slowest(name: str, answers: list[Row]) -> Row:
    """Of all that have the aim of an answer."""
    judged = [row for row in answers if row.aim == AIM_MS]
    worst = max(judged, key=lambda row: row.measured)
    met = sum(row.met is True for row in judged)
    note = f"{met} of {len(judged)} questions meet it; the slowest is {worst.name.removeprefix(f'{name}: ')}"
    return Row(name=f"{name}: slowest p99", measured=worst.measured, unit="ms p99", aim=AIM_MS, note=note)


async def _filled(url: str, entries: int) -> tuple[int, float]:
    """How many entries there are, and how long it took to put them there."""
    journal = await Journal.open(url, clock=SystemClock())
    there = await journal.last()
    await journal.close()
    if there:
        return there, 0.0
    began = time.perf_counter()
    there = await asyncio.to_thread(past.fill, url, entries, until=datetime.now(UTC))
    return there, time.perf_counter() - began


# over HTTP


def _over_http(name: str, url: str, folder: Path) -> Iterator[Row]:
    ready: dict[str, list[float]] = {url: [], "": []}
    for _ in range(3):
        for store, seconds in ready.items():
            with Daemon(folder, store=store) as daemon:
                seconds.append(daemon.wait_until_ready())
    best, empty = min(ready[url]), min(ready[""])
    yield Row(
        name=f"{name}: start to ready",
        measured=best,
        unit="s",
        beside="a journal without entries",
        compared=empty,
        aim=START_S,
        note="best of 3 each",
    )
    with Daemon(folder, store=url) as daemon:
        daemon.wait_until_ready()
        run = json.loads(daemon.call("GET", "/api/v1/runs?limit=1"))["items"][0]
        delivery = json.loads(daemon.call("GET", "/api/v1/deliveries?limit=1"))["items"][0]["id"]
        why = "/api/v1/why?ref="
        doors = {
            "runs list": "/api/v1/runs?limit=50",
            "alerts list": "/api/v1/alerts?limit=50",
            "why ALERT": f"{why}PlaybookAlert7",
            "why ALERT that nobody takes": f"{why}NobodyTakes7",
            "why NODE": f"{why}node-7",
            "why RUN": f"{why}{run['id']}",
            "why DELIVERY": f"{why}{delivery}",
            "why, nothing of that name": f"{why}nothing-of-that-name",
            "page /": "/",
            "report effect, 30 days": "/api/v1/report/effect",
        }
        for door, path in doors.items():
            aim = None if door.startswith("report") else AIM_MS
            before, seconds = daemon.cpu(), [_once(partial(daemon.call, "GET", path)) for _ in range(ASKED if aim else REPEAT)]
            cpu = (daemon.cpu() - before) / len(seconds)
            yield _timed(f"{name}: {door}", seconds, aim, note=f"; {cpu * 1000:.1f} ms of CPU each")
        yield Row(name=f"{name}: memory of the daemon then", measured=daemon.memory(), unit="MB", note=f"peak {daemon.memory('VmHWM'):.0f}")


def _once(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _timed(name: str, seconds: list[float], aim: float | None = AIM_MS, note: str = "") -> Row:
    """p99 is judged."""
    ordered = sorted(seconds)
    p99 = ordered[-(-len(ordered) * 99 // 100) - 1]
    note = f"p50 {ordered[len(ordered) // 2] * 1000:.1f} ms, of {len(ordered)}{note}"
    return Row(name=name, measured=p99 * 1000, unit="ms p99", aim=aim, note=note)


# the journal's lists, with their plans


async def _lists(name: str, url: str) -> list[Row]:
    journal = await Journal.open(url, clock=SystemClock())
    try:
        found = []
        for question, ask in (await _questions(journal)).items():
            plans = await _plans(url, ask)
            print(f"plan of {name}: {question}\n" + "".join(f"    {line}\n" for line in plans), end="", flush=True)
            seconds = []
            for _ in range(REPEAT):
                began = time.perf_counter()
                await ask()
                seconds.append(time.perf_counter() - began)
            found.append(_timed(f"{name}: {question}", seconds, note=f"; {' / '.join(plans)}"))
        return found
    finally:
        await journal.close()


async def _questions(journal: Journal) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every list that a page or a command asks, with the filters that find much, little and nothing."""
    now = datetime.now(UTC)
    month = now - timedelta(days=30)
    deep = (await journal.runs(since=month, limit=500)).next
    ask = partial(partial, journal.runs)
    return {
        "runs list": ask(),
        "runs list, next page": ask(cursor=deep),
        "runs list --playbook": ask(playbook="playbook-7"),
        "runs list --target": ask(target="Node/node-7"),
        "runs list --playbook --target": ask(playbook="playbook-7", target="Node/node-31"),
        "runs list --playbook --target, none fit": ask(playbook="playbook-7", target="Node/node-8"),
        "runs list --state failed, there are none": ask(state=[RunState.FAILED]),
        "runs list --state, all ends": ask(state=[state for state in RunState if not state.open]),
        "runs list, dry runs of a playbook, there are none": ask(dry_run=True, playbook="playbook-7"),
        "runs list, live runs of a target": ask(dry_run=False, target="Node/node-7"),
        "runs list --since": ask(since=now - timedelta(hours=2)),
        "open runs": journal.open_runs,
        "history of a target": partial(journal.history, "Node/node-7", since=month),
        "alerts list": journal.episodes,
        "alerts list --all": partial(journal.episodes, open_only=False, limit=50),
        "alerts list --all NAME": partial(journal.episodes, open_only=False, name="NobodyTakes7", limit=50),
        "deliveries list": journal.deliveries,
        "undecided deliveries": journal.undecided,
        "decisions on an alert": partial(journal.decisions, name="PlaybookAlert7", limit=300),
        "decisions, no such name": partial(journal.decisions, name="nothing"),
        "changes list": partial(journal.changes, left_behind=True),
        "pauses": partial(journal.pauses, now),
        "last note": partial(journal.last_note, "start"),
    }


async def _plans(url: str, ask: Callable[[], Awaitable[object]]) -> list[str]:
    """What the database says that it will do for each statement of a question."""
    asked: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        await ask()
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    store, plans = Store(url, deadline=timedelta(minutes=1)), []
    explain = "EXPLAIN QUERY PLAN " if store.sqlite else "EXPLAIN (COSTS OFF) "
    with store.snapshot() as connection:
        for statement, parameters in asked:
            lines = [str(row[-1]).strip(" ->") for row in connection.exec_driver_sql(explain + statement, parameters)]
            plans.append("; ".join(line for line in lines if store.sqlite or "Scan" in line or "Sort" in line))
    store.close()
    return list(dict.fromkeys(plans))


# verifying, pruning


async def _verified(name: str, url: str) -> list[Row]:
    journal = await Journal.open(url, clock=SystemClock())
    try:
        found = []
        for jobs in (1, 2):
            began, cpu = time.perf_counter(), time.process_time()
            report = await journal.verify(jobs=jobs)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            if not report.ok:
                raise RuntimeError(report.problems[0])
            note = f"{seconds:.0f} s" + (f"; {report.entries / cpu:,.0f} a second of CPU" if jobs == 1 else "")
            found.append(
                Row(
                    name=f"{name}: verify, {jobs} at once",
                    measured=report.entries / seconds,
                    unit="entries/s",
                    aim=VERIFY if jobs > 1 else None,
                    at_least=True,
                    note=note,
                )
            )
        began = time.perf_counter()
        await journal.verify(full=False)
        return [*found, Row(name=f"{name}: verify once more", measured=time.perf_counter() - began, unit="s", note="nothing came since")]
    finally:
        await journal.close()


async def _pruned(name: str, url: str) -> list[Row]:
    """Beside each slice a note is written: what it costs to hold the writer for nothing, on this disk at that time."""
    journal = await Journal.open(url, clock=SystemClock())
    slices: list[Held] = []
    alone: list[Held] = []
    undone, last = 0, await journal.last()
    hold = Writer.hold

    async def timed(writer: Writer, work: Any, **more: Any) -> Any:
        nonlocal undone
        done, held = await hold(writer, work, **more)
        slices.append(held)
        undone += done is None
        alone.append((await hold(writer, lambda tx: tx.log("benchmark", "", "{}")))[1])
        return done, held

    setattr(Writer, "hold", timed)  # noqa: B010 - looked at from outside
    try:
        first = (await journal.entries(limit=1))[0].seq
        began = time.perf_counter()
        done = await journal.prune(before=datetime.now(UTC) - AGE, keep=last - first - PRUNED)
        took = time.perf_counter() - began
    finally:
        setattr(Writer, "hold", hold)  # noqa: B010 - as it was
        await journal.close()
    holds, notes = _sorted_ms(map(sum, slices)), _sorted_ms(map(sum, alone))
    statements, commits = _sorted_ms(one.statements for one in slices), _sorted_ms(one.commit for one in slices)
    row = partial(Row, unit="ms", beside="one note, at the same times", aim=HOLD_MS)
    high = -(-len(holds) * 99 // 100) - 1
    most, usual = (f"statements {statements[at]:.0f}, commit {commits[at]:.0f} ms" for at in (-1, high))
    return [
        row(name=f"{name}: a slice of pruning, longest", measured=holds[-1], compared=notes[-1], note=most),
        row(name=f"{name}: a slice of pruning, p99", measured=holds[high], compared=notes[high], note=usual),
        Row(
            name=f"{name}: pruned",
            measured=done.removed.get("entry", 0) / took,
            unit="entries/s",
            note=f"{done.slices} slices and {undone} undone, median {holds[len(holds) // 2]:.1f} ms",
        ),
    ]


def _sorted_ms(seconds: Iterable[float]) -> list[float]:
    return sorted(one * 1000 for one in seconds)


# export and import


def _moved(folder: Path) -> list[Row]:
    """Of a small journal and of one eight times as long, each in a process of its own."""
    seen: dict[str, list[dict[str, float]]] = {"export": [], "import": []}
    for entries in (IMPORTED // 8, IMPORTED):
        url, file = f"sqlite:///{folder}/from-{entries}.db", folder / f"{entries}.jsonl"
        asyncio.run(_filled(url, entries))
        seen["export"].append(_child("--export", url, "--to", str(file)))
        seen["import"].append(_child("--import", f"sqlite:///{folder}/to-{entries}.db", "--to", str(file)))
        file.unlink()
        for path in folder.glob("from-*.db*"):
            path.unlink()
    found = []
    for what, (small, large) in seen.items():
        rate = large["entries"] / large["seconds"]
        found.append(Row(name=f"{what}, SQLite, {IMPORTED:,} entries", measured=rate, unit="entries/s"))
        row = Row(
            name=f"{what}: memory at its peak",
            measured=large["peak"],
            unit="MB",
            beside="an eighth of the entries",
            compared=small["peak"],
            aim=FLAT,
            of_ratio=True,
        )
        found.append(row)
    return found


def _memory(seen: dict[str, float]) -> str:
    return f"memory at its peak {seen['peak']:.0f} MB"


def _child(*words: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.history", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    seen: dict[str, float] = json.loads(done.stdout)
    return seen


async def _exported(url: str, file: Path) -> int:
    journal, count = await Journal.open(url, clock=SystemClock()), 0
    try:
        with file.open("wb") as out:
            async for line in lines_of(journal.export()):
                out.write(line)
                count += 1
    finally:
        await journal.close()
    return count


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", metavar="URL", help="write the journal to a file; prints what was seen")
    parser.add_argument("--import", dest="into", metavar="URL", help="read the file into the empty journal; prints what was seen")
    parser.add_argument("--to", type=Path, default=Path(os.devnull), metavar="FILE", help="the file")
    given = parser.parse_args()
    began = time.perf_counter()
    if given.export:
        count = asyncio.run(_exported(given.export, given.to))
    else:
        with given.to.open("rb") as lines:
            count = take_in(given.into, lines, source=str(given.to), by="benchmark", now=datetime.now(UTC)).entries
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count what our parent had as well
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024 / 1e6
    with suppress(BrokenPipeError):
        print(json.dumps({"entries": count, "seconds": time.perf_counter() - began, "peak": peak}))


if __name__ == "__main__":
    _main()
