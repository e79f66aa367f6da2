"""Weeks of incidents on a clock that leaps: whether anything grows that should not, and whether every run ends.

The daemon and the simulated cluster are in one process. Every half hour of its time an agent hangs on another node; the daemon replaces it
and proves that it helped; people look at the page and follow a run, and go away without a word. Between two incidents it is counted what
there is: memory, files, sockets, threads, tasks, the journal. Growth is the median of the last quarter of the looks over the second, since
pools fill up at first: connections that are kept alive to the simulated cluster, as many as are in use at once (each has both its ends in
this process, so it counts twice), the engine's connections to its file, threads.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.processes import ROOT
from benchmarks.table import Row
from remediator.model import RunState
from remediator.sim import Simulation
from remediator.sim.alerting import Receiver
from remediator.sim.cluster import Timing
from remediator.testing import START, rehearse
from remediator.testing.house import House

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.testing import LeapingClock

__all__ = ["Look", "Soaked", "rows", "soak"]

MINUTES = 30.0
NODES = 8
APART = timedelta(minutes=30)
SLOW = Timing(heartbeat=timedelta(minutes=5), bgp_status=timedelta(minutes=5))
"""So that time leaps further."""
HISTORY = 100
"""Changes that the simulated API server keeps of each resource; its usual 2,000 are full after days only, and grow until then."""
FLAT = 1.1
FILES, SOCKETS, MEMORY = 2, 6, 25
"""What pools may still grow by after the first incidents: connections to the engine's file, both ends of three connections, MB."""
LINES = 1.0
"""The same line more often than once an incident says too much."""
PLAYBOOK = ROOT / "playbooks" / "cilium-agent-down.yaml"
_LIMITS = "attempts: {max: 2, per: target, within: 24h}"
_PATIENT = "attempts: {max: 2, per: target, within: 1h}\n  recurrence: {stop_at: 3, within: 1h}"
"""Weeks on few nodes: the third restart of one node's agent within a week would be refused, which is right and not what is measured."""
_LONGEST = timedelta(hours=3)
"""For one incident, simulated."""
_EVERY = timedelta(seconds=20)
_PARTS = re.compile(r"\S*\d\S*|\x1b\[[0-9;]*m")
"""What differs from line to line: numbers, ids, times; and colours."""


@dataclass(frozen=True)
class Look:
    """What there was between two incidents."""

    memory: float
    """MB, simulated cluster included."""
    blocks: int
    """Of memory that Python's objects hold: they tell what is kept from what the allocator has not given back."""
    files: int
    """Open ones, without sockets."""
    sockets: int
    """Both ends of each connection within this process."""
    threads: int
    tasks: int
    journal: float
    """MB, without the write-ahead log."""
    wal: float


