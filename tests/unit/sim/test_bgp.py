"""The simulated operator and agents speak BGP as Cilium's do; each point was seen with the real operator or stands in its code."""

from __future__ import annotations

import pytest

from remediator.sim.objects import condition
from remediator.sim.routing import service

WHOAMI = "10.25.150.223/32"


@pytest.fixture
def label(sim):
    def put(node, **labels):
        kind = sim.cluster.kind("Node")
        copy = sim.cluster.store.edit(kind, sim.cluster.store.get(kind, node))
        found = {**copy["metadata"]["labels"], **labels}
        copy["metadata"]["labels"] = {k: v for k, v in found.items() if v is not None}
        sim.cluster.store.replace(kind, copy)

    return put


def config(sim, node):
    return sim.cluster.get("CiliumBGPNodeConfig", node)


def peers(sim, node):
    found = config(sim, node)
    return [p for i in found["status"]["bgpInstances"] for p in i["peers"]]


def metrics(sim, node):
    return sim.prometheus.query(f'cilium_bgp_control_plane_session_state{{node="{node}"}}')


async def test_at_first_every_node_speaks_to_both_routers(sim):
    assert sim.cluster.bgp.table("10.25.150.1")[WHOAMI] == sim.cluster.node_names()
    assert {p["peeringState"] for p in peers(sim, "node-3")} == {"established"}
    assert [c["advertised"] for p in peers(sim, "node-3") for c in p["routeCount"]] == [2, 2]


async def test_a_label_that_stops_matching_deletes_the_node_config_and_the_routes(sim, label, seconds):
    label("node-3", bgp="disabled")
    await seconds(1)
    assert config(sim, "node-3") is None
    assert "node-3" not in sim.cluster.bgp.table("10.25.150.1")[WHOAMI]
    label("node-3", bgp="enabled")
    await seconds(10)
    assert {p["peeringState"] for p in peers(sim, "node-3")} == {"established"}
    assert "node-3" in sim.cluster.bgp.table("10.25.150.1")[WHOAMI]


async def test_trap_3_without_the_agent_or_the_operator_a_label_does_nothing(sim, label, seconds):
    sim.cluster.kill_agent("node-3")
    label("node-3", bgp="disabled")
    await seconds(20)
    assert config(sim, "node-3") is not None
    sim.cluster.heal_agent("node-3")
    await seconds(20)
    label("node-3", bgp="enabled")
    await seconds(10)
    for pod in sim.cluster.objects("Pod", "kube-system"):
        if sim.cluster.is_operator(pod):
            sim.cluster.kubelets.set_ready(pod, ready=False)
    label("node-3", bgp="disabled")
    await seconds(20)
    assert config(sim, "node-3") is not None


async def test_trap_4_hand_edits_are_overwritten_and_deletions_made_good(sim, seconds):
    kind = sim.cluster.kind("CiliumBGPNodeConfig")
    copy = sim.cluster.store.edit(kind, sim.cluster.store.get(kind, "node-3"))
    copy["spec"]["bgpInstances"][0]["peers"] = []
    sim.cluster.store.replace(kind, copy)
    await seconds(1)
    assert len(config(sim, "node-3")["spec"]["bgpInstances"][0]["peers"]) == 2
    sim.cluster.store.remove(kind, sim.cluster.store.get(kind, "node-3"))
    await seconds(1)
    assert config(sim, "node-3") is not None


async def test_trap_9_the_series_of_a_shifted_node_vanish(sim, label, seconds):
    await seconds(30)
    assert len(metrics(sim, "node-3")) == 2
    label("node-3", bgp="disabled")
    await seconds(60)
    assert metrics(sim, "node-3") == []
    assert len(metrics(sim, "node-2")) == 2


async def test_trap_10_the_status_of_a_dead_agent_stays_established(sim, seconds):
    sim.cluster.kill_agent("node-3")
    await seconds(60)
    assert {p["peeringState"] for p in peers(sim, "node-3")} == {"established"}
    assert "node-3" not in sim.cluster.bgp.table("10.25.150.1")[WHOAMI]


async def test_conditions_are_always_there_and_true_is_a_problem(sim, seconds):
    def found(name):
        config = sim.cluster.get("CiliumBGPClusterConfig", name)
        return {c["type"].removeprefix("cilium.io/"): c["status"] for c in config["status"]["conditions"]}

    assert found("cilium-bgp") == {"NoMatchingNode": "False", "MissingPeerConfigs": "False", "ConflictingClusterConfig": "False"}
    peer = {"name": "x", "peerAddress": "10.25.150.9", "peerConfigRef": {"name": "nowhere"}}
    for name, selector in (("second", {}), ("third", {"matchLabels": {"no": "where"}})):
        spec = {"nodeSelector": selector, "bgpInstances": [{"name": "i", "localASN": 65001, "peers": [peer]}]}
        sim.cluster.create({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPClusterConfig", "metadata": {"name": name}, "spec": spec})
    await seconds(1)
    assert found("second") == {"NoMatchingNode": "False", "MissingPeerConfigs": "True", "ConflictingClusterConfig": "True"}
    assert found("third")["NoMatchingNode"] == "True"
    assert found("cilium-bgp")["ConflictingClusterConfig"] == "False"
    assert condition(sim.cluster.get("CiliumBGPClusterConfig", "third"), "cilium.io/NoMatchingNode")["reason"] == "NoMatchingNode"


async def test_policy_local_is_announced_by_nodes_with_a_ready_endpoint_only(sim, seconds):
    sim.cluster.create(service("inside", "apps", "10.25.150.240", {"app": "whoami"}, policy="Local"))
    await seconds(5)
    slices = sim.cluster.get("EndpointSlice", "inside-slice", "apps")
    nodes = sorted({e["nodeName"] for e in slices["endpoints"]})
    assert sim.cluster.bgp.table("10.25.150.1")["10.25.150.240/32"] == nodes
    assert 0 < len(nodes) < 5


async def test_a_router_that_is_cut_off_hears_nothing(sim, seconds):
    sim.cluster.bgp.cut.add(("node-3", "10.25.150.1"))
    await seconds(6)
    assert [p["peeringState"] for p in peers(sim, "node-3")] == ["active", "established"]
    assert "node-3" not in sim.cluster.bgp.table("10.25.150.1").get(WHOAMI, [])
    assert "node-3" in sim.cluster.bgp.table("10.25.150.2")[WHOAMI]
