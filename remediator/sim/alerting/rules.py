"""Alerting rules: conditions over the simulated state that become alerts when they hold long enough.

In comes a scrape's end; out go alerts to the Alertmanager, as Prometheus sends them: firing ones again and again, a resolved one with its
end. A condition is Python over the cluster or a query to the simulated Prometheus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.alerting.alert import Alert
from remediator.sim.objects import is_ready
from remediator.sim.prometheus.series import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from remediator.sim.alerting.alertmanager import Alertmanager
    from remediator.sim.cluster import Cluster
    from remediator.sim.prometheus.server import Prometheus

__all__ = ["Rule", "RuleEngine", "default_rules", "pair_latency", "query_rule"]


@dataclass(frozen=True)
class Rule:
    """One alerting rule."""

    name: str
    condition: Callable[[Cluster, Prometheus], Iterable[dict[str, str]]]
    """The labels of everything that it holds for now."""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    """``{label}`` in a text is replaced by the label's value."""
    hold: timedelta = timedelta(0)
    """How long it must hold (``for``)."""


def query_rule(name: str, query: str, **more: object) -> Rule:
    """A rule over a query of the simulated Prometheus; the labels of each result are the alert's."""

    def condition(_cluster: Cluster, prometheus: Prometheus) -> Iterator[dict[str, str]]:
        found = prometheus.query(query)
        if isinstance(found, list):
            for element in found:
                yield dict(element[1])

    return Rule(name, condition, **more)  # type: ignore[arg-type] # keyword pass-through to the dataclass


@dataclass
class _Instance:
    labels: dict[str, str]
    since: datetime
    fired: datetime | None = None


class RuleEngine:
    """Evaluates rules and tells the Alertmanager."""

    def __init__(self, cluster: Cluster, prometheus: Prometheus, alertmanager: Alertmanager) -> None:
        self._cluster = cluster
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self.rules: list[Rule] = [*default_rules()]
        self._active: dict[str, dict[tuple[tuple[str, str], ...], _Instance]] = {}
        prometheus.extra.append(self._series)
        prometheus.after_scrape.append(self.evaluate)

    def evaluate(self) -> None:
        """Look at every rule once."""
        alerts = [alert for rule in self.rules for alert in self._rule(rule)]
        if alerts:
            self._alertmanager.receive(alerts)

    def _rule(self, rule: Rule) -> Iterator[Alert]:
        now = self._cluster.clock.now()
        active = self._active.setdefault(rule.name, {})
        holds = {}
        for found in rule.condition(self._cluster, self._prometheus):
            labels = {**found, **rule.labels, "alertname": rule.name}
            holds[tuple(sorted(labels.items()))] = labels
        for key in [key for key in active if key not in holds]:
            ended = active.pop(key)
            if ended.fired is not None:
                yield self._alert(rule, ended, ended.fired, now)
        for key, labels in holds.items():
            instance = active.setdefault(key, _Instance(labels, now))
            if instance.fired is None and now - instance.since >= rule.hold:
                instance.fired = now
            if instance.fired is not None:
                yield self._alert(rule, instance, instance.fired, now + timedelta(minutes=4))

    def _alert(self, rule: Rule, instance: _Instance, start: datetime, end: datetime) -> Alert:
        annotations = {key: text.format_map(instance.labels) for key, text in rule.annotations.items()}
        url = f"http://prometheus.invalid/graph?g0.expr={rule.name}"
        return Alert(instance.labels, annotations, start, end, self._cluster.clock.now(), url)

    def _series(self) -> Iterator[Sample]:
        """The series ALERTS."""
        for instances in self._active.values():
            for instance in instances.values():
                state = "firing" if instance.fired else "pending"
                yield Sample("ALERTS", {**instance.labels, "alertstate": state}, 1)


def pair_latency() -> Rule:
    """One alert for each slow direction of each pair: half of them name a victim of a slow node as the one that is slow."""
    return Rule(
        "CiliumPairLatencyCritical",
        _slow_pairs,
        {"severity": "critical"},
        {"summary": "{node} sees {target_node} answer slowly"},
        timedelta(seconds=30),
    )


def default_rules() -> Iterator[Rule]:
    """The rules that every simulated cluster has."""
    yield Rule(
        "CiliumAgentDown",
        _agents_down,
        {"severity": "critical", "job": "cilium-agent"},
        {
            "summary": "The Cilium agent on {node} is not working",
            "description": "The agent's pod on {node} exists but is not ready: no new policy, identity or endpoint reaches that node.",
        },
        timedelta(seconds=30),
    )
    yield Rule(
        "NodeFailure",
        _nodes_down,
        {"severity": "critical"},
        {"summary": "{node} is not Ready"},
        timedelta(minutes=1),
    )
    yield Rule(
        "NodeLatencyCritical",
        _slow_nodes,
        {"severity": "critical"},
        {"summary": "{target_node} is slow for more than half of its observers"},
        timedelta(minutes=1),
    )


def _agents_down(cluster: Cluster, _prometheus: Prometheus) -> Iterator[dict[str, str]]:
    for node in cluster.node_names():
        pod = cluster.agent_pod(node)
        if pod is not None and not is_ready(pod):
            yield {"node": node}


def _nodes_down(cluster: Cluster, _prometheus: Prometheus) -> Iterator[dict[str, str]]:
    for node in cluster.store.list(("", "nodes")):
        if not is_ready(node):
            yield {"node": str(node["metadata"]["name"])}


def _slow_nodes(_cluster: Cluster, prometheus: Prometheus) -> Iterator[dict[str, str]]:
    found = prometheus.query("quantile by (target_node) (0.5, network_pair_latency_seconds) > 0.020")
    if isinstance(found, list):
        for element in found:
            yield dict(element[1])


def _slow_pairs(_cluster: Cluster, prometheus: Prometheus) -> Iterator[dict[str, str]]:
    found = prometheus.query('cilium_node_connectivity_latency_seconds{target_node_type="remote_intra_cluster"} > 0.020')
    if isinstance(found, list):
        for element in found:
            labels = dict(element[1])
            yield {"node": labels["source_node_name"], "target_node": labels["target_node_name"]}
