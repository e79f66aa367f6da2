"""The BGP actions against the API server's own judgement: CRDs as Cilium 1.20 (v2) and 1.17 (v2alpha1) released them.

Nothing speaks BGP here: objects are laid out as operator and agents would have them, and a dry run lets every patch pass validation,
admission and its own tests without effect. What the status and the sessions do is shown on the simulated cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from plugins.stage import Stage

from remediator.bgp.objects import MARK
from remediator.kube import kinds
from remediator.model import ChangeState
from remediator.run import StepEnd
from remediator.undo import undo

pytestmark = [pytest.mark.controlplane, pytest.mark.long, pytest.mark.timeout(300)]

NODES = [f"node-{number}" for number in range(1, 6)]
ROUTERS = {"tor1": "10.25.150.1", "tor2": "10.25.150.2"}
PLURALS = ("advertisements", "clusterconfigs", "nodeconfigoverrides", "nodeconfigs", "peerconfigs")
VERSIONS = {"cilium-1.20.2": "v2", "cilium-1.17.0": "v2alpha1"}


def crd_files(folder, plane):
    """The files of the BGP kinds in one release."""
    crds = Path(os.environ["REMEDIATOR_CRDS"]) if "REMEDIATOR_CRDS" in os.environ else None
    if crds is None:
        from plugins.controlplane import ROOT, _crds

        named = os.environ.get("REMEDIATOR_CONTROLPLANE")
        crds = _crds(Path(named) if named else ROOT.parent / "shared" / "controlplane")
    return [next((crds / folder).rglob(f"ciliumbgp{plural}.yaml")) for plural in PLURALS]


@pytest.fixture(scope="module", params=list(VERSIONS))
def version(request, control_plane):
    """The BGP kinds as that release has them; the newest again afterwards."""
    _install(control_plane, request.param)
    yield VERSIONS[request.param]
    _install(control_plane, "cilium-1.20.2")


def _install(plane, folder):
    names = [f"ciliumbgp{plural}.cilium.io" for plural in PLURALS]
    plane.kubectl("delete", "crd", "--ignore-not-found", "--wait=true", *names)
    for file in crd_files(folder, plane):
        plane.kubectl("create", "-f", str(file))
    plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in names))


def thing(kind, name, spec, version, **meta):
    return {"apiVersion": f"cilium.io/{version}", "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def status(plane, kind, name, value, *namespace):
    """As whoever owns the status writes it."""
    body = json.dumps({"status": value})
    plane.kubectl("patch", kind, name, *namespace, "--subresource=status", "--type=merge", "-p", body)


@pytest.fixture(scope="module")
def laid_out(control_plane, version, agents):
    """Five nodes that speak to two routers and announce one service."""
    agents()
    family = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}
    peers = [
        {"name": name, "peerASN": 65000, "peerAddress": address, "peerConfigRef": {"name": f"peer-{name}"}}
        for name, address in ROUTERS.items()
    ]
    instance = {"name": "main", "localASN": 65001, "peers": peers}
    selector = {
        "matchLabels": {"bgp": "enabled"},
        "matchExpressions": [{"key": "remediator.dev/bgp-drain", "operator": "DoesNotExist"}],
    }
    entry = {"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "selector": {"matchLabels": {"bgp": "true"}}}
    control_plane.kubectl("label", "nodes", "--all", "--overwrite", "bgp=enabled")
    everything = [
        *(thing("CiliumBGPPeerConfig", f"peer-{name}", {"families": [family]}, version) for name in ROUTERS),
        thing("CiliumBGPAdvertisement", "services", {"advertisements": [entry]}, version, labels={"advertise": "bgp"}),
        thing("CiliumBGPAdvertisement", "second", {"advertisements": [entry]}, version, labels={"advertise": "bgp"}),
        thing("CiliumBGPClusterConfig", "main", {"nodeSelector": selector, "bgpInstances": [instance]}, version),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default", "labels": {"bgp": "true"}},
            "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
    ]
    labels = {node["metadata"]["name"]: node["metadata"]["labels"] for node in control_plane.get("nodes")["items"]}
    ipam = {"ipam": {"podCIDRs": ["10.244.1.0/24"]}}
    everything += [thing("CiliumNode", node, ipam, "v2", labels=labels[node]) for node in NODES]
    everything += [thing("CiliumBGPNodeConfig", node, {"bgpInstances": [instance]}, version) for node in NODES]
    control_plane.apply({"apiVersion": "v1", "kind": "List", "items": everything})
    status(control_plane, "service", "web", {"loadBalancer": {"ingress": [{"ip": "10.25.150.230"}]}}, "-n", "default")
    for node in NODES:
        speaks(control_plane, node, instance, version)
    yield partial(node_config, control_plane, instance=instance, version=version)
    control_plane.kubectl("delete", "service", "web", "-n", "default")
    control_plane.kubectl("delete", "ciliumnodes", *NODES)
    control_plane.kubectl("label", "nodes", "--all", "bgp-")


def node_config(plane, node, instance, version):
    """As the operator writes it, with the status of its agent."""
    plane.apply(thing("CiliumBGPNodeConfig", node, {"bgpInstances": [instance]}, version))
    speaks(plane, node, instance, version)


def speaks(plane, node, instance, version):
    """As its agent writes it: every session is up."""
    told = [
        {
            "name": peer["name"],
            "peerAddress": peer["peerAddress"],
            "peerASN": 65000,
            "peeringState": "established",
            "establishedTime": "2026-01-05T10:00:00Z",
            "routeCount": [{"afi": "ipv4", "safi": "unicast", "advertised": 1, "received": 0}],
        }
        for peer in instance["peers"]
    ]
    status(plane, f"ciliumbgpnodeconfigs.{version}.cilium.io", node, {"bgpInstances": [{"name": "main", "localASN": 65001, "peers": told}]})


@pytest.fixture
async def real(control_plane, laid_out, tmp_path):
    """A stage on the real API."""
    from remediator.actions import Cilium, actions
    from remediator.clock import SystemClock
    from remediator.gates import Limits, gates
    from remediator.journal import Journal, Redactor
    from remediator.kube import Kube
    from remediator.model import Mode
    from remediator.playbook import Library, load_playbook
    from remediator.world import World

    clock = SystemClock()
    journal = await Journal.open(f"sqlite:///{tmp_path}/real.db", clock=clock)
    kube = await Kube.connect(kubeconfig=control_plane.remediator)
    world = World(
        clock=clock,
        journal=journal,
        kube=kube,
        prometheus=None,
        alertmanager=None,
        redact=Redactor(),
        cilium=Cilium(),
        limits=Limits(),
        dry_run=False,
        mode_of=lambda _: Mode.AUTO,
        library=Library(),
        load_revision=partial(load_playbook, actions=actions(), gates=gates()),
    )
    yield Stage(SimpleNamespace(cluster=None), world)
    await kube.close()
    await journal.close()


CASES = [
    ("bgp.withdraw_node", {}, "node/node-3"),
    ("bgp.withdraw_node", {"method": "selector_label"}, "node/node-3"),
    ("bgp.withdraw_peer", {"peer_config": "peer-tor1"}, "ciliumbgppeerconfigs.{version}.cilium.io/peer-tor1"),
    ("bgp.deprefer", {"advertisement": "services", "local_preference": 10}, "ciliumbgpadvertisements.{version}.cilium.io/services"),
]


@pytest.mark.parametrize(("action", "parameters", "resource"), CASES, ids=[f"{a} {' '.join(map(str, p.values()))}" for a, p, _ in CASES])
async def test_the_api_server_accepts_every_patch_and_a_dry_run_leaves_no_trace(real, control_plane, version, action, parameters, resource):
    resource = resource.format(version=version)
    before = control_plane.get(*resource.split("/"))
    done = await real.step(action, dry_run=True, **parameters)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (change,) = done.run.steps[0].changes
    assert "would have accepted it" in change.detail
    after = control_plane.get(*resource.split("/"))
    assert _of(after) == _of(before)


async def test_a_node_is_withdrawn_and_back_while_a_stand_in_plays_operator_and_agent(real, control_plane, laid_out):
    before = _of(control_plane.get("node", "node-3"))
    playing = asyncio.create_task(_play(real, laid_out))
    try:
        done = await real.step("bgp.withdraw_node", lasting="2m", hold="1s")
        assert done.end is StepEnd.SUCCEEDED, done.detail
        node = control_plane.get("node", "node-3")
        assert node["metadata"]["labels"]["remediator.dev/bgp-drain"] == "true"
        assert json.loads(node["metadata"]["annotations"][MARK])["run"] == done.run.id
        undone = await undo(real.world, done.run)
        assert undone.undone, undone.words
        assert _of(control_plane.get("node", "node-3")) == before
        run = await real.world.journal.run(done.run.id)
        assert [c.state for c in run.steps[0].changes] == [ChangeState.UNDONE, ChangeState.KEPT]
    finally:
        playing.cancel()


async def _play(real, write):
    """Copies labels to the CiliumNode and keeps the CiliumBGPNodeConfig of node-3 as the selector has it."""
    kube = real.world.kube
    while True:
        labels = (await kube.get(kinds.NODE, "node-3"))["metadata"]["labels"]
        drained = "remediator.dev/bgp-drain" in labels
        patch = {"metadata": {"labels": {**labels, **({} if drained else {"remediator.dev/bgp-drain": None})}}}
        await kube.patch(kinds.CILIUM_NODE, "node-3", patch, type="merge")
        found = [c["metadata"]["name"] for c in (await kube.list(kinds.BGP_NODE_CONFIG)).items]
        if drained and "node-3" in found:
            served = next(c for c in (await kube.list(kinds.BGP_NODE_CONFIG)).items if c["metadata"]["name"] == "node-3")
            from remediator.bgp.read import kind_of

            await kube.delete(kind_of(kinds.BGP_NODE_CONFIG, served), "node-3")
        if not drained and "node-3" not in found:
            await asyncio.to_thread(write, "node-3")
        await asyncio.sleep(0.2)


def _of(found):
    """What people and we write of an object."""
    metadata = found["metadata"]
    marks = {key: value for key, value in metadata.get("annotations", {}).items() if "remediator" in key}
    return metadata.get("labels"), marks, found["spec"]
