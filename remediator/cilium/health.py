"""What Prometheus shows of a node after a restart of its agent: whom it cannot reach, who cannot reach it, and its BGP sessions.

In: the door to Prometheus. Out: Readings, each with its age; words about what is not as it should be. The judging is pure. Agents probe
one another's node and health endpoint once in a while, the more nodes the rarer, so a count is proof only if it was scraped two whole probe
intervals after the agent became ready. The health endpoint is a pod of its own behind the node's datapath: peers that reach it are the
canary that Ready alone is not.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from remediator.monitoring import Prometheus

__all__ = ["SESSIONS", "UNREACHABLE", "USUAL", "Reading", "probe_interval", "ratio", "read", "reported_after", "sessions_up", "unreachable"]

UNREACHABLE = ("cilium_unreachable_nodes", "cilium_unreachable_health_endpoints")
"""From an agent's last health report: how many peers, and how many peers' health endpoints, it cannot reach (pkg/metrics)."""
SESSIONS = "cilium_bgp_control_plane_session_state"
"""1 for an established session, else 0; the series ends with the session's configuration (pkg/bgp/metrics)."""
USUAL = 0.5
"""What agents take for ``connectivity-probe-frequency-ratio`` where nobody set it (pkg/defaults)."""


class Reading(Noun, frozen=True, kw_only=True):
    """One series of an agent's metric."""

    node: str
    value: float
    at: datetime
    """When it was scraped, on our clock."""


def ratio(config: Mapping[str, str]) -> float:
    """How rarely agents probe: ``connectivity-probe-frequency-ratio`` of the ConfigMap cilium-config, 0 to 1; anything else counts as 1."""
    try:
        told = float(config.get("connectivity-probe-frequency-ratio") or USUAL)
    except ValueError:
        return 1
    return told if 0 <= told <= 1 else 1


def probe_interval(addresses: int, ratio: float = USUAL) -> timedelta:
    """How long an agent may take to probe every peer once: (10 s + ratio * 100 s) * ln(1 + IPs) (pkg/health/server/prober.go).

    ``addresses``: of the nodes. Each has a health endpoint beside it, which is probed too; secondary addresses are not.
    """
    return timedelta(seconds=10 + 100 * ratio) * math.log1p(2 * max(1, addresses))


def reported_after(addresses: int, ratio: float = USUAL) -> timedelta:
    """How long after something changed every agent's report tells of it: two intervals.

    A round's probes are spread over an interval and shown when the next round begins. The round that is under way may have asked before the
    change, so the first report that knows it everywhere is that of the round after.
    """
    return 2 * probe_interval(addresses, ratio)


async def read(prometheus: Prometheus, selector: str, nodes: Mapping[str, str], now: datetime) -> list[Reading]:
    """The series that ``selector`` finds, by node. ``nodes``: address -> name, for scrapes that write no label ``node``.

    Raises MonitoringError.
    """
    values = await prometheus.query(selector)
    if not values:
        return []
    stamps = await prometheus.query(f"timestamp({selector})")
    ages = {_key(one.labels): timedelta(seconds=one.at.timestamp() - one.value) for one in stamps}
    found = []
    for one in values:
        age = ages.get(_key(one.labels))
        node = one.labels.get("node") or nodes.get(_host(one.labels.get("instance", "")), "")
        if age is not None and node:
            found.append(Reading(node=node, value=one.value, at=now - age))
    return found


def _key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in labels.items() if name != "__name__"))


def _host(instance: str) -> str:
    return instance.rpartition(":")[0].strip("[]") or instance


def unreachable(metric: str, readings: Sequence[Reading], *, node: str, peers: Collection[str], allowed: int, since: datetime) -> str:
    """The node reaches everybody and its peers no longer miss it: counts of at most ``allowed``, scraped after ``since``.

    ``peers``: nodes with a ready agent; what a broken one says is no proof. ``allowed``: nodes that are known to be down besides.
    """
    concerned = [one for one in readings if one.node == node or one.node in peers]
    if not any(one.node == node for one in concerned):
        return f"{metric} of {node} is not scraped yet"
    late = sorted({one.node for one in concerned if one.at < since})
    if late:
        return f"{metric} is older than two probe intervals after the restart for {_some(late)}"
    missing = sorted({f"{one.node} ({one.value:g})" for one in concerned if one.value > allowed})
    return f"{metric} is not {allowed} for {_some(missing)}" if missing else ""


def sessions_up(readings: Sequence[Reading], *, node: str, before: int, since: datetime) -> str:
    """As many BGP sessions of the node are up as were before, by a sample of the new agent."""
    up = sum(one.node == node and one.value == 1 and one.at >= since for one in readings)
    return f"{up} of {before} BGP sessions are up by {SESSIONS}" if up < before else ""


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
