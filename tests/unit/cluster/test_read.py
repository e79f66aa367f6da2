"""The cluster as it is read from the simulated one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.cluster.disturbed import disturbed
from remediator.cluster.model import Own
from remediator.cluster.read import read_cluster, read_lease, read_network, read_own, read_symptom
from remediator.errors import KubeError
from remediator.kube import kinds


@pytest.fixture
def read(stage):
    async def now():
        cilium = stage.world.cilium
        return await read_cluster(stage.world.kube, cilium.namespace, cilium.agent_selector)

    return now


async def test_a_healthy_cluster(read):
    cluster = await read()
    assert [node.name for node in cluster.nodes] == [f"node-{n}" for n in range(1, 6)]
    assert {node.zone for node in cluster.nodes} == {"zone-a", "zone-b", "zone-c"}
    assert [node.name for node in cluster.nodes if node.control_plane] == ["node-1"]
    assert {pod.node for pod in cluster.agents if pod.ready} == {node.name for node in cluster.nodes}
    assert [pod.app for pod in cluster.needed] == ["CoreDNS", "CoreDNS"]
    assert cluster.etcd == ()
    assert (cluster.node("node-1").addresses, cluster.api) == (("10.25.150.10",), "127.0.0.1")
    assert disturbed(cluster) == {}


async def test_whatever_disturbs_a_node_is_seen(read, stage):
    kube = stage.world.kube
    await kube.patch(kinds.NODE, "node-1", {"spec": {"unschedulable": True}}, type="merge")
    await kube.patch(kinds.NODE, "node-2", {"metadata": {"labels": {"remediator.dev/bgp-drain": "true"}}}, type="merge")
    stage.cluster.kill_agent("node-3")
    stage.cluster.stop_kubelet("node-4")

    def condition(node):
        return next(c for c in stage.cluster.get("Node", node)["status"]["conditions"] if c["type"] == "Ready")

    await stage.until(lambda: not stage.cluster.agent_works("node-3"))
    await stage.until(
        lambda: any(c["type"] == "Ready" and c["status"] == "Unknown" for c in stage.cluster.get("Node", "node-4")["status"]["conditions"])
    )
    found = disturbed(await read())
    assert found.keys() == {"node-1", "node-2", "node-3", "node-4"}
    assert found["node-1"] == ("cordoned",)
    assert found["node-2"] == ("BGP withdrawn",)
    assert "agent not ready" in found["node-3"]
    assert "Ready is Unknown" in found["node-4"]


async def test_a_bgp_session_that_is_down_disturbs_its_node(read, stage):
    config = stage.cluster.get("CiliumBGPNodeConfig", "node-4")
    (peer, *_) = config["spec"]["bgpInstances"][0]["peers"]
    stage.cluster.bgp.cut.add(("node-4", peer["peerAddress"]))
    await stage.until(lambda: "active" in str(stage.cluster.get("CiliumBGPNodeConfig", "node-4")["status"]))
    assert disturbed(await read()) == {"node-4": (f"BGP session {peer['name']} is active",)}


async def test_where_the_cluster_knows_no_bgp_nothing_is_missed(read, stage):
    stage.cluster.fail(path="/ciliumbgpnodeconfigs", status=404, reason="NotFound", count=None)
    assert disturbed(await read()) == {}


async def test_static_pods_of_the_control_plane(read, stage):
    spec = {"nodeName": "node-1", "containers": [{"name": "c", "image": "c"}]}
    mirror = {"kubernetes.io/config.mirror": "x"}
    for name in ("etcd", "kube-apiserver"):
        labels = {"component": name, "tier": "control-plane"}
        metadata = {"name": f"{name}-node-1", "namespace": "kube-system", "labels": labels, "annotations": mirror}
        stage.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    cluster = await read()
    assert [(pod.name, pod.node, pod.mirror) for pod in cluster.etcd] == [("etcd-node-1", "node-1", True)]
    assert [(pod.app, pod.name) for pod in cluster.needed if pod.node == "node-1"] == [("API server", "kube-apiserver-node-1")]


async def test_half_a_cluster_is_none(read, stage):
    stage.cluster.fail(path="/api/v1/namespaces/kube-system/pods", status=403, count=None)
    with pytest.raises(KubeError):
        await read()


async def test_what_prometheus_sees(stage):
    stage.simulation.prometheus.scrape_once()
    healthy = await read_network(stage.world.prometheus)
    assert (healthy.unreachable, healthy.down) == ((0.0,) * 5, 0)
    assert healthy.targets >= 5
    stage.cluster.partition("node-4", "node-5")
    stage.simulation.prometheus.scrape_once()
    split = await read_network(stage.world.prometheus)
    assert split.unreachable == (2.0, 2.0, 2.0), "those that are cut off cannot be scraped"
    assert split.down == healthy.down + 2


async def test_where_the_daemon_runs_is_what_the_deployment_says():
    told = {"NODE_NAME": "node-3", "POD_NAMESPACE": "remediator", "POD_NAME": "remediator-0"}
    assert await read_own(told) == Own(node="node-3", namespace="remediator", pod="remediator-0")
    assert await read_own({}) == Own()


async def test_a_lease_as_medik8s_writes_it(stage):
    assert await read_lease(stage.world.kube, "node-3") is None
    spec = {"holderIdentity": "node-maintenance", "leaseDurationSeconds": 3600, "renewTime": "2026-01-05T10:00:00.000000Z"}
    metadata = {"name": "node-node-3", "namespace": "medik8s-leases"}
    stage.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "medik8s-leases"}})
    stage.cluster.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
    lease = await read_lease(stage.world.kube, "node-3")
    assert (lease.holder, lease.lasts) == ("node-maintenance", timedelta(hours=1))
    assert lease.renewed == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert await read_lease(stage.world.kube, "node-4") is None


async def test_a_symptom_and_data_too_old_to_show_it(stage):
    stage.simulation.prometheus.scrape_once()
    seen = await read_symptom(stage.world.prometheus, 'up{job="cilium-agent",node="node-3"} == 1')
    assert (seen.values, seen.stale) == ((1.0,), "")
    assert (await read_symptom(stage.world.prometheus, 'up{job="cilium-agent",node="node-3"} == 0')).values == ()
    stage.simulation.prometheus.scraping = False
    stage.world.clock._start += timedelta(minutes=20)
    assert "up" in (await read_symptom(stage.world.prometheus, "up")).stale
