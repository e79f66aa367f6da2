"""The proofs of shipped playbooks about latency and loss, asked of the simulated network: fine, bad, and not measured at all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.clock import ManualClock
from remediator.playbook import load_library, shipped
from remediator.sim import Simulation

BAD = {"node-latency": {"latency": 0.040}, "node-packet-loss": {"loss": 0.05}}


@pytest.fixture
async def sim():
    async with Simulation(nodes=5, clock=ManualClock(), seed=1) as sim:
        yield sim


@pytest.fixture
def proof(sim, actions, gates, values):
    """What Prometheus answers to the proof of a playbook for one node, after the next scrape."""
    library = load_library([shipped()], actions=actions, gates=gates)

    async def ask(name, node="node-3"):
        await sim.run_for(timedelta(seconds=10))
        return sim.prometheus.query(library.by_name(name).verify.query.text({**values, "target": {**values["target"], "name": node}}))

    return ask


@pytest.mark.parametrize("name", BAD)
class TestProof:
    async def test_a_node_that_is_fine(self, proof, name):
        assert await proof(name)

    async def test_a_bad_node_and_the_others_beside_it(self, sim, proof, name):
        sim.cluster.network.degrade_node("node-3", **BAD[name])
        assert await proof(name) == []
        assert await proof(name, "node-1"), "one of four who measure it finds it bad: that is the other's fault"

    async def test_a_node_that_nobody_measures_is_not_proved(self, proof, name):
        assert await proof(name, "node-99") == []
