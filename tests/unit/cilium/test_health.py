from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.cilium.health import UNREACHABLE, Reading, probe_interval, ratio, read, reported_after, sessions_up, unreachable
from remediator.monitoring import Sample

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
DUE = NOW - timedelta(seconds=30)
PEERS = {"node-1", "node-2"}


def reading(node, value, ago=10):
    return Reading(node=node, value=value, at=NOW - timedelta(seconds=ago))


@pytest.mark.parametrize(("addresses", "seconds"), [(4, 132), (8, 170), (64, 292)])
def test_an_interval_is_that_of_addresses_and_health_endpoints(addresses, seconds):
    assert round(probe_interval(addresses).total_seconds()) == seconds
    assert round(probe_interval(addresses, 1).total_seconds() * 6 / 11) == seconds, "110 s in place of 60"
    assert round(probe_interval(addresses, 0).total_seconds() * 6) == seconds, "10 s in place of 60"


@pytest.mark.parametrize(
    ("told", "rarely"),
    [
        ({}, 0.5),
        ({"connectivity-probe-frequency-ratio": ""}, 0.5),
        ("0", 0),
        ("1", 1),
        ("0.25", 0.25),
        ("often", 1),
        ("-1", 1),
        ("7", 1),
        ("nan", 1),
    ],
)
def test_how_rarely_agents_probe_is_what_they_were_told_and_at_worst_as_rarely_as_can_be(told, rarely):
    assert ratio(told if isinstance(told, dict) else {"connectivity-probe-frequency-ratio": told}) == rarely


@pytest.mark.parametrize("nodes", [1, 3, 8, 64])
@pytest.mark.parametrize("into", [0.01, 0.5, 0.99])
def test_a_report_tells_of_a_change_everywhere_once_a_whole_round_began_after_it(nodes, into):
    """An agent as it is written: a round's probes are spread over its interval, and its report is shown when the next round begins."""
    interval = probe_interval(nodes).total_seconds()
    changed = into * interval
    asked = [[interval * (turn + n / (2 * nodes)) for n in range(2 * nodes)] for turn in range(4)]  # when each address was asked, by round
    shown = max(interval * (turn + 1) for turn in range(4) if interval * (turn + 1) <= changed + reported_after(nodes).total_seconds())
    assert all(at >= changed for at in asked[round(shown / interval) - 1])
    too_early = changed + interval
    first = max(turn for turn in range(4) if interval * (turn + 1) <= too_early)
    assert any(at < changed for at in asked[first]), "after one interval alone, the report may be of a round that began before"


def judged(*readings, allowed=0):
    return unreachable(UNREACHABLE[0], readings, node="node-3", peers=PEERS, allowed=allowed, since=DUE)


def test_after_unreachable_counts_are_zero_here_and_at_the_peers():
    assert judged(reading("node-3", 0), reading("node-1", 0), reading("node-2", 0)) == ""


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        ([reading("node-1", 0)], "of node-3 is not scraped yet"),
        ([reading("node-3", 1), reading("node-1", 0)], "node-3 (1)"),
        ([reading("node-3", 0), reading("node-1", 1)], "node-1 (1)"),
        ([reading("node-3", 0, ago=31), reading("node-1", 0)], "older than two probe intervals after the restart for node-3"),
        ([reading("node-3", 0), reading("node-2", 0, ago=60)], "older than two probe intervals after the restart for node-2"),
    ],
)
def test_after_what_is_missing_or_old_is_no_proof(readings, said):
    assert said in judged(*readings)


def test_a_peer_without_a_ready_agent_proves_nothing_and_a_known_loss_is_allowed():
    assert judged(reading("node-3", 0), reading("node-9", 4, ago=900)) == ""
    assert judged(reading("node-3", 1), reading("node-1", 1), allowed=1) == ""


def test_after_as_many_bgp_sessions_are_up_as_before():
    two = [reading("node-3", 1), reading("node-3", 1), reading("node-1", 1)]
    assert sessions_up(two, node="node-3", before=2, since=DUE) == ""
    assert sessions_up(two[1:], node="node-3", before=2, since=DUE).startswith("1 of 2")
    assert sessions_up([reading("node-3", 1, ago=60)], node="node-3", before=1, since=DUE).startswith("0 of 1")
    assert sessions_up([], node="node-3", before=0, since=DUE) == ""


class Canned:
    """A Prometheus with two agents: one scraped with the label node, one without."""

    def __init__(self, *labels):
        self.labels = labels

    async def query(self, promql):
        stamps = promql.startswith("timestamp(")
        return [Sample(labels=labels, value=NOW.timestamp() - 42 if stamps else 3, at=NOW) for labels in self.labels]


async def test_series_are_told_by_node_or_by_address():
    prometheus = Canned({"node": "node-1", "instance": "10.0.0.1:9962"}, {"instance": "[fd00::3]:9962"}, {"instance": "elsewhere:1"})
    clock = NOW + timedelta(seconds=5)
    found = await read(prometheus, UNREACHABLE[0], {"fd00::3": "node-3"}, clock)
    assert [(one.node, one.value, one.at) for one in found] == [
        ("node-1", 3, clock - timedelta(seconds=42)), ("node-3", 3, clock - timedelta(seconds=42)),
    ]  # fmt: skip


async def test_nothing_is_asked_twice_where_there_is_nothing():
    assert await read(Canned(), UNREACHABLE[0], {}, NOW) == []
