"""Weights of a route and the label of an egress gateway on a real API server, with CRDs as Cilium 1.20 and the Gateway API released them.

Nothing speaks Gateway API or egress here: this test plays the controller that accepts the route, and the agents that copy labels.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from plugins.stage import Stage

from remediator.actions.egress import MOVED_BY
from remediator.actions.gateway import SHIFTED_BY
from remediator.kube import kinds
from remediator.run import StepEnd
from remediator.undo import undo

pytestmark = [pytest.mark.controlplane, pytest.mark.long, pytest.mark.timeout(300)]

FILES = {
    "ciliumegressgatewaypolicies.cilium.io": "cilium-1.20.2/**/ciliumegressgatewaypolicies.yaml",
    "httproutes.gateway.networking.k8s.io": "gateway-api-1.4.1/*_httproutes.yaml",
    "ciliumnodes.cilium.io": "cilium-1.20.2/**/ciliumnodes.yaml",
}


READY = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "green-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "green"}},
    "addressType": "IPv4",
    "ports": [],
    "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}],
}
"""What stands behind the backend that inherits the traffic."""


@pytest.fixture
async def real(control_plane, agents, tmp_path):
    """A stage on the real API, with the kinds that are needed here."""
    from plugins.controlplane import ROOT, _crds

    from remediator.actions import Cilium, actions
    from remediator.clock import SystemClock
    from remediator.gates import Limits, gates
    from remediator.journal import Journal, Redactor
    from remediator.kube import Kube
    from remediator.model import Mode
    from remediator.playbook import Library, load_playbook
    from remediator.world import World

    agents()
    named = os.environ.get("REMEDIATOR_CRDS")
    crds = Path(named) if named else _crds(Path(os.environ.get("REMEDIATOR_CONTROLPLANE", ROOT.parent / "shared" / "controlplane")))
    served = {crd["metadata"]["name"] for crd in control_plane.get("crd")["items"]}
    for name, file in FILES.items():
        if name not in served:
            control_plane.kubectl("create", "-f", str(next(crds.glob(file))))
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in FILES))
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


async def _play(kube):
    """Accepts the route as it is written, and copies the labels of nodes to their CiliumNodes."""
    while True:
        for route in (await kube.list(kinds.HTTP_ROUTE)).items:
            told = {"status": "True", "reason": "x", "message": "", "observedGeneration": route["metadata"]["generation"]}
            told["lastTransitionTime"] = "2026-01-05T10:00:00Z"
            conditions = [{"type": one, **told} for one in ("Accepted", "ResolvedRefs")]
            parents = [{"parentRef": {"name": "external"}, "controllerName": "test.dev/x", "conditions": conditions}]
            meta = route["metadata"]
            status = {"status": {"parents": parents}}
            await kube.patch(kinds.HTTP_ROUTE, meta["name"], status, meta["namespace"], type="merge", subresource="status")
        for copy in (await kube.list(kinds.CILIUM_NODE)).items:
            name, had = copy["metadata"]["name"], copy["metadata"].get("labels") or {}
            labels = (await kube.get(kinds.NODE, name))["metadata"]["labels"]
            await kube.patch(kinds.CILIUM_NODE, name, {"metadata": {"labels": {**dict.fromkeys(had), **labels}}}, type="merge")
        await asyncio.sleep(0.2)


def _of(found, mark):
    metadata = found["metadata"]
    return metadata.get("labels"), metadata.get("annotations", {}).get(mark), found["spec"]


async def test_a_route_and_an_egress_gateway_are_shifted_and_back_as_they_were(real, control_plane):
    refs = [{"name": "blue", "port": 80, "weight": 9}, {"name": "green", "port": 80}]
    route = {"parentRefs": [{"name": "external"}], "rules": [{"backendRefs": refs}]}
    gateway = {"nodeSelector": {"matchLabels": {"egress": "yes"}}}
    policy = {"selectors": [{"podSelector": {}}], "destinationCIDRs": ["0.0.0.0/0"], "egressGateway": gateway}
    control_plane.kubectl("label", "node", "node-3", "--overwrite", "egress=yes")
    control_plane.kubectl("label", "node", "node-4", "--overwrite", "remediator.dev/egress-standby=true")
    meta = {"name": "grafana", "namespace": "default"}
    control_plane.apply(
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta, "spec": route},
        READY,
        {"apiVersion": "cilium.io/v2", "kind": "CiliumEgressGatewayPolicy", "metadata": {"name": "egress"}, "spec": policy},
        *({"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": f"node-{n}"}, "spec": {}} for n in (3, 4)),
    )
    from remediator.kube import Kube

    others = await Kube.connect(kubeconfig=control_plane.kubeconfig)
    playing = asyncio.create_task(_play(others))
    try:
        before = _of(control_plane.get("httproute", "grafana", "-n", "default"), SHIFTED_BY)
        where = {"route": "grafana", "namespace": "default", "settle": "1s"}
        done = await real.step("gateway.shift_weight", weights={"blue": 0}, lasting="1m", **where)
        assert done.end is StepEnd.SUCCEEDED, done.detail
        shifted = control_plane.get("httproute", "grafana", "-n", "default")
        assert [ref["weight"] for ref in shifted["spec"]["rules"][0]["backendRefs"]] == [0, 1]
        told = await undo(real.world, done.run)
        assert told.undone, told.words
        assert _of(control_plane.get("httproute", "grafana", "-n", "default"), SHIFTED_BY) == before
        await _closed(real, done.run)

        nodes = [_of(control_plane.get("node", f"node-{n}"), MOVED_BY) for n in (3, 4)]
        done = await real.step("egress.move_gateway", planned=True, lasting="1m")
        assert done.end is StepEnd.SUCCEEDED, done.detail
        labelled = [node["metadata"]["name"] for node in control_plane.get("ciliumnodes", "-l", "egress=yes")["items"]]
        assert labelled == ["node-4"]
        told = await undo(real.world, done.run)
        assert len(told.undone) == 2, told.words
        assert [_of(control_plane.get("node", f"node-{n}"), MOVED_BY) for n in (3, 4)] == nodes
    finally:
        playing.cancel()
        await asyncio.wait([playing])
        await others.close()
        control_plane.kubectl("delete", "ciliumnodes", "node-3", "node-4")
        control_plane.kubectl("delete", "httproute/grafana", "endpointslice/green-1", "-n", "default")
        control_plane.kubectl("delete", "ciliumegressgatewaypolicy", "egress")
        control_plane.kubectl("label", "node", "node-3", "egress-")
        control_plane.kubectl("label", "node", "node-4", "remediator.dev/egress-standby-")


async def _closed(real, run):
    from remediator.model import RunState, evolve

    await real.world.journal.save_run(evolve(run, state=RunState.CANCELLED, ended_at=real.world.clock.now() - timedelta(minutes=1)))
