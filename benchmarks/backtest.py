"""100,000 alerts of a month replayed through the shipped playbooks: how long it takes, reading the export included.

Deliveries of ten alerts each, of 30 days, on 200 nodes: new episodes, repeats, ends, and alerts that no playbook takes.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks.table import Row
from remediator.actions import actions
from remediator.backtest import Backtest
from remediator.gates import Limits, gates
from remediator.model import Alert, AlertStatus, Delivery, Mode, encode, from_json
from remediator.playbook import Library, shipped
from remediator.settings import Breaker, Storm

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rows"]

ALERTS = 100_000
IN_ONE = 10
NODES = 200
NAMES = ("CiliumAgentDown", "CiliumEndpointsNotReady", "NodeLatencyCritical", "CiliumOperatorDown", "NodeFailure", "NobodyTakesThis")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
AIM_S = 60


def rows() -> list[Row]:
    texts = [encode(delivery) for delivery in _deliveries()]
    library = Library.load((shipped(),), actions=actions(), gates=gates())
    breaker, storm = Breaker(failures=1000, runs=10_000), Storm(episodes=500)
    eager = Limits(concurrent_runs=100, concurrent_disruptive=100, disruptive_per_hour=1000, breaker=breaker, storm=storm)
    return [_measure("", texts, library, Limits()), _measure(", limits that let nearly all of it run", texts, library, eager)]


def _measure(how: str, texts: list[bytes], library: Library, limits: Limits) -> Row:
    replay = Backtest(library, limits=limits, mode_of=lambda _: Mode.AUTO)
    began = time.perf_counter()
    for text in texts:
        replay.take(from_json(text, Delivery))
    found = replay.result()
    took = time.perf_counter() - began
    said = ", ".join(f"{count:,} {name}" for name, count in found.decisions.items())
    note = f"{len(found.items):,} episodes: {said}"
    return Row(name=f"backtest: {found.alerts:,} alerts{how}", measured=took, unit="s", aim=AIM_S, note=note)


def _deliveries() -> Iterator[Delivery]:
    count = ALERTS // IN_ONE
    for number in range(count):
        at = BEGAN + MONTH * number / count
        yield Delivery(
            id=f"{number:020d}",
            received_at=at,
            receiver="remediator",
            group_key="",
            status="firing",
            truncated=0,
            alerts=tuple(_alert(number, index, at) for index in range(IN_ONE)),
        )


def _alert(number: int, index: int, at: datetime) -> Alert:
    """Each firing comes three times: as it begins, again, and as it ends."""
    firing, turn = divmod(number, 3)
    name = NAMES[(firing + index) % len(NAMES)]
    node = f"node-{(firing * IN_ONE + index) % NODES}"
    labels = {"alertname": name, "node": node, "k8s_app": "cilium", "severity": "critical", "cluster": "home", "job": "node-exporter"}
    return Alert(
        name=name,
        fingerprint=f"{index:08x}{firing % NODES:08x}",
        starts_at=BEGAN + MONTH * firing * 3 * IN_ONE / ALERTS,
        ends_at=at if turn == 2 else None,
        status=AlertStatus.RESOLVED if turn == 2 else AlertStatus.FIRING,
        labels=labels,
    )
