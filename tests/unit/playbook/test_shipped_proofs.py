"""The proofs of shipped playbooks about latency and loss, asked of the simulated network: fine, bad, and not measured at all."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta

import pytest

from remediator.clock import ManualClock
from remediator.playbook import load_library, shipped
from remediator.sim import Simulation
from remediator.sim.prometheus import Sample, SeriesStore, evaluate, parse

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


MEASURED = {
    "node-latency": {"pairs": "network_pair_latency_seconds", "fine": 0.0005, "bad": 0.04},
    "node-packet-loss": {"pairs": "network_pair_loss_ratio", "fine": 0, "bad": 0.05},
}
NONE = math.nan
"""What a quantile or a ratio over no pings is."""


@pytest.fixture
def observed(sim):
    """Sets what others measure to node-9, which only these series know."""

    def observe(metric, values, **labels):
        peer = labels or {"target_node": "node-9"}
        sim.prometheus.extra.append(lambda: [Sample(metric, {"node": f"node-{n}", **peer}, value) for n, value in enumerate(values)])

    return observe


@pytest.mark.parametrize("name", MEASURED)
class TestUnanswered:
    async def test_a_node_that_answers_nobody_is_not_proved(self, proof, observed, name):
        observed(MEASURED[name]["pairs"], [NONE] * 4)
        assert await proof(name, "node-9") == []

    @pytest.mark.parametrize(("answered", "proved"), [(3, True), (2, False), (1, False)])
    async def test_more_than_half_of_those_who_ask_must_find_it_fine(self, proof, observed, name, answered, proved):
        observed(MEASURED[name]["pairs"], [MEASURED[name]["fine"]] * answered + [NONE] * (4 - answered))
        assert bool(await proof(name, "node-9")) is proved

    async def test_bad_and_unanswered_add_up(self, proof, observed, name):
        observed(MEASURED[name]["pairs"], [MEASURED[name]["fine"]] * 2 + [MEASURED[name]["bad"], NONE])
        assert await proof(name, "node-9") == []

    async def test_what_it_says_of_itself_is_no_observation(self, proof, sim, name):
        itself = {"node": "node-9", "target_node": "node-9"}
        sim.prometheus.extra.append(lambda: [Sample(MEASURED[name]["pairs"], itself, MEASURED[name]["fine"])])
        assert await proof(name, "node-9") == []


GAUGE = {"target_node_name": "node-9", "target_node_type": "remote_intra_cluster", "type": "node", "protocol": "icmp"}


@pytest.mark.parametrize(
    ("seen", "proved"),
    [
        ((0.0005, -1, -1, -1), True),  # nobody else has a sample yet
        ((0.0005, 0, 0, 0), False),  # three probes failed
        ((0, 0, 0, 0), False),
        ((-1, -1, -1, -1), False),
        ((0.0005, 0.0005, 0.04, 0), False),
        ((0.0005, 0.0005, 0.0005, 0), True),
    ],
)
async def test_failed_probes_of_cilium_are_no_answers(proof, observed, seen, proved):
    observed("cilium_node_connectivity_latency_seconds", seen, **GAUGE, address_type="primary")
    assert bool(await proof("node-latency", "node-9")) is proved


@pytest.mark.parametrize("name", ["node-packet-loss", "node-packet-loss-warning"])
async def test_errors_of_a_card_are_kept_in_both_directions(sim, actions, gates, values, name):
    card, errors = {"node": "node-3", "device": "eth0", "instance": "10.0.0.3:9100"}, itertools.count()
    metrics = ("node_network_receive_errs_total", "node_network_transmit_errs_total")
    sim.prometheus.extra.append(lambda: [Sample(metric, card, next(errors)) for metric in metrics])
    await sim.run_for(timedelta(seconds=30))
    steps = load_library([shipped()], actions=actions, gates=gates).by_name(name).ladder[0].steps
    (query,) = (step.parameters["query"] for step in steps if step.name == "interface")
    found = sim.prometheus.query(query.replace("${target.name}", "node-3"))
    assert sorted(dict(one.labels)["direction"] for one in found) == ["receive", "transmit"]


MISSES, WITHOUT = "cilium_unreachable_health_endpoints", "cluster:nodes_without_agent:count"
PINGS = [Sample("network_pair_loss_ratio", {"node": f"node-{n}", "target_node": "node-3"}, 0) for n in (1, 2, 4, 5)]
"""They get through whatever becomes of a health endpoint."""


def missed(own, *others, without=None):
    """How many health endpoints each agent misses, node-3's first; ``without``: nodes without a ready agent, by the shipped rules."""
    nodes = {"node-3": own, **dict(zip(("node-1", "node-2", "node-4", "node-5"), others, strict=False))}
    counts = [Sample(MISSES, {"node": node}, value) for node, value in nodes.items() if value is not None]
    return [*counts, *([] if without is None else [Sample(WITHOUT, {}, without)])]


def reached(*values):
    """What recorded pairs say of node-3."""
    nodes = ("node-1", "node-2", "node-4", "node-5", "node-3")
    pairs = [{"node": node, "target_node": "node-3"} for node in nodes]
    return [Sample("network_pair_reachable", pair, value) for pair, value in zip(pairs, values, strict=False)]


def status(kind, *values):
    """What Cilium up to 1.17 says of node-3."""
    to = {"target_node_name": "node-3", "target_node_type": "remote_intra_cluster", "type": kind}
    return [Sample("cilium_node_connectivity_status", {"source_node_name": f"node-{n}", **to}, value) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("samples", "proved"),
    [
        pytest.param([], False, id="pings alone prove nothing"),
        pytest.param(missed(0, 0, 0, 0, 0), True, id="nobody misses any"),
        pytest.param(missed(1, 1, 1, 1, 1), False, id="all miss it, itself too"),
        pytest.param(missed(0, 1, 1, 1, 1), False, id="all others miss it"),
        pytest.param(missed(0, 1, 1, 0, 0), False, id="half of the others miss it"),
        pytest.param(missed(0, 1, 0, 0, 0), True, id="one other misses one"),
        pytest.param(missed(1, 0, 0, 0, 0), False, id="it does not reach its own"),
        pytest.param(missed(None, 0, 0, 0, 0), False, id="its agent says nothing"),
        pytest.param(missed(0), False, id="nobody else says anything"),
        pytest.param(missed(1, 1, 1, 1, without=1), True, id="what all miss is a node that is down"),
        pytest.param(missed(1, 2, 2, 2, without=1), False, id="others miss it besides a node that is down"),
        pytest.param(missed(0, 0, 0, 0, 0) + reached(1, 1, 1, 0), True, id="most pods get there"),
        pytest.param(missed(0, 0, 0, 0, 0) + reached(1, 1, 0, 0, 1), False, id="half of the pods do not, but its own"),
        pytest.param(missed(0, 0, 0, 0, 0) + status("node", 1, 1, 1, 1), True, id="up to 1.17: reached"),
        pytest.param(
            missed(0, 0, 0, 0, 0) + status("node", 1, 1, 1, 1) + status("endpoint", 0, 0, 0, 1), False, id="up to 1.17: its endpoint is not"
        ),
    ],
)
def test_a_health_endpoint_is_reached_again_by_what_agents_miss(actions, gates, values, samples, proved):
    text = load_library([shipped()], actions=actions, gates=gates).by_name("cilium-endpoints-unreachable").verify.query.text
    store = SeriesStore()
    store.append(100, [*PINGS, *samples])
    assert bool(evaluate(parse(text({**values, "target": {**values["target"], "name": "node-3"}})), store, 100)) is proved
