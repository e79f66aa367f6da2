"""How time and memory grow with nodes, pods, alerts, open runs and history: each doubled four times while the others stay as they are.

Time is the daemon's CPU time, which other work on the machine changes little. Nodes and pods are those of a simulated cluster without
Cilium in a process of its own; what grows with them is the reading of a drain's gates (a dry run by hand). Alerts are decided by a daemon
without a cluster to ask, each once. Open runs wait in a step, and history is of runs that ended, put in by SQL; with both, what is measured
is one judgement (``match``: every gate, nothing changed), and with history the first page of runs and the start too. The slope is how much
twice as many cost: 2.0 is in proportion, 1.0 is nothing.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
import urllib.request
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import load
from benchmarks.cluster import gates
from benchmarks.processes import Daemon, SimulatedCluster
from benchmarks.table import Row
from remediator.journal.rows import run_row
from remediator.model import Run, RunState, Target, Trigger, TriggerKind, encode
from remediator.sim.alerting.alert import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["rows"]

NODES = (125, 250, 500, 1_000, 2_000)
PODS = (3_125, 6_250, 12_500, 25_000, 50_000)
ALERTS = (1_250, 2_500, 5_000, 10_000, 20_000)
OPEN = (50, 100, 200, 400, 800)
PAST = (12_500, 25_000, 50_000, 100_000, 200_000)
BASE_NODES, BASE_PODS = 250, 3_125
STEEPEST = 2.2
"""More than in proportion, with room for a machine that does other things too."""
JUDGEMENTS = 50
_PATIENCE = 600.0
_PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: patient}
when:
  alerts: [alertname="Slow"]
  target: {kind: Node}
mode: auto
gates: {cooldown: 1h, attempts: {max: 2, per: target, within: 6h}}
deadline: 1d
ladder:
- name: wait
  steps:
  - wait: {action: wait, for: 6h, timeout: 7h}
"""
_MORE = """\
playbooks: [growth.yaml]
alertmanager: {{url: '{url}/alertmanager'}}
limits: {{concurrent_runs: 1000, storm: {{episodes: 500, within: 1s}}}}
"""


def rows() -> list[Row]:
    found = _rows("nodes", NODES, [_cluster(nodes, BASE_PODS) for nodes in NODES])
    found += _rows("pods", PODS, [_cluster(BASE_NODES, pods) for pods in PODS])
    found += _rows("alerts", ALERTS, [_alerts(alerts) for alerts in ALERTS])
    found += _rows("open runs", OPEN, [_open(runs) for runs in OPEN])
    return found + _rows("runs of history", PAST, [_past(runs) for runs in PAST])


def _rows(what: str, sizes: tuple[int, ...], measured: list[dict[str, tuple[float, str]]]) -> list[Row]:
    """One a size and thing; the last of each has the slope over all doublings."""
    found = []
    for name, (_, unit) in measured[0].items():
        values = [one[name][0] for one in measured]
        rows = [
            Row(name=f"{size:,} {what}: {name}", measured=value, unit=unit, series=f"{what}: {name}", at=size)
            for size, value in zip(sizes, values, strict=True)
        ]
        slope = (values[-1] / values[0]) ** (1 / (len(sizes) - 1)) if values[0] else 0.0
        last = Row(
            name=rows[-1].name,
            measured=values[-1],
            unit=unit,
            series=rows[-1].series,
            at=sizes[-1],
            beside=f"{sizes[0]:,}",
            compared=values[0],
            aim=STEEPEST ** (len(sizes) - 1),
            of_ratio=True,
            note=f"twice as many cost {slope:.2f} times as much",
        )
        found += [*rows[:-1], last]
    return found


