from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.clock import ManualClock
from remediator.sim import Simulation
from remediator.sim.deletion import Deletion
from remediator.sim.registry import Options

NAME = ("Lease", "cilium-operator-resource-lock", "kube-system")


@pytest.fixture
async def sim():
    from datetime import UTC, datetime

    async with Simulation(clock=ManualClock(datetime(2026, 1, 5, 10, tzinfo=UTC))) as sim:
        yield sim


def leader(sim):
    return sim.cluster.get(*NAME)["spec"]["holderIdentity"]


def pods(sim):
    return {f"{p['spec']['nodeName']}-{p['metadata']['uid'][:10]}": p for p in sim.cluster.objects("Pod") if sim.cluster.is_operator(p)}


async def test_one_of_the_operators_leads_and_another_follows_it(sim):
    first = leader(sim)
    assert first in pods(sim)
    metadata = pods(sim)[first]["metadata"]
    sim.cluster.registry.delete(sim.cluster.kind("Pod"), "kube-system", metadata["name"], Deletion(), Options())
    await sim.run_for(timedelta(seconds=10))
    assert leader(sim) != first
    assert leader(sim) in pods(sim)
    assert sim.cluster.get(*NAME)["spec"]["leaseTransitions"] == 1


async def test_a_leader_stays_while_it_works(sim):
    first = leader(sim)
    await sim.run_for(timedelta(minutes=5))
    assert leader(sim) == first


async def test_without_cilium_there_is_no_lease():
    from datetime import UTC, datetime

    async with Simulation(clock=ManualClock(datetime(2026, 1, 5, 10, tzinfo=UTC)), cilium=False) as bare:
        assert bare.cluster.get(*NAME) is None
