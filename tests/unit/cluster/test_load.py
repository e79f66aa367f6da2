"""What would move off a node, as it is read from the simulated cluster."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from standins.placements import Furniture

from remediator.cluster.fit import fit
from remediator.cluster.load import quantity, read_load
from remediator.errors import Unreadable
from remediator.kube import Listing, kinds


@pytest.mark.parametrize(
    ("text", "number"),
    [("100m", 0.1), ("2", 2), ("1.5", 1.5), ("1Ki", 1024), ("2Gi", 2 * 1024**3), ("3M", 3e6), ("1e3", 1000), ("5E", 5e18), ("7n", 7e-9)],
)
def test_quantities(text, number):
    assert quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "-", "1e", "0x1"])
def test_what_is_no_quantity(text):
    with pytest.raises(Unreadable):
        quantity(text)


def pod(name, **spec):
    container = {"name": "c", "image": "c", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}
    metadata = {"name": name, "namespace": "apps"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "node-3", "containers": [container], **spec}}


async def test_pods_that_move_with_what_they_ask_for(stage):
    init = {"image": "c", "resources": {"requests": {"cpu": "2"}}}
    sidecar = {"image": "c", "resources": {"requests": {"cpu": "250m"}}, "restartPolicy": "Always"}
    stage.cluster.create(pod("plain"))
    stage.cluster.create(pod("with-init", initContainers=[{"name": "s", **sidecar}, {"name": "i", **init}], overhead={"cpu": "50m"}))
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "v"}}
    for thing in Furniture("apps").storage("v", ["node-2"]):
        stage.cluster.create(thing)
    stage.cluster.create(pod("with-volume", volumes=[claim], nodeSelector={"kubernetes.io/os": "linux"}))
    load = await read_load(stage.world.kube, "node-3")
    wants = {want.name: want for want in load.wants}
    assert not [name for name in wants if "cilium-" in name], "pods of DaemonSets stay"
    assert wants["apps/plain"].requests == {"cpu": 0.5, "memory": 1024.0**3, "pods": 1}
    assert wants["apps/with-init"].requests["cpu"] == pytest.approx(2.3), "the sidecar beside the init container, and the overhead"
    assert wants["apps/with-volume"].unjudged == ()
    assert wants["apps/with-volume"].selector == {"kubernetes.io/os": "linux"}
    assert [node.name for node in load.offers] == ["node-1", "node-2", "node-4", "node-5"]
    assert fit(load, 0).homeless == {}
    assert fit(load, 0).places["apps/with-volume"] == "node-2"


async def test_nodes_that_take_nothing_and_what_runs_on_the_others(stage):
    await stage.world.kube.patch(kinds.NODE, "node-4", {"spec": {"unschedulable": True}}, type="merge")
    stage.cluster.create(pod("there", nodeName="node-5"))
    load = await read_load(stage.world.kube, "node-3")
    assert "node-4" not in {node.name for node in load.offers}
    five = next(node for node in load.offers if node.name == "node-5")
    assert five.used["cpu"] == pytest.approx(0.5)
    assert five.used["pods"] >= 2
    assert five.allocatable == {"cpu": 32, "memory": 256 * 1024.0**3, "pods": 250}


async def test_a_pod_that_tolerates_the_cordon_needs_no_other_place(stage):
    stage.cluster.create(pod("stays", tolerations=[{"operator": "Exists"}], nodeSelector={"kubernetes.io/hostname": "node-3"}))
    stage.cluster.create(pod("goes", tolerations=[{"key": "other", "operator": "Exists"}]))
    names = {want.name for want in (await read_load(stage.world.kube, "node-3")).wants}
    assert "apps/goes" in names
    assert "apps/stays" not in names


class _Large:
    """A door that has all of a large cluster at hand, and never waits."""

    def __init__(self, nodes, pods):
        status = {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]}
        self._nodes = [{"metadata": {"name": f"node-{number}"}, "status": status} for number in range(nodes)]
        self._pods = [json.dumps(pod(f"p-{number}", nodeName=f"node-{number % nodes}")).encode() for number in range(pods)]

    async def list(self, kind, *, decode, fields=""):
        assert fields == ("" if kind is kinds.NODE else "spec.nodeName=node-0")
        return Listing([msgspec.convert(node, decode) for node in self._nodes] if kind is kinds.NODE else [], "1")

    async def collect(self, kind, convert):
        assert kind is kinds.POD
        return Listing([convert(raw) for raw in self._pods], "1")


async def test_others_have_their_turns_while_a_large_cluster_is_added_up():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    load = await read_load(_Large(nodes=1_000, pods=3_000), "node-0")
    task.cancel()
    assert len(load.offers) == 999
    assert {node.used["pods"] for node in load.offers} == {3}
    assert turns >= 8, "one in 500 pods or nodes"