def _cluster(nodes: int, pods: int) -> dict[str, tuple[float, str]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
        cluster = stack.enter_context(_bare(folder, nodes, pods))
        daemon = stack.enter_context(Daemon(folder, kubernetes=cluster.url))
        daemon.wait_until_ready()
        gates(daemon, "node-2")
        before = daemon.cpu()
        for number in (3, 4, 5):
            gates(daemon, f"node-{number}")
        return {"gates of a drain, CPU": ((daemon.cpu() - before) / 3, "s"), **_memory(daemon)}


@contextmanager
def _bare(folder: Path, nodes: int, pods: int = 0) -> Iterator[SimulatedCluster]:
    with SimulatedCluster(folder, nodes=nodes, pods=pods, bare=True) as cluster:
        cluster.wait_until_open(_PATIENCE)
        yield cluster


def _memory(daemon: Daemon) -> dict[str, tuple[float, str]]:
    return {"memory at its peak": (daemon.memory("VmHWM"), "MB")}


def _alerts(alerts: int) -> dict[str, tuple[float, str]]:
    with tempfile.TemporaryDirectory(prefix="growth-") as folder, Daemon(Path(folder)) as daemon, load.Generator() as generator:
        daemon.wait_until_ready()
        bodies = alerts // load.ALERTS
        generator.prepare(bodies=bodies)
        before = daemon.cpu()
        generator.run(daemon.port, seconds=_PATIENCE, connections=8, requests=bodies)
        daemon.wait_until_decided(_PATIENCE)
        return {"decided, CPU": (daemon.cpu() - before, "s"), **_memory(daemon)}


def _open(runs: int) -> dict[str, tuple[float, str]]:
    """With so many runs that wait in their step."""
    with _patient(runs) as (_, cluster, start), start() as daemon:
        daemon.wait_until_ready()
        before = daemon.cpu()
        for first in range(0, runs, load.ALERTS):
            alerts = [_alert(f"node-{number + 1}") for number in range(first, min(runs, first + load.ALERTS))]
            cluster.post("/alertmanager/api/v2/alerts", alerts)
            daemon.call("POST", "/api/v1/alerts", _payload(alerts))
        daemon.wait_until_decided(_PATIENCE)
        _until(lambda: daemon.ask("SELECT count(*) FROM run") >= runs)
        began = daemon.cpu() - before
        return {"all begun, CPU": (began, "s"), **_judged(daemon, cluster, runs + 1), **_memory(daemon)}


def _past(runs: int) -> dict[str, tuple[float, str]]:
    """With so many runs that ended, the last of them yesterday."""
    with _patient(BASE_NODES) as (folder, cluster, start):
        with start() as daemon:
            daemon.wait_until_ready()
            daemon.stop()
        with closing(sqlite3.connect(folder / "journal.db")) as store, store:
            store.executemany("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _ended(runs))
        with start() as daemon:
            daemon.wait_until_ready()
            ready, before = daemon.cpu(), daemon.cpu()
            for _ in range(JUDGEMENTS):
                daemon.call("GET", "/api/v1/runs?limit=50")
            page = (daemon.cpu() - before) / JUDGEMENTS * 1000
            judged = _judged(daemon, cluster, 7)
            return {"start to ready, CPU": (ready, "s"), "first page of runs, CPU": (page, "ms"), **judged, **_memory(daemon)}


@contextmanager
def _patient(nodes: int) -> Iterator[tuple[Path, _Cluster, Callable[[], Daemon]]]:
    """A folder, a cluster with a node more than that, and a daemon to start there."""
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        folder = Path(name)
        (folder / "growth.yaml").write_text(_PLAYBOOK)
        with _bare(folder, nodes + 1) as cluster:
            yield folder, _Cluster(cluster), lambda: Daemon(folder, kubernetes=cluster.url, more=_MORE.format(url=cluster.url))


class _Cluster:
    """The Alertmanager of the simulated cluster, from outside."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._url = cluster.url

    def post(self, path: str, body: Any) -> None:
        data = json.dumps(body).encode()
        urllib.request.urlopen(urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}), timeout=60).close()


def _judged(daemon: Daemon, cluster: _Cluster, node: int) -> dict[str, tuple[float, str]]:
    """CPU of one judgement on a node."""
    alert = _alert(f"node-{node}")
    cluster.post("/alertmanager/api/v2/alerts", [alert])
    before = daemon.cpu()
    for _ in range(JUDGEMENTS):
        daemon.call("POST", "/api/v1/match", {"labels": alert["labels"]})
    return {"a judgement, CPU": ((daemon.cpu() - before) / JUDGEMENTS * 1000, "ms")}


def _alert(node: str) -> dict[str, Any]:
    began = datetime.now(UTC) - timedelta(minutes=1)
    return {"labels": {"alertname": "Slow", "node": node}, "annotations": {}, "startsAt": began.isoformat(timespec="seconds")}


def _payload(alerts: list[dict[str, Any]]) -> dict[str, Any]:
    more = {"status": "firing", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": ""}
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "remediator",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org",
        "alerts": [{**alert, **more, "fingerprint": fingerprint(alert["labels"])} for alert in alerts],
    }


def _ended(count: int) -> Iterator[tuple[Any, ...]]:
    """A run every 30 s, on the nodes in turn."""
    apart = timedelta(seconds=30)
    first = datetime.now(UTC) - timedelta(days=1) - count * apart
    for number in range(count):
        began = first + number * apart
        run = Run(
            id=f"{number:020d}",
            playbook="patient",
            revision="0123456789ab",
            trigger=Trigger(kind=TriggerKind.ALERT, by="alertmanager"),
            target=Target(kind="Node", name=f"node-{number % BASE_NODES + 1}"),
            state=RunState.HEALED,
            started_at=began,
            ended_at=began + apart,
            deadline=began + timedelta(hours=1),
        )
        yield run_row(run, encode(run).decode())


def _until(look: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while not look():
        if time.perf_counter() > deadline:
            raise RuntimeError("it never came about")
        time.sleep(0.2)
