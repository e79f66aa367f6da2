"""Where observations of pairs may come from, and the PromQL that asks for them. No text of an alert ever gets into a query.

In: a symptom, the limit, how old a sample may be. Out: Questions, each with the labels that name the observer and the peer. Facts:

- Cilium's gauges per pair exist up to 1.17 (``pkg/health/server/server.go``). A latency of -1 means no sample and 0 a failed
  probe, which stands here with 10 s as in Cilium's own histogram. ``node_connectivity_status`` is 0 too if only the agent does not answer.
- SuperQ/smokeping_prober: ``smokeping_response_duration_seconds`` (histogram) and ``smokeping_requests_total``, labels ip, host; the
  observer is the scraped target. 0.1 % of loss needs 1,000 pings, so small limits look at 20 minutes.
- bloomberg/goldpinger: ``goldpinger_peers_response_time_s`` (``pkg/goldpinger/stats.go``; newer ones observe a failed call with its
  timeout), labels goldpinger_instance, host_ip. Its first bucket ends at 5 ms, so a quantile says nothing below it: the mean does.
- Cilium's histogram (1.17 and newer) names the observer and no peer: weak evidence, never enough to blame anybody.
- ``network_pair_latency_seconds``, ``network_pair_loss_ratio`` and ``network_pair_reachable`` with ``node`` and ``target_node``: what a
  cluster's own recording rules can make of any other prober. The last is 1 where pods of the one reach pods of the other, else 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from remediator.attribution.model import UNREACHABLE_SECONDS, Symptom
from remediator.model import Noun

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Question", "questions"]

_FINE: Final = 0.005
"""A loss below this needs many pings to be seen."""
_NEAR: Final = 'target_node_type="remote_intra_cluster"'
_REMOTE: Final = f'{_NEAR},type="node"'
_CILIUM_PEER: Final = ("target_node_name",)
_PROBER: Final = ("node", "goldpinger_instance", "instance")
_PINGED: Final = ("target_node", "host", "ip", "host_ip")


class Question(Noun, frozen=True, kw_only=True):
    """One query to Prometheus and how to read its answer."""

    source: str
    promql: str
    observer: tuple[str, ...]
    """Labels that may name the observer, the best first: a node's name, or an address of it with or without a port."""
    peer: tuple[str, ...] = ()
    """The same for the peer; empty where the answer is about all peers together."""


def questions(symptom: Symptom, limit: float, max_age: timedelta) -> tuple[Question, ...]:
    """Everything that may be asked about ``symptom``. A source that the cluster lacks answers with nothing."""
    seconds = f"{max_age.total_seconds():g}"
    match symptom:
        case Symptom.LATENCY:
            return _latency(seconds)
        case Symptom.LOSS:
            return _loss(seconds, "20m" if limit < _FINE else "5m")
        case Symptom.REACHABILITY:
            return _reachability(seconds)


def _fresh(value: str, stamped: str, seconds: str) -> str:
    """``value`` where the raw series behind it, which has the same labels, has a sample that is young enough."""
    return f"({value}) and (time() - timestamp({stamped}) <= {seconds})"


def _cilium(promql: str) -> Question:
    return Question(source="cilium pair gauges", promql=promql, observer=("source_node_name", "node"), peer=_CILIUM_PEER)


def _recorded(promql: str) -> Question:
    return Question(source="recorded pairs", promql=promql, observer=("node",), peer=("target_node",))


def _smokeping(promql: str) -> Question:
    return Question(source="smokeping_prober", promql=promql, observer=_PROBER, peer=_PINGED)


def _overall(promql: str) -> Question:
    return Question(source="cilium per observer", promql=promql, observer=("node", "source_node_name", "instance"))


def _latency(seconds: str) -> tuple[Question, ...]:
    path = f'cilium_node_connectivity_latency_seconds{{{_REMOTE},protocol="icmp",address_type="primary"}}'
    pinged, sent = "smokeping_response_duration_seconds", "smokeping_requests_total"
    called = 'goldpinger_peers_response_time_s_{}{{call_type="ping"}}'
    histogram = 'cilium_node_health_connectivity_latency_seconds_bucket{type="node",protocol="icmp"}[15m]'
    mean = f"rate({called.format('sum')}[5m]) / rate({called.format('count')}[5m])"
    nothing_back = f"(rate({pinged}_count[5m]) == 0) + {UNREACHABLE_SECONDS:g} and rate({sent}[5m]) > 0"
    return (
        _cilium(_fresh(f"{path} > 0", path, seconds)),
        _cilium(_fresh(f"({path} == 0) + {UNREACHABLE_SECONDS:g}", path, seconds)),
        _recorded(_fresh("network_pair_latency_seconds", "network_pair_latency_seconds", seconds)),
        _smokeping(_fresh(f"histogram_quantile(0.95, rate({pinged}_bucket[5m]))", f"{pinged}_count", seconds)),
        _smokeping(_fresh(nothing_back, sent, seconds)),
        Question(source="goldpinger", promql=_fresh(mean, called.format("count"), seconds), observer=_PROBER, peer=_PINGED),
        _overall(f"histogram_quantile(0.9, sum by (node, source_node_name, instance, le) (rate({histogram})))"),
    )


def _loss(seconds: str, window: str) -> tuple[Question, ...]:
    back, sent = "smokeping_response_duration_seconds_count", "smokeping_requests_total"
    return (
        _recorded(_fresh("network_pair_loss_ratio", "network_pair_loss_ratio", seconds)),
        _smokeping(_fresh(f"clamp_min(1 - rate({back}[{window}]) / rate({sent}[{window}]), 0)", sent, seconds)),
    )


def _reachability(seconds: str) -> tuple[Question, ...]:
    """What Cilium's probes reach, and pods. Pings are left out: they get through to a node whose agent or health endpoint is dead.

    A pair is reached if the node (its agent) and its health endpoint are, of which the alert tells; the older one of both says how fresh.
    """
    status = f'cilium_node_connectivity_status{{{_NEAR},type=~"node|endpoint"}}'
    return (
        _cilium(f"(1 - min without (type) ({status})) and (time() - min without (type) (timestamp({status})) <= {seconds})"),
        _recorded(_fresh("1 - network_pair_reachable", "network_pair_reachable", seconds)),
        _overall(_fresh("cilium_unreachable_nodes > bool 0", "cilium_unreachable_nodes", seconds)),
    )
