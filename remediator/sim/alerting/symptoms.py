"""Alerting rules that only some scenarios have, beside the usual ones of ``rules``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.alerting.rules import Rule, query_rule
from remediator.sim.controllers.cilium import AGENT_TAINT
from remediator.sim.objects import dig, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.cluster import Cluster
    from remediator.sim.prometheus.server import Prometheus

__all__ = ["AGENT_TAINTED", "LATENCY_WARNING", "LOSS", "SCRAPE_DOWN"]


def _tainted(cluster: Cluster, _prometheus: Prometheus) -> Iterator[dict[str, str]]:
    for node in cluster.store.list(("", "nodes")):
        if any(taint.get("key") == AGENT_TAINT for taint in dig(node, "spec.taints") or ()):
            yield {"node": name_of(node)}


AGENT_TAINTED = Rule(
    "CiliumAgentNotReadyTaint",
    _tainted,
    {"severity": "warning"},
    {"summary": "{node} takes no new pods, since its agent is not ready"},
    timedelta(seconds=30),
)
SCRAPE_DOWN = query_rule(
    "CiliumAgentScrapeDown",
    'up{job="cilium-agent"} == 0',
    labels={"severity": "warning"},
    annotations={"summary": "The metrics of the agent on {node} cannot be scraped"},
    hold=timedelta(seconds=30),
)
LATENCY_WARNING = query_rule(
    "NodeLatencyWarning",
    "quantile by (target_node) (0.5, network_pair_latency_seconds) > 0.005",
    labels={"severity": "warning"},
    annotations={"summary": "{target_node} is a little slow for more than half of its observers"},
    hold=timedelta(minutes=1),
)
LOSS = query_rule(
    "NodePacketLossCritical",
    "quantile by (target_node) (0.5, network_pair_loss_ratio) > 0.01",
    labels={"severity": "critical"},
    annotations={"summary": "More than half of its observers lose packets to {target_node}"},
    hold=timedelta(minutes=1),
)
