from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from remediator.clock import SystemClock
from remediator.errors import UsageError
from remediator.sim import Simulation, all_scenarios, scenario
from remediator.sim.controllers.cilium import AGENT_TAINT
from remediator.sim.deletion import Deletion
from remediator.sim.objects import condition, dig, is_ready, labels_of
from remediator.sim.registry import Options


def _taints(sim, node):
    return [t["key"] for t in dig(sim.cluster.get("Node", node), "spec.taints") or ()]


class TestAtFirst:
    async def test_everything_is_up(self, sim):
        assert sim.cluster.node_names() == ["node-1", "node-2", "node-3", "node-4", "node-5"]
        pods = sim.cluster.objects("Pod")
        assert pods
        assert all(is_ready(p) and p["spec"]["nodeName"] for p in pods)
        for name in ("cilium", "cilium-envoy"):
            status = sim.cluster.get("DaemonSet", name, "kube-system")["status"]
            assert (status["desiredNumberScheduled"], status["numberReady"], status["updatedNumberScheduled"]) == (5, 5, 5)
        assert all(_taints(sim, node) == [] for node in sim.cluster.node_names())
        assert sim.cluster.operator_works()

    async def test_cilium_shows_in_the_api(self, sim):
        assert sorted(n["metadata"]["name"] for n in sim.cluster.objects("CiliumNode")) == sim.cluster.node_names()
        node = sim.cluster.get("CiliumNode", "node-2")
        assert labels_of(node) == labels_of(sim.cluster.get("Node", "node-2"))
        assert {"ip": "10.25.150.11", "type": "InternalIP"} in node["spec"]["addresses"]
        endpoints = sim.cluster.objects("CiliumEndpoint")
        pods = {p["metadata"]["name"]: p for p in sim.cluster.objects("Pod") if not p["spec"].get("hostNetwork")}
        assert {e["metadata"]["name"] for e in endpoints} == set(pods)
        assert all(e["status"]["state"] == "ready" for e in endpoints)
        agent = sim.cluster.agent_pod("node-2")
        revisions = [labels_of(r)["controller-revision-hash"] for r in sim.cluster.objects("ControllerRevision", "kube-system")]
        assert labels_of(agent)["controller-revision-hash"] in revisions

    async def test_the_same_seed_gives_the_same_cluster(self, clock):
        hashes = []
        for seed in (7, 7, 8):
            async with Simulation(clock=clock, seed=seed) as sim:
                hashes.append(sim.cluster.state_hash())
        assert hashes[0] == hashes[1] != hashes[2]

    async def test_nothing_changes_by_itself_but_leases(self, sim, seconds):
        before, leases = sim.cluster.state_hash(), sim.cluster.state_hash(ignore=())
        await seconds(300)
        assert sim.cluster.state_hash() == before
        assert sim.cluster.state_hash(ignore=()) != leases

    async def test_a_bare_cluster_is_as_the_real_test_bed_starts(self, clock):
        async with Simulation(clock=clock, nodes=3, cilium=False) as sim:
            assert sim.cluster.objects("Pod") == []
            assert sim.cluster.objects("CiliumNode") == []
            assert len(sim.cluster.objects("Node")) == 3

    @pytest.mark.parametrize("nodes", [1, 2, 30, 300])
    async def test_of_any_size(self, clock, nodes):
        async with Simulation(clock=clock, nodes=nodes) as sim:
            assert len(sim.cluster.node_names()) == nodes
            assert sim.cluster.get("DaemonSet", "cilium", "kube-system")["status"]["numberReady"] == nodes
            assert len({sim.cluster.node_address(n) for n in sim.cluster.node_names()}) == nodes


