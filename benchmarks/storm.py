"""10,000 alerts in 10 s for 1,000 targets, three times in a row, each from two peers of an Alertmanager.

The peers are two load generators that send the same alerts at the same time, as fast as they are taken; one more storm comes spread over
the 10 s. Two playbooks take them by turns, and a third takes one
delivery in the midst of each storm: how long that one waits is how fair the storm is to others. Each storm is of new alerts on the same
targets, and begins when the one before is decided. An onlooker asks ``/-/healthy`` and the page of all runs all the time. Oldest: the
longest time from a delivery's arrival on disk to its decisions, from the journal.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.probing import Onlooker
from benchmarks.processes import Daemon, SimulatedCluster
from benchmarks.table import Row

__all__ = ["measure", "rows"]

NODES = 1_000
ALERTS = 10_000
STORMS = 3
WITHIN = 10.0
CONNECTIONS = 8
"""Of each peer."""
LOUD = ("LoudOne", "LoudTwo")
QUIET = "Quiet"
MEMORY_MB = 250
OLDEST_S = 10
AHEAD = 1_000
"""What is judged at the time and a turn of each other queue, twice, since the delivery may come with the end of one commit."""
BACK = 1.1
"""Of the memory at rest after the first storm, within which it is back."""
HEALTH, PAGE = "/-/healthy", "/"
_LONGEST_WAIT = 900.0
_MIDST = 1.0
"""Seconds from a storm's beginning to the other playbook's delivery."""
_AHEAD = """
SELECT max((SELECT count(*) FROM decision o WHERE o.at > d.received_at AND o.id < q.id))
FROM decision q JOIN delivery d ON d.id = q.delivery WHERE q.name = '{quiet}'
"""
_PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {{name: {name}}}
when:
  alerts: [alertname="{alert}"]
  target: {{kind: Node}}
mode: auto
ladder:
- name: look
  steps:
  - look: {{action: wait, for: 1s}}
"""


def rows() -> list[Row]:
    found, spread = measure(NODES, ALERTS, STORMS), measure(NODES, ALERTS, 1, over=WITHIN)
    sent = (2 * ALERTS + load.ALERTS) * STORMS
    last = found["settled"][-1]
    return [
        Row(name=f"{ALERTS:,} alerts from two peers taken, slowest storm", measured=max(found["taken"]), unit="s", aim=WITHIN),
        Row(name="answered otherwise than 200", measured=found["refused"], unit="webhooks", aim=0),
        Row(name="never decided", measured=sent - found["decisions"], unit="alerts", aim=0, note=f"of {sent:,}"),
        Row(
            name="a storm decided after, slowest", measured=max(found["took"]), unit="s", note=f"{sent / sum(found['took']):,.0f} alerts/s"
        ),
        Row(name="oldest undecided delivery", measured=found["oldest"], unit="s", aim=OLDEST_S),
        Row(name="oldest of another playbook's alert", measured=found["quiet"], unit="s", aim=OLDEST_S, note="fairness"),
        Row(
            name="alerts decided between another playbook's delivery and its decisions, most",
            measured=found["ahead"],
            unit="alerts",
            aim=AHEAD,
            note="fairness",
        ),
        Row(name="CPU of the daemon", measured=found["cpu"] / sent * 1000, unit="s", note="for 1,000 alerts"),
        Row(name="deliveries of the loud two, median wait", measured=found["loud"][0], unit="s", beside=LOUD[1], compared=found["loud"][1]),
        Row(name="memory at its peak (RSS)", measured=found["peak"], unit="MB", aim=MEMORY_MB, note=f"at rest {found['rest']:.0f} MB"),
        Row(
            name=f"memory after storm {STORMS}",
            measured=last,
            unit="MB",
            beside="after storm 1",
            compared=found["settled"][0],
            aim=BACK,
            of_ratio=True,
        ),
        Row(name="/-/healthy, slowest", measured=found["healthy"][1], unit="ms", note=f"p50 {found['healthy'][0]:.0f} ms"),
        Row(name="page /, slowest", measured=found["page"][1], unit="ms", note=f"p50 {found['page'][0]:.0f} ms"),
        Row(name="no answer meanwhile", measured=found["failed"], unit="requests", aim=0),
        Row(name="spread over 10 s: oldest undecided delivery", measured=spread["oldest"], unit="s", aim=OLDEST_S),
        Row(name="spread over 10 s: decided after", measured=max(spread["took"]), unit="s"),
        Row(name="spread over 10 s: memory at its peak (RSS)", measured=spread["peak"], unit="MB", aim=MEMORY_MB),
    ]


