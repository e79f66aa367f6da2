"""Commands in containers, against the simulated cluster and a real API server: what each decides before any kubelet is asked.

The real control plane here has no kubelets, so what a container answers is the simulated cluster's alone; there the real kubectl holds
against it (tests/unit/sim/test_kubectl.py).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from remediator.cilium import asking
from remediator.errors import Refused
from remediator.kube import Kube, kinds
from remediator.kube.errors import Forbidden, Invalid, NotFound, Timeout, Unavailable, Unreachable

ON_THE_REAL_ONE = pytest.mark.long

SOON = timedelta(seconds=20)
NAMESPACE = "kube-system"
NO_KUBELET = (Unavailable, Timeout, Unreachable)


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.controlplane)])
def cluster(request):
    """How to connect to the one or the other, and how to let the kubelet of node-3 be away there (kwok's always is)."""
    if request.param == "simulated":
        simulation = request.getfixturevalue("simulation")
        return {"server": simulation.url}, lambda: simulation.cluster.stop_kubelet("node-3")
    return {"kubeconfig": Path(request.getfixturevalue("control_plane").kubeconfig)}, lambda: None


@pytest.fixture
async def kube(cluster):
    async with await Kube.connect(**cluster[0]) as kube:
        yield kube


async def until(look):
    """Until ``look`` finds something true."""
    async with asyncio.timeout(60):
        while True:
            if await look():
                return
            await asyncio.sleep(0.1)


@pytest.fixture
async def agent(kube):
    """The name of a pod with an agent's container that runs, as far as the API knows: with kwok nobody is behind it."""
    name = f"exec-{uuid.uuid4().hex[:8]}"
    spec = {"nodeName": "node-3", "containers": [{"name": "cilium-agent", "image": "nowhere.test/agent:1"}]}
    await kube.create(kinds.POD, {"metadata": {"name": name}, "spec": spec}, NAMESPACE)

    async def runs():
        return (await kube.get(kinds.POD, name, NAMESPACE))["status"].get("phase") == "Running"

    await until(runs)
    yield name
    await kube.delete(kinds.POD, name, NAMESPACE)


async def test_what_is_not_there_is_refused_alike(kube, agent):
    with pytest.raises(NotFound, match='pods "nobody" not found') as missing:
        await kube.exec("nobody", NAMESPACE, "cilium-agent", ("true",), timeout=SOON)
    assert missing.value.status == 404
    with pytest.raises(Invalid, match="container nope is not valid for pod") as wrong:
        await kube.exec(agent, NAMESPACE, "nope", ("true",), timeout=SOON)
    assert wrong.value.status == 400


async def test_who_may_is_told(kube):
    assert await kube.may("create", "pods", NAMESPACE, subresource="exec")
    await asking.require_right(kube, NAMESPACE)


async def test_a_kubelet_that_is_not_there_is_an_error_and_no_hang(kube, agent, cluster):
    cluster[1]()
    began = time.monotonic()
    with pytest.raises(NO_KUBELET) as caught:
        await kube.exec(agent, NAMESPACE, "cilium-agent", ("cilium-dbg", "status", "--brief"), timeout=SOON)
    assert time.monotonic() - began < 2 * SOON.total_seconds()
    assert caught.value.retryable
    assert caught.value.message.startswith("Internal error occurred: ")


@pytest.mark.parametrize("cluster", [pytest.param("real", marks=pytest.mark.controlplane)], indirect=True)
async def test_the_base_does_not_give_the_right_and_the_component_does(agent, control_plane, tmp_path, root):
    """As the shipped roles have it; with the component the account gets as far as the kubelet."""
    kustomize = root / "deploy" / "kustomize"
    base = [thing for name in ("namespace", "serviceaccount", "rbac") for thing in documents(kustomize / "base" / f"{name}.yaml")]
    component = documents(kustomize / "components" / "exec" / "rbac.yaml")
    control_plane.apply(*base)
    try:
        async with await Kube.connect(kubeconfig=account(control_plane, tmp_path)) as own:
            with pytest.raises(Forbidden, match="pods/exec") as caught:
                await own.exec(agent, NAMESPACE, "cilium-agent", ("true",), timeout=SOON)
            assert (caught.value.status, caught.value.retryable) == (403, False)
            with pytest.raises(Refused, match="get and create pods/exec in kube-system"):
                await asking.require_right(own, NAMESPACE)
            control_plane.apply(*component)
            await until(lambda: own.may("create", "pods", NAMESPACE, subresource="exec"))
            await asking.require_right(own, NAMESPACE)
            with pytest.raises(NO_KUBELET):
                await own.exec(agent, NAMESPACE, "cilium-agent", ("true",), timeout=SOON)
    finally:
        for thing in (*component, *base):
            where = ("-n", thing["metadata"]["namespace"]) if "namespace" in thing["metadata"] else ()
            control_plane.kubectl("delete", thing["kind"], thing["metadata"]["name"], *where, "--ignore-not-found")


def documents(path):
    return [thing for thing in yaml.safe_load_all(path.read_text()) if thing]


def account(plane, folder):
    """A kubeconfig of the service account that the base makes."""
    config = yaml.safe_load(Path(plane.kubeconfig).read_text())
    token = plane.kubectl("create", "token", "remediator", "-n", "remediator").strip()
    config["users"] = [{"name": "account", "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = "account"
    (folder / "account").write_text(json.dumps(config))
    return folder / "account"