class TestAgents:
    async def test_a_hung_agent_stays_hung_until_its_pod_is_replaced(self, sim, seconds):
        sim.cluster.kill_agent("node-3")
        pod = sim.cluster.agent_pod("node-3")
        assert (is_ready(pod), pod["status"]["phase"], pod["status"]["containerStatuses"][0]["restartCount"]) == (False, "Running", 0)
        assert not sim.cluster.agent_works("node-3")
        assert AGENT_TAINT not in _taints(sim, "node-3")
        await seconds(2)
        assert _taints(sim, "node-3") == [AGENT_TAINT]
        await seconds(600)
        assert not sim.cluster.agent_works("node-3")
        sim.cluster.registry.delete(sim.cluster.kind("Pod"), "kube-system", pod["metadata"]["name"], *_now())
        await seconds(1)
        fresh = sim.cluster.agent_pod("node-3")
        assert fresh["metadata"]["uid"] != pod["metadata"]["uid"]
        assert fresh["status"]["phase"] == "Pending"
        await seconds(2)
        assert (sim.cluster.agent_pod("node-3")["status"]["phase"], sim.cluster.agent_works("node-3")) == ("Running", False)
        await seconds(5)
        assert sim.cluster.agent_works("node-3")
        assert _taints(sim, "node-3") == [AGENT_TAINT]
        await seconds(2)
        assert _taints(sim, "node-3") == []
        assert all(sim.cluster.agent_works(n) for n in sim.cluster.node_names())

    async def test_a_crash_looping_agent_crashes_again_after_it_was_replaced(self, sim, seconds):
        sim.cluster.kill_agent("node-3", "crash_loop")
        await seconds(180)
        old = sim.cluster.agent_pod("node-3")
        state = old["status"]["containerStatuses"][0]
        assert state["restartCount"] >= 3
        assert state["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        sim.cluster.registry.delete(sim.cluster.kind("Pod"), "kube-system", old["metadata"]["name"], *_now())
        await seconds(60)
        new = sim.cluster.agent_pod("node-3")
        assert new["metadata"]["uid"] != old["metadata"]["uid"]
        assert new["status"]["containerStatuses"][0]["restartCount"] >= 1
        assert not sim.cluster.agent_works("node-3")
        sim.cluster.heal_agent("node-3")
        await seconds(330)
        assert sim.cluster.agent_works("node-3")

    async def test_healed_by_hand(self, sim, seconds):
        sim.cluster.kill_agent("node-3")
        sim.cluster.heal_agent("node-3")
        assert sim.cluster.agent_works("node-3")

    async def test_a_dead_agent_copies_no_labels(self, sim, seconds):
        sim.cluster.kill_agent("node-3")
        for node in ("node-2", "node-3"):
            copy = sim.cluster.store.edit(sim.cluster.kind("Node"), sim.cluster.get("Node", node))
            copy["metadata"]["labels"]["bgp"] = "disabled"
            sim.cluster.store.replace(sim.cluster.kind("Node"), copy)
        await seconds(1)
        assert labels_of(sim.cluster.get("CiliumNode", "node-2"))["bgp"] == "disabled"
        assert labels_of(sim.cluster.get("CiliumNode", "node-3"))["bgp"] == "enabled"

    async def test_without_an_operator_nobody_taints(self, sim, seconds):
        copy = sim.cluster.store.edit(sim.cluster.kind("Deployment"), sim.cluster.get("Deployment", "cilium-operator", "kube-system"))
        copy["spec"]["replicas"] = 0
        sim.cluster.store.replace(sim.cluster.kind("Deployment"), copy)
        await seconds(5)
        assert not sim.cluster.operator_works()
        sim.cluster.kill_agent("node-3")
        await seconds(60)
        assert _taints(sim, "node-3") == []

    async def test_there_must_be_one(self, clock):
        async with Simulation(clock=clock, cilium=False) as sim:
            with pytest.raises(UsageError, match="no Cilium agent on node-3"):
                sim.cluster.kill_agent("node-3")


class TestKubelets:
    async def test_a_dead_one_makes_its_node_unknown_and_starts_and_stops_nothing(self, sim, seconds):
        sim.cluster.stop_kubelet("node-2")
        pod = sim.cluster.agent_pod("node-2")
        await seconds(39)
        assert is_ready(sim.cluster.get("Node", "node-2"))
        await seconds(2)
        ready = condition(sim.cluster.get("Node", "node-2"), "Ready")
        assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
        assert _taints(sim, "node-2").count("node.kubernetes.io/unreachable") == 2
        assert not is_ready(sim.cluster.agent_pod("node-2"))
        sim.cluster.registry.delete(sim.cluster.kind("Pod"), "kube-system", pod["metadata"]["name"], *_now())
        await seconds(120)
        assert "deletionTimestamp" in sim.cluster.agent_pod("node-2")["metadata"]
        sim.cluster.start_kubelet("node-2")
        await seconds(60)
        assert is_ready(sim.cluster.get("Node", "node-2"))
        assert _taints(sim, "node-2") == []
        assert sim.cluster.agent_works("node-2")
        assert sim.cluster.agent_pod("node-2")["metadata"]["uid"] != pod["metadata"]["uid"]

    async def test_pods_of_a_lost_node_are_given_up_after_five_minutes(self, sim, seconds):
        lost = [p for p in sim.cluster.indexes.pods_on("node-5") if not dig(p, "spec.hostNetwork")]
        assert lost
        sim.cluster.stop_kubelet("node-5")
        await seconds(338)
        assert not any("deletionTimestamp" in p["metadata"] for p in sim.cluster.indexes.pods_on("node-5"))
        await seconds(30)
        marked = {p["metadata"]["name"] for p in sim.cluster.indexes.pods_on("node-5") if "deletionTimestamp" in p["metadata"]}
        assert marked == {p["metadata"]["name"] for p in lost}
        assert sim.cluster.get("Deployment", "whoami", "apps")["status"]["readyReplicas"] == 3

    async def test_it_renews_no_lease(self, sim, seconds):
        sim.cluster.stop_kubelet("node-2")
        before = {n: sim.cluster.get("Lease", n, "kube-node-lease")["spec"]["renewTime"] for n in ("node-1", "node-2")}
        await seconds(30)
        after = {n: sim.cluster.get("Lease", n, "kube-node-lease")["spec"]["renewTime"] for n in ("node-1", "node-2")}
        assert after["node-1"] > before["node-1"]
        assert after["node-2"] == before["node-2"]


class TestNetwork:
    async def test_intact(self, sim):
        network = sim.cluster.network
        assert all(network.latency(a, b) < 0.001 for a in sim.cluster.node_names() for b in sim.cluster.node_names())
        assert network.loss("node-1", "node-2") == 0
        assert network.unreachable_from("node-1") == 0

    async def test_a_slow_node_is_slow_for_all_others_and_they_are_fast_among_themselves(self, sim):
        network = sim.cluster.network
        network.degrade_node("node-3", latency=0.03, loss=0.02)
        assert network.latency("node-1", "node-3") > 0.02
        assert network.latency("node-3", "node-1") > 0.02
        assert network.latency("node-1", "node-2") < 0.001
        assert network.loss("node-1", "node-3") == pytest.approx(0.02)
        network.restore_node("node-3")
        assert network.latency("node-1", "node-3") < 0.001

    async def test_one_slow_link(self, sim):
        network = sim.cluster.network
        network.degrade_pair("node-1", "node-2", latency=0.05)
        assert network.latency("node-1", "node-2") > 0.04
        assert network.latency("node-2", "node-1") < 0.001

    async def test_a_partition(self, sim):
        network = sim.cluster.network
        network.partition({"node-4", "node-5"})
        assert [network.unreachable_from(n) for n in sim.cluster.node_names()] == [2, 2, 2, 3, 3]
        assert network.loss("node-1", "node-4") == 1
        sim.cluster.heal()
        assert network.loss("node-1", "node-4") == 0

    async def test_cut_off_from_the_api_too(self, sim, seconds):
        sim.cluster.partition("node-4", "node-5")
        await seconds(60)
        assert [is_ready(sim.cluster.get("Node", n)) for n in sim.cluster.node_names()] == [True, True, True, False, False]
        sim.cluster.heal()
        await seconds(60)
        assert all(is_ready(n) for n in sim.cluster.objects("Node"))
        assert all(sim.cluster.agent_works(n) for n in sim.cluster.node_names())

    async def test_a_dead_agent_answers_no_probe_but_loses_no_packet(self, sim):
        sim.cluster.kill_agent("node-3")
        assert sim.cluster.network.unreachable_from("node-1") == 1
        assert sim.cluster.network.loss("node-1", "node-3") == 0


class TestScenarios:
    def test_the_default_comes_first_and_all_tell_the_truth(self):
        scenarios = all_scenarios()
        assert scenarios[0].name == "agent-down"
        assert len({s.name for s in scenarios}) == len(scenarios)
        for one in scenarios:
            assert one.summary
            assert one.broken
            assert one.truth.target.count("/") in (1, 2) or one.truth.target == "", "one object, or no object is to blame"
            assert one.truth.alerts or one.asks, "an alert, a person, or one after the other"

    def test_unknown_ones_get_a_suggestion(self):
        with pytest.raises(UsageError, match="did you mean agent-down"):
            scenario("agent-dwon")
        assert scenario("agent-down").name == "agent-down"

    @pytest.mark.parametrize("one", [one for one in all_scenarios() if one.demo], ids=lambda s: s.name)
    async def test_each_raises_its_alerts_and_is_not_healed_by_itself(self, sim, seconds, one):
        assert one.healed(sim)
        await sim.play(one)
        await seconds(600)
        assert not one.healed(sim)
        assert set(one.truth.alerts) <= {a.labels["alertname"] for a in sim.alertmanager.open_alerts()}

    @pytest.mark.parametrize("name", ["agent-down", "agent-restart", "slow-node"])
    async def test_an_agent_is_healed_by_replacing_the_pod(self, sim, seconds, name):
        one = scenario(name)
        await sim.play(one)
        await seconds(60)
        pod = sim.cluster.agent_pod("node-3")
        sim.cluster.registry.delete(sim.cluster.kind("Pod"), "kube-system", pod["metadata"]["name"], *_now())
        await seconds(60)
        assert one.healed(sim)
        assert sim.alertmanager.open_alerts() == []


async def test_only_a_manual_clock_can_be_moved():
    sim = Simulation(clock=SystemClock())
    with pytest.raises(UsageError):
        await sim.run_for(timedelta(seconds=1))


def _now():
    return Deletion(), Options()


async def test_a_crowd_is_there_from_the_start_and_moves_like_other_pods(clock):
    async with Simulation(clock=clock, seed=1, nodes=4, pods=120) as sim:
        crowd = [pod for pod in sim.cluster.objects("Pod") if pod["metadata"]["namespace"].startswith("crowd-")]
        assert len(crowd) == 120
        assert Counter(pod["spec"]["nodeName"] for pod in crowd) == {"node-2": 40, "node-3": 40, "node-4": 40}
        assert all(is_ready(pod) and pod["status"]["podIP"] for pod in crowd)
        sim.cluster.registry.delete(sim.cluster.kind("Pod"), "crowd-1", crowd[0]["metadata"]["name"], Deletion(), Options())
        await sim.run_for(timedelta(seconds=40))
        names = {pod["metadata"]["name"] for pod in sim.cluster.objects("Pod") if pod["metadata"]["namespace"].startswith("crowd-")}
        assert len(names) == 120
        assert crowd[0]["metadata"]["name"] not in names


def test_what_has_a_label_is_found_as_it_changes(sim):
    table = sim.cluster.store.table(("", "pods"))
    agents = {key for key, pod in table.objects.items() if labels_of(pod).get("k8s-app") == "cilium"}
    assert set(table.labelled("k8s-app", "cilium")) == agents
    kind, (_, name) = sim.cluster.kind("Pod"), min(agents)
    copy = sim.cluster.store.edit(kind, table.objects[min(agents)])
    copy["metadata"]["labels"] = {"k8s-app": "other"}
    sim.cluster.store.replace(kind, copy)
    assert table.labelled("k8s-app", "other") == [("kube-system", name)]
    assert set(table.labelled("k8s-app", "cilium")) == agents - {("kube-system", name)}
    sim.cluster.store.remove(kind, copy)
    assert table.labelled("k8s-app", "other") == []