def measure(nodes: int, alerts: int, storms: int, *, over: float = 0.0) -> dict[str, Any]:
    """Everything that ``rows`` shows, by name: s, MB, ms; of each storm where there is more than one. ``over``: seconds that each takes."""
    with tempfile.TemporaryDirectory(prefix="storm-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "playbooks").mkdir()
        for alert in (*LOUD, QUIET):
            (folder / "playbooks" / f"{alert}.yaml").write_text(_PLAYBOOK.format(name=alert.lower(), alert=alert))
        cluster = stack.enter_context(SimulatedCluster(folder, nodes=nodes, bare=True))
        cluster.wait_until_open()
        more = f"playbooks: [playbooks]\nalertmanager: {{url: '{cluster.url}/alertmanager'}}"
        daemon = stack.enter_context(Daemon(folder, kubernetes=cluster.url, more=more))
        daemon.wait_until_ready()
        peers = [stack.enter_context(load.Generator()) for _ in range(2)]
        alone = stack.enter_context(load.Generator())
        spent = daemon.cpu()
        found: dict[str, Any] = {"rest": daemon.memory(), "taken": [], "took": [], "settled": [], "refused": 0}
        with Onlooker(daemon, HEALTH, PAGE) as onlooker:
            for number in range(storms):
                _storm(daemon, peers, alone, number, nodes, alerts // load.ALERTS, over, found)
        found |= {path: (onlooker.part(where, 0.5), onlooker.slowest(where)) for path, where in (("healthy", HEALTH), ("page", PAGE))}
        found["cpu"] = daemon.cpu() - spent
        return found | {"failed": sum(onlooker.failed.values()), "peak": daemon.memory("VmHWM"), **_waits(daemon)}


def _storm(daemon: Daemon, peers: list[Any], alone: Any, number: int, nodes: int, bodies: int, over: float, found: dict[str, Any]) -> None:
    for peer in peers:
        peer.prepare(first=number * bodies, bodies=bodies, nodes=nodes, names=LOUD)
    alone.prepare(first=10_000_000 + number, bodies=1, nodes=nodes, names=(QUIET,))
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda one=peer: answers.append(_send(one, daemon, bodies, over))) for peer in peers]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(_MIDST)
    answers.append(alone.run(daemon.port, seconds=WITHIN, connections=1, requests=1))
    for thread in threads:
        thread.join()
    found["taken"].append(max(answer["seconds"] for answer in answers))
    found["refused"] += 2 * bodies + 1 - sum(answer["statuses"].get("200", 0) for answer in answers)
    daemon.wait_until_decided(_LONGEST_WAIT)
    found["took"].append(time.perf_counter() - began)
    time.sleep(2)
    found["settled"].append(daemon.memory())


def _send(peer: load.Generator, daemon: Daemon, bodies: int, over: float) -> dict[str, Any]:
    return peer.run(daemon.port, seconds=WITHIN * 6, connections=CONNECTIONS, requests=bodies, pace=over / bodies)


def _waits(daemon: Daemon) -> dict[str, Any]:
    """From the journal: decisions, and how long deliveries waited for theirs."""
    names = "SELECT delivery, min(name) FROM decision WHERE delivery IS NOT NULL GROUP BY delivery"
    query = f"SELECT n.*, d.received_at, d.decided_at FROM delivery d JOIN ({names}) n ON n.delivery = d.id"
    waits: dict[str, list[float]] = {name: [0.0] for name in (*LOUD, QUIET)}
    for _, name, received, decided in daemon.rows(query):
        waits[name].append((datetime.fromisoformat(decided) - datetime.fromisoformat(received)).total_seconds())
    return {
        "decisions": daemon.ask("SELECT count(*) FROM decision"),
        "oldest": max(max(times) for times in waits.values()),
        "quiet": max(waits[QUIET]),
        "ahead": daemon.ask(_AHEAD.format(quiet=QUIET)),
        "loud": [statistics.median(waits[name]) for name in LOUD],
    }
