"""What a rehearsal's daemon sees where it probes: the simulated cluster, and nothing of the network that the test runs in."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.clock import ManualClock
from remediator.sim import Simulation
from remediator.testing.prober import SimulatedProber

WHOAMI, DNS = "10.25.150.223", "10.25.150.253"
WITHIN = timedelta(seconds=1)


@pytest.fixture
async def sim():
    async with Simulation(nodes=5, clock=ManualClock(), seed=1) as sim:
        await sim.run_for(timedelta(minutes=2))
        yield sim


@pytest.fixture
def prober(sim):
    return SimulatedProber(sim)


async def scaled_to_nothing(sim, name, namespace):
    kind = sim.cluster.kind("Deployment")
    copy = sim.cluster.store.edit(kind, sim.cluster.store.get(kind, name, namespace))
    copy["spec"]["replicas"] = 0
    sim.cluster.store.replace(kind, copy)
    await sim.run_for(timedelta(minutes=2))


async def looks(prober):
    page = await prober.http(f"http://{WHOAMI}/health", within=WITHIN)
    named = await prober.http("https://whoami.test", address=WHOAMI, within=WITHIN)
    port = await prober.tcp(WHOAMI, 80, within=WITHIN)
    answer = await prober.dns(DNS, 53, "whoami.test", "A", tcp=True, within=WITHIN)
    return (page.status, bool(page.trouble)), (named.status, bool(named.trouble)), bool(port.trouble), (answer.rcode, bool(answer.trouble))


async def test_an_address_answers_as_long_as_a_ready_pod_stands_behind_it(sim, prober):
    up, down = (200, False), (None, True)
    assert await looks(prober) == (up, down, False, ("NOERROR", False)), "port 443 of that service is nobody's"
    await scaled_to_nothing(sim, "whoami", "apps")
    await scaled_to_nothing(sim, "coredns", "kube-system")
    assert await looks(prober) == (down, down, True, ("", True))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.25.150.10"])
async def test_nothing_else_answers(prober, host):
    assert (await prober.tcp(host, 80, within=WITHIN)).trouble
    assert (await prober.http(f"http://{host}", within=WITHIN)).trouble


async def test_the_simulated_probers_see_the_same_and_name_the_workload(sim):
    await sim.run_for(timedelta(seconds=30))
    (page,) = sim.prometheus.query('probe_success{probe="service",namespace="apps",deployment="whoami"} == 1')
    assert dict(page.labels)["instance"] == f"http://{WHOAMI}"
    names = sim.prometheus.query('probe_success{probe="dns",namespace="kube-system",deployment="coredns"} == 1')
    assert {dict(one.labels)["module"] for one in names} == {"dns_udp", "dns_tcp"}
    assert sim.prometheus.query('namespace:coredns_servfail:ratio_rate5m{namespace="kube-system"} == 0')
    await scaled_to_nothing(sim, "whoami", "apps")
    await scaled_to_nothing(sim, "coredns", "kube-system")
    assert len(sim.prometheus.query("probe_success == 0")) == 3
    assert sim.prometheus.query("namespace:coredns_servfail:ratio_rate5m") == []
