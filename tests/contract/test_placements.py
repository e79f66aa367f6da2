"""The real scheduler and the gate ``capacity`` agree on where pods that leave a node can go."""

from __future__ import annotations

import asyncio

import pytest
from standins.placements import TARGET, cases

from remediator.cluster.fit import fit
from remediator.cluster.load import read_load
from remediator.kube import Kube, kinds


def place(thing):
    return kinds.by_name(thing["kind"]).path(thing["metadata"].get("namespace", ""))


def anew(pod):
    """The pod that takes its place, for the scheduler. Under another name: a kubelet may still be about to delete that of the old one."""
    metadata, spec = pod["metadata"], pod["spec"]
    return {**pod, "metadata": {**metadata, "name": f"{metadata['name']}-anew"}, "spec": {**spec, "nodeName": None}}


@pytest.mark.controlplane
@pytest.mark.long
async def test_the_scheduler_says_what_the_gate_says(control_plane, connect, namespace_name):
    """All cases at once: pods on a node that is cordoned, judged, then deleted and made anew for the scheduler to place."""
    api = await connect(control_plane)
    space = await api.furnish(namespace_name)
    table = cases(namespace_name)
    moving = [pod for case in table for pod in case.moves]
    placed = [anew(pod) for pod in moving]

    async def create(thing):
        made = await api.post(place(thing), thing)
        assert made.status == 201, made.body

    async def settled():
        """Bound claims, and pods that run."""
        claims = (await api.get(f"{space}/persistentvolumeclaims")).body["items"]
        pods = (await api.get(f"{space}/pods")).body["items"]
        bound = all(claim["status"]["phase"] == "Bound" for claim in claims if claim["spec"].get("volumeName"))
        return bound and all(pod["status"]["phase"] == "Running" for pod in pods)

    async def told():
        """What became of each pod, once the scheduler has spoken of every one."""
        pods = {pod["metadata"]["name"]: pod for pod in (await api.get(f"{space}/pods")).body["items"]}
        verdicts = {}
        for pod in placed:
            now = pods[pod["metadata"]["name"]]
            said = [c for c in now["status"].get("conditions", ()) if (c["type"], c["status"]) == ("PodScheduled", "False")]
            if now["spec"].get("nodeName") is None and not said:
                return None
            verdicts[now["metadata"]["name"]] = now["spec"].get("nodeName")
        return verdicts

    await api.patch(f"/api/v1/nodes/{TARGET}", {"spec": {"unschedulable": True}})
    try:
        await asyncio.gather(*(create(thing) for case in table for thing in case.things))
        await asyncio.gather(*(create(pod) for case in table for pod in (*case.stays, *case.moves)))
        await api.until(settled, "claims bound and pods running")
        async with await Kube.connect(kubeconfig=control_plane.kubeconfig) as kube:
            load = await read_load(kube, TARGET)
        found = fit(load, 0)
        ours = {name.partition("/")[2] for name in found.homeless if name.startswith(f"{namespace_name}/")}
        assert ours == {name for case in table for name in case.homeless}

        await asyncio.gather(*(api.delete(f"{space}/pods/{pod['metadata']['name']}") for pod in moving))
        await asyncio.gather(*(api.gone(f"{space}/pods/{pod['metadata']['name']}") for pod in moving))
        await asyncio.gather(*(create(pod) for pod in placed))
        verdicts = await api.until(told, "a word of the scheduler on every pod")

        async def quiet():
            """Pods that wait for others are tried again when those have come."""
            left = {name for name, at in (await told() or {"": None}).items() if at is None}
            return left == {f"{name}-anew" for name in ours}

        await api.until(quiet, f"the scheduler to leave out {sorted(ours)}, and not {verdicts}")
    finally:
        await api.patch(f"/api/v1/nodes/{TARGET}", {"spec": {"unschedulable": None}})
        await api.delete(space)
        for case in table:
            for thing in case.things:
                if "namespace" not in thing["metadata"]:
                    await api.delete(f"{place(thing)}/{thing['metadata']['name']}")
