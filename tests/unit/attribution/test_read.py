"""The reading, end to end: a simulated network, its Prometheus over HTTP, the product's own door, the matrix, the judgement."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator.attribution import Kind, Place, Symptom, judge
from remediator.attribution.model import UNREACHABLE_SECONDS
from remediator.attribution.places import places
from remediator.attribution.read import matrix
from remediator.clock import ManualClock, SystemClock
from remediator.monitoring import Prometheus
from remediator.monitoring.errors import PrometheusStale, PrometheusUnreachable
from remediator.sim import Simulation
from remediator.sim.prometheus import QueryError, Sample

MAX_AGE = timedelta(minutes=2)


@pytest.fixture
async def sim():
    async with Simulation(nodes=6, clock=ManualClock(), seed=1) as sim:
        yield sim


@pytest.fixture
async def read(sim):
    """The matrix of a symptom, a minute after what was done to the network."""
    door = Prometheus(sim.prometheus_url, timeout=timedelta(seconds=30), max_age=MAX_AGE, clock=sim.clock)

    async def read(symptom, limit, *, without=frozenset(), after=timedelta(minutes=1)):
        await sim.run_for(after)
        nodes = places(sim.cluster.objects("Node"), without)
        return await matrix(door, symptom, limit, nodes, now=sim.clock.now(), max_age=MAX_AGE)

    yield read
    await door.close()


class TestSimulated:
    async def test_an_intact_network(self, read):
        found = await read(Symptom.LATENCY, 0.005)
        assert len(found.observations) == 2 * 6 * 5
        assert {o.source for o in found.observations} == {"cilium pair gauges", "recorded pairs"}
        assert judge(found).words == "no pair is bad by every end that reports it"

    async def test_places_know_zone_and_address(self, read):
        assert (await read(Symptom.LOSS, 0.01)).nodes[2] == Place(name="node-3", zone="zone-a", address="10.25.150.12")

    @pytest.mark.parametrize(("symptom", "limit"), [(Symptom.LATENCY, 0.005), (Symptom.LATENCY, 0.020), (Symptom.LOSS, 0.01)])
    async def test_one_bad_node(self, sim, read, symptom, limit):
        sim.cluster.network.degrade_node("node-3", latency=0.040, loss=0.05)
        assert judge(await read(symptom, limit)).node == "node-3"

    async def test_a_dead_agent_is_not_reached_but_pings_are_not_lost(self, sim, read):
        sim.cluster.kill_agent("node-3")
        assert judge(await read(Symptom.REACHABILITY, 0.5)).node == "node-3"
        assert judge(await read(Symptom.LOSS, 0.01)).kind is Kind.NOBODY

    async def test_health_endpoints_that_are_not_reached_are_seen_although_their_nodes_are(self, sim, read):
        assert judge(await read(Symptom.REACHABILITY, 0.5)).kind is Kind.NOBODY
        found = sim.prometheus.query('cilium_node_connectivity_status{target_node_type="remote_intra_cluster"}')
        pairs = [{**dict(one.labels), "type": "endpoint"} for one in found]
        name = "cilium_node_connectivity_status"
        sim.prometheus.extra.append(lambda: [Sample(name, pair, float("node-3" not in pair.values())) for pair in pairs])
        seen = await read(Symptom.REACHABILITY, 0.5)
        assert judge(seen).node == "node-3"
        assert len([one for one in seen.observations if one.peer]) == 6 * 5

    async def test_from_1_18_on_pairs_that_are_recorded_tell_and_nothing_else_does(self, sim, read, monkeypatch):
        monkeypatch.setattr("remediator.sim.prometheus.metrics._pair", lambda *_, **__: iter(()))
        sim.cluster.kill_agent("node-3")
        assert judge(await read(Symptom.REACHABILITY, 0.5, after=timedelta(minutes=6))).kind is Kind.NOBODY
        names = sim.cluster.node_names()
        pairs = [{"node": one, "target_node": other} for one in names for other in names if one != other]
        sim.prometheus.extra.append(
            lambda: [Sample("network_pair_reachable", pair, float("node-3" not in pair.values())) for pair in pairs]
        )
        assert judge(await read(Symptom.REACHABILITY, 0.5)).node == "node-3"

    async def test_one_bad_link(self, sim, read):
        for pair in (("node-2", "node-5"), ("node-5", "node-2")):
            sim.cluster.network.degrade_pair(*pair, latency=0.040)
        finding = judge(await read(Symptom.LATENCY, 0.020))
        assert (finding.kind, finding.nodes) == (Kind.LINK, ("node-2", "node-5"))

    async def test_a_partition(self, sim, read):
        sim.cluster.network.partition(["node-1", "node-5"])
        for symptom, limit in ((Symptom.REACHABILITY, 0.5), (Symptom.LOSS, 0.01)):
            finding = judge(await read(symptom, limit))
            assert (finding.kind, finding.nodes) == (Kind.PARTITION, ("node-1", "node-5"))

    async def test_nodes_left_out_are_not_in_it_and_are_told_of(self, read):
        found = await read(Symptom.LATENCY, 0.005, without={"node-6"})
        assert "node-6" not in {name for o in found.observations for name in (o.observer, o.peer)}
        assert "recorded pairs: 10 of 30 series name no listed node" in found.gaps

    async def test_a_failed_probe_of_cilium_is_the_worst_latency_and_none_at_all_is_no_latency(self, sim, read):
        """The gauge has 0 where a probe failed, and -1 where there was none."""

        def exposed():
            for target, value in (("node-2", 0), ("node-4", -1)):
                labels = {
                    "source_node_name": "node-1",
                    "target_node_name": target,
                    "target_node_type": "remote_intra_cluster",
                    "job": "more",
                }
                path = {"type": "node", "protocol": "icmp", "address_type": "primary"}
                yield Sample("cilium_node_connectivity_latency_seconds", {**labels, **path}, value)

        sim.prometheus.extra.append(exposed)
        found = await read(Symptom.LATENCY, 0.020)
        values = {
            peer: sorted(o.value for o in found.observations if (o.observer, o.peer) == ("node-1", peer)) for peer in ("node-2", "node-4")
        }
        assert [value > 0 for value in values["node-4"]] == [True, True]
        assert len(values["node-2"]) == 3
        assert values["node-2"][-1] == UNREACHABLE_SECONDS

    async def test_what_a_prometheus_cannot_be_asked_is_a_gap(self, sim, read, monkeypatch):
        answer = sim.prometheus._route

        def refuse(path, form):
            if "smokeping" in form.get("query", ""):
                raise QueryError("parse error: no such function")
            return answer(path, form)

        monkeypatch.setattr(sim.prometheus, "_route", refuse)
        found = await read(Symptom.LATENCY, 0.005)
        assert [gap for gap in found.gaps if gap.startswith("smokeping_prober: ") and "no such function" in gap]
        assert found.observations

    async def test_a_prober_that_nobody_runs_is_no_gap(self, read):
        assert not [gap for gap in (await read(Symptom.LATENCY, 0.005)).gaps if "smokeping" in gap]

    async def test_a_prometheus_that_takes_no_more_samples_is_an_error_and_no_finding(self, sim, read):
        sim.cluster.network.degrade_node("node-3", latency=0.040)
        assert judge(await read(Symptom.LATENCY, 0.020)).node == "node-3"
        sim.prometheus.scraping = False
        with pytest.raises(PrometheusStale):
            await read(Symptom.LATENCY, 0.020, after=timedelta(minutes=3))

    async def test_a_prometheus_that_is_gone_is_an_error_and_no_finding(self, sim, read):
        await sim.stop()
        with pytest.raises(PrometheusUnreachable):
            await read(Symptom.LATENCY, 0.020, after=timedelta(0))


@pytest.mark.prometheus
async def test_histograms_of_probers_on_the_real_prometheus(exporter, prometheus_server):
    """smokeping_prober by address, goldpinger by host_ip and instance, Cilium's histogram over all peers; node-c is slow.

    The recorded pairs say that node-a is, but their samples are three minutes old: still within Prometheus's lookback, too old for us.
    """
    nodes = (Place(name="node-a", address="10.0.0.1"), Place(name="node-b", address="10.0.0.2"), Place(name="node-c", address="10.0.0.3"))

    def export(count):
        for a in nodes:
            for b in nodes:
                if a != b:
                    _pair(exporter, a, b, count, slow="node-c" in (a.name, b.name))
            labels = {"type": "node", "protocol": "icmp", "node": a.name}
            for edge, share in (("0.005", 0 if a.name == "node-c" else 0.5), ("0.05", 1), ("+Inf", 1)):
                exporter.set("cilium_node_health_connectivity_latency_seconds_bucket", {**labels, "le": edge}, count * share)

    for name in ("node-b", "node-c"):
        old = SystemClock().now() - timedelta(minutes=3)
        exporter.set("network_pair_latency_seconds", {"node": name, "target_node": "node-a"}, 1.0, at=old)
    export(10)
    real = prometheus_server(exporter)
    await asyncio.to_thread(real.wait_for, "smokeping_requests_total")
    export(100)
    await asyncio.to_thread(real.wait_for, "rate(cilium_node_health_connectivity_latency_seconds_bucket[15m]) > 0")
    door = Prometheus(real.url, timeout=timedelta(seconds=20), max_age=MAX_AGE, clock=SystemClock())
    try:
        latency = await matrix(door, Symptom.LATENCY, 0.020, nodes, now=SystemClock().now(), max_age=MAX_AGE)
        loss = await matrix(door, Symptom.LOSS, 0.010, nodes, now=SystemClock().now(), max_age=MAX_AGE)
    finally:
        await door.close()
    assert real.query("network_pair_latency_seconds")
    assert latency.gaps == ()
    assert {o.source for o in latency.observations} == {"smokeping_prober", "goldpinger", "cilium per observer"}
    by_source = {source: [o for o in latency.observations if o.source == source] for source in ("smokeping_prober", "goldpinger")}
    assert {source: len(seen) for source, seen in by_source.items()} == {"smokeping_prober": 6, "goldpinger": 6}
    assert {o.observer: o.value > 0.02 for o in latency.observations if o.peer is None} == {"node-a": True, "node-b": True, "node-c": True}
    finding = judge(latency)
    assert (finding.node, finding.ballots[0].reports) == ("node-c", 8)
    lost = {(o.observer, o.peer): o.value for o in loss.observations}
    assert lost["node-a", "node-b"] == pytest.approx(0)
    assert lost["node-a", "node-c"] == pytest.approx(0.5)
    assert judge(loss).node == "node-c"


def _pair(exporter, a, b, count, *, slow):
    target = {"instance": f"{a.address}:9374", "job": "smokeping", "ip": b.address, "host": b.address}
    back = count // 2 if slow else count
    for edge, share in (("0.001", 0 if slow else 1), ("0.04", 0), ("0.06", 1), ("+Inf", 1)):
        exporter.set("smokeping_response_duration_seconds_bucket", {**target, "le": edge}, back * max(share, 0 if slow else 1))
    exporter.set("smokeping_response_duration_seconds_count", target, back)
    exporter.set("smokeping_requests_total", target, count)
    call = {"instance": f"10.1.0.{a.address[-1]}:8080", "goldpinger_instance": a.name, "call_type": "ping", "host_ip": b.address}
    exporter.set("goldpinger_peers_response_time_s_sum", call, count * (0.05 if slow else 0.001))
    exporter.set("goldpinger_peers_response_time_s_count", call, count)
