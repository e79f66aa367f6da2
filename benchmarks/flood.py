"""10,000 alerts in 10 s on 1,000 nodes, each of which a playbook takes: how fast they are taken and decided, at what cost in memory.

The nodes are those of a simulated cluster in a process of its own, so every target is looked up and every gate judges. The playbook's one
step changes nothing; the gates let as many runs begin as the settings allow and refuse the rest, so decisions are what is measured.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import load
from benchmarks.processes import Daemon, SimulatedCluster
from benchmarks.table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALERTS", "CONNECTIONS", "LONGEST_WAIT", "NODES", "WITHIN", "flooded", "rows"]

NODES = 1_000
ALERTS = 10_000
WITHIN = 10.0
CONNECTIONS = 16
LONGEST_WAIT = 600.0
GROWTH_MB = 100
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: flood}
when:
  alerts: [alertname="CiliumNodeLatencyHigh"]
  target: {kind: Node}
mode: auto
ladder:
- name: look
  steps:
  - look: {action: wait, for: 1s}
"""


def rows() -> list[Row]:
    with flooded() as daemon:
        return _flooded(daemon)


@contextmanager
def flooded() -> Iterator[Daemon]:
    """A daemon that is ready, on a simulated cluster of so many nodes, with the playbook."""
    with tempfile.TemporaryDirectory(prefix="flood-") as name:
        folder = Path(name)
        (folder / "playbooks").mkdir()
        (folder / "playbooks" / "flood.yaml").write_text(PLAYBOOK)
        with SimulatedCluster(folder, nodes=NODES, bare=True) as cluster:
            cluster.wait_until_open()
            url = cluster.url
            more = f"playbooks: [playbooks]\nalertmanager: {{url: '{url}/alertmanager'}}"
            with Daemon(folder, kubernetes=url, more=more) as daemon:
                daemon.wait_until_ready()
                yield daemon


def _flooded(daemon: Daemon) -> list[Row]:
    rest = daemon.memory()
    bodies = ALERTS // load.ALERTS
    with load.Generator() as generator:
        generator.prepare(bodies=bodies, nodes=NODES)
        began = time.perf_counter()
        answered = generator.run(daemon.port, seconds=WITHIN, connections=CONNECTIONS, requests=bodies)
        taken = sum(number for status, number in answered["statuses"].items() if status == "200")
        daemon.wait_until_decided(LONGEST_WAIT)
        took = time.perf_counter() - began
    peak = daemon.memory("VmHWM")
    without = taken * load.ALERTS - daemon.ask("SELECT count(*) FROM decision")
    targets = daemon.ask("SELECT count(DISTINCT target) FROM decision WHERE target IS NOT NULL")
    return [
        Row(name=f"{ALERTS:,} alerts taken", measured=answered["seconds"], unit="s", aim=WITHIN),
        Row(name="answered otherwise than 200", measured=bodies - taken, unit="webhooks", aim=0),
        Row(name="all decided after", measured=took, unit="s", note=f"{ALERTS / took:,.0f} alerts/s on {targets:,} targets"),
        Row(name="never decided", measured=without, unit="alerts", aim=0),
        Row(name="targets", measured=targets, unit="nodes", aim=NODES, at_least=True),
        Row(name="memory at its peak, above rest", measured=peak - rest, unit="MB", aim=GROWTH_MB, note=f"at rest {rest:.0f} MB"),
    ]