@dataclass
class Soaked:
    """How it went."""

    looks: list[Look] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    """Of all runs, at the end."""
    simulated: timedelta = timedelta(0)
    log: Counter[str] = field(default_factory=Counter)
    """Lines of the log without what differs from one to the next."""

    def growth(self, of: Callable[[Look], float]) -> tuple[float, float]:
        """The medians of the last and of the second quarter."""
        quarter = max(1, len(self.looks) // 4)
        return tuple(statistics.median(map(of, looks)) for looks in (self.looks[-quarter:], self.looks[quarter : 2 * quarter]))  # type: ignore[return-value]


def rows() -> list[Row]:
    minutes = float(os.environ.get("SOAK", MINUTES))
    until = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = soak(Path(folder), lambda _: time.monotonic() < until)
    runs = sum(found.states.values())
    incidents = len(found.looks)
    most, count = found.log.most_common(1)[0] if found.log else ("nothing", 0)
    flat = {"beside": "second quarter", "aim": FLAT, "of_ratio": True}
    return [
        Row(name="incidents", measured=incidents, unit="", note=f"{found.simulated.total_seconds() / 86400:.0f} simulated days"),
        Row(name="runs", measured=runs, unit="", note=", ".join(f"{count} {state}" for state, count in sorted(found.states.items()))),
        Row(name="runs that did not end", measured=sum(found.states[state.value] for state in OPEN), unit="", aim=0),
        *(
            Row(name=name, measured=last, unit=unit, compared=first, **flat)
            for name, unit, (last, first) in (
                ("memory, simulated cluster included", "MB", found.growth(lambda look: look.memory)),
                ("blocks of Python's memory", "", found.growth(lambda look: look.blocks)),
                ("open files", "", found.growth(lambda look: look.files)),
                ("sockets, both ends", "", found.growth(lambda look: look.sockets)),
                ("threads", "", found.growth(lambda look: look.threads)),
                ("tasks", "", found.growth(lambda look: look.tasks)),
                ("write-ahead log", "MB", found.growth(lambda look: look.wal)),
            )
        ),
        Row(name="journal, an incident", measured=found.looks[-1].journal / incidents * 1000, unit="kB"),
        Row(name="lines of the log, an incident", measured=sum(found.log.values()) / incidents, unit=""),
        Row(name="the line that is there most, an incident", measured=count / incidents, unit="", note=most[:80]),
    ]


OPEN = tuple(state for state in RunState if state.open)


def soak(folder: Path, goes_on: Callable[[int], bool]) -> Soaked:
    """Incidents as long as ``goes_on`` says so of how many there were."""
    return rehearse(lambda clock: _live(clock, folder, goes_on), start=START)


async def _live(clock: LeapingClock, folder: Path, goes_on: Callable[[int], bool]) -> Soaked:
    found, began = Soaked(), clock.now()
    settings = {"playbooks": [str(_playbook(folder))]}
    cluster = Simulation(nodes=NODES, clock=clock, seed=1, timing=SLOW, history=HISTORY)
    async with cluster as simulation, House(simulation, clock, folder, settings) as house:
        simulation.add_receiver(Receiver(url=house.webhook, token=house.tokens["webhook"]))
        while goes_on(len(found.looks)):
            await _incident(simulation, house, clock, f"node-{2 + len(found.looks) % (NODES - 1)}")
            await clock.sleep(APART)
            _forget(simulation)
            found.looks.append(_look(house))
        found.simulated = clock.now() - began
        found.states = await _states(house)
    found.log = Counter(" ".join(_PARTS.sub("", line).split()) for line in house.log.read_text(encoding="utf-8").splitlines())
    return found


def _forget(simulation: Simulation) -> None:
    """What the simulated cluster keeps for tests to ask for, which would be most of what grows: 50,000 calls, all notifications."""
    simulation.cluster.request_log.clear()
    simulation.alertmanager.sent.clear()


def _playbook(folder: Path) -> Path:
    """The shipped one, that does not lose patience with a node."""
    shipped = PLAYBOOK.read_text(encoding="utf-8")
    if _LIMITS not in shipped:
        raise RuntimeError(f"{PLAYBOOK} has other limits than this benchmark knows")
    lines = [line for line in shipped.replace(_LIMITS, _PATIENT).splitlines() if not line.lstrip().startswith("runbook:")]
    changed = folder / "patient.yaml"
    changed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return changed


async def _incident(simulation: Simulation, house: House, clock: LeapingClock, node: str) -> None:
    """One agent hangs, until the daemon replaced it, the alert is gone and nothing is left to do; somebody looks on and leaves."""
    simulation.cluster.kill_agent(node)
    until, seen = clock.now() + _LONGEST, False
    while clock.now() < until:
        await clock.sleep(_EVERY)
        opened = (await house.client.runs(state=OPEN)).items
        if opened and not seen:
            await _look_on(house, opened[0].id)
        seen = seen or bool(opened)
        if seen and not opened and simulation.cluster.agent_works(node) and not (await house.client.alerts()).items:
            return
    raise RuntimeError(f"the incident on {node} is not over after {_LONGEST}")


async def _look_on(house: House, run: str) -> None:
    headers = {"Authorization": f"Bearer {house.tokens['read']}"}
    async with aiohttp.ClientSession(house.daemon.url, headers=headers) as session:
        for path in ("/", f"/runs/{run}", "/metrics"):
            async with session.get(path) as answer:
                await answer.read()
        with suppress(aiohttp.ClientError):
            async with session.get(f"/api/v1/runs/{run}/watch") as answer:
                await answer.content.readline()


async def _states(house: House) -> Counter[str]:
    found: Counter[str] = Counter()
    cursor = None
    while True:
        page = await house.client.runs(limit=500, cursor=cursor)
        found.update(run.state.value for run in page.items)
        cursor = page.next
        if cursor is None:
            return found


def _opened() -> list[str]:
    """What every descriptor of this process is."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists the others is closed by now
            found.append(str(one.readlink()))
    return found


def _look(house: House) -> Look:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024 / 1e6
    opened = _opened()
    sockets = sum(name.startswith("socket:") for name in opened)
    journal, wal = house.folder / "journal.db", house.folder / "journal.db-wal"
    return Look(
        memory=memory,
        blocks=sys.getallocatedblocks(),
        files=len(opened) - sockets,
        sockets=sockets,
        threads=len(list(Path("/proc/self/task").iterdir())),
        tasks=len(asyncio.all_tasks()),
        journal=journal.stat().st_size / 1e6,
        wal=wal.stat().st_size / 1e6 if wal.exists() else 0.0,
    )
