"""``kube.collect``, ``cilium.collect`` and ``hubble.collect`` on the simulated cluster."""

from __future__ import annotations

import pytest

from remediator.run import StepEnd
from remediator.sim.prometheus import Sample


def seen(done):
    return {one.name: one.data for one in done.run.steps[0].evidence}


async def test_what_there_is_to_know_about_cilium_on_a_node(stage):
    agent = stage.cluster.agent_pod("node-3")
    container = agent["spec"]["containers"][0]["name"]
    stage.cluster.logs[agent["metadata"]["uid"], container] = ["line one", 'level=error msg="x" password=hunter2']
    stage.cluster.kubelets.crash(agent)
    done = await stage.step("cilium.collect")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    found = seen(done)
    name = agent["metadata"]["name"]
    assert found["agent"][0]["name"] == name
    assert "line one" in found[f"log {name}/{container}"]
    assert "hunter2" not in str(found)
    assert "exit code 1" in found[f"log {name}/{container} (previous)"]
    assert found["cilium node"]["metadata"]["name"] == found["bgp"]["metadata"]["name"] == "node-3"
    assert sum(found["endpoints"]["count"].values()) >= 1
    assert {"node", "node events", f"events of {name}"} <= found.keys()
    assert stage.writes() == []


async def test_what_its_metrics_say_is_kept_too(stage):
    done = await stage.step("cilium.collect")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert {"agent", "sessions"} <= seen(done)["metrics"].keys()


async def test_of_two_metrics_with_equal_labels_both_are_kept(stage):
    here = {"job": "cilium-agent", "node": "node-3", "family": "ipv4"}
    stage.simulation.prometheus.extra.append(lambda: [Sample("cilium_ip_addresses", here, 250), Sample("cilium_ipam_capacity", here, 254)])
    stage.simulation.prometheus.scrape_once()
    done = await stage.step("cilium.collect")
    found = {what: {one["labels"]["__name__"] for one in samples} for what, samples in seen(done)["metrics"].items()}
    assert found["unreachable"] == {"cilium_unreachable_nodes", "cilium_unreachable_health_endpoints"}
    assert found["addresses"] == {"cilium_ip_addresses", "cilium_ipam_capacity"}
    assert found["sessions"] == {"cilium_bgp_control_plane_session_state", "cilium_bgp_control_plane_advertised_routes"}


async def test_a_part_that_cannot_be_read_is_named_and_the_rest_is_kept(stage):
    stage.cluster.fail(path=".*/ciliumendpoints.*", status=403, count=None)
    stage.cluster.fail(path=".*/log.*", status=403, count=None)
    done = await stage.step("cilium.collect")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    found = seen(done)
    assert {"agent", "bgp", "cilium node"} <= found.keys()
    assert "endpoints" in found["not collected"]
    assert any(name.startswith("log ") for name in found["not collected"])
    assert "not: " in done.run.steps[0].outcome


async def test_without_a_prometheus_or_an_agent_the_rest_is_kept(stage):
    stage.world.prometheus = None
    done = await stage.step("cilium.collect")
    assert (done.end, seen(done)["not collected"]) == (StepEnd.SUCCEEDED, {"metrics": "the settings name no prometheus.url"})


async def test_a_node_whose_kubelet_is_silent_gives_what_the_api_knows(stage):
    stage.cluster.stop_kubelet("node-3")
    done = await stage.step("cilium.collect")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    found = seen(done)
    assert found["agent"]
    assert any("connection refused" in why for why in found["not collected"].values())


async def test_a_workload_with_its_pods_and_their_logs(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    done = await stage.step("kube.collect", kind="Deployment", namespace="apps", name="web", logs=10)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    found = seen(done)
    assert found["Deployment"]["metadata"]["name"] == "web"
    assert "managedFields" not in found["Deployment"]["metadata"]
    assert [pod["ready"] for pod in found["pods"]] == [True, True]
    assert sum(name.startswith("log ") for name in found) == 2


async def test_events_are_of_the_object_and_the_newest_come_first(stage):
    for number in range(3):
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"e-{number}", "namespace": "default"},
            "involvedObject": {"kind": "Node", "name": "node-3"},
            "reason": f"R{number}",
            "message": "said",
            "lastTimestamp": f"2026-01-05T10:00:0{number}Z",
        }
        stage.cluster.create(event)
    stage.cluster.create(
        {**event, "metadata": {"name": "other", "namespace": "default"}, "involvedObject": {"kind": "Node", "name": "node-1"}}
    )
    done = await stage.step("kube.collect")
    assert [one["reason"] for one in seen(done)["events"]] == ["R2", "R1", "R0"]
    assert len(seen(done)["pods"]) >= 1


async def test_logs_are_bounded(stage):
    agent = stage.cluster.agent_pod("node-3")
    container = agent["spec"]["containers"][0]["name"]
    stage.cluster.logs[agent["metadata"]["uid"], container] = ["x" * 1000] * 900
    done = await stage.step("cilium.collect", logs=1000)
    assert len(seen(done)[f"log {agent['metadata']['name']}/{container}"]) == 24 * 1024


@pytest.mark.parametrize(
    "what", [{"kind": "Secret", "namespace": "apps", "name": "x"}, {"kind": "Deployment", "namespace": "apps", "name": "none"}]
)
async def test_what_is_not_there_or_not_to_be_read_fails_nothing(stage, what):
    done = await stage.step("kube.collect", **what)
    assert done.end is StepEnd.SUCCEEDED
    assert what["kind"] in seen(done)["not collected"]


async def test_hubble_says_so_where_there_is_none(stage):
    done = await stage.step("hubble.collect")
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "Prometheus has no metrics of Hubble here; nothing to collect")
    stage.world.prometheus = None
    done = await stage.step("hubble.collect")
    assert seen(done)["not collected"] == {"hubble": "the settings name no prometheus.url"}


async def test_hubble_of_the_node(stage, monkeypatch):
    asked = []

    async def query(promql, *, nan="refuse"):
        from remediator.monitoring.answers import Sample

        asked.append(promql)
        lost = "lost" in promql
        return [] if lost else [Sample(labels={"reason": "POLICY_DENIED"}, value=2.0, at=stage.world.clock.now())]

    monkeypatch.setattr(stage.world.prometheus, "query", query)
    done = await stage.step("hubble.collect")
    assert seen(done)["hubble"].keys() == {"drops", "dns errors", "flows"}
    assert all('node="node-3"' in promql for promql in asked[1:])
