"""Brings a copy of a state about, on a real control plane or on the simulated one, and sees to it that it is what was asked for.

In come a cluster and a ``Copy``; out comes when every pod stands where and how the state wants it. ``shape`` is what two copies must have
in common before they are drained; ``send_off`` comes last, since what it starts does not wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from differential.cluster import PODS, STRATEGIC, budgets, pods, until
from differential.copies import CLONES, COPY, CRD, FINALIZER, HOLD, HOLD_BINDING, Copy, reference
from differential.states import Owner, Workload

if TYPE_CHECKING:
    from differential.cluster import Cluster
    from differential.outcome import Before

__all__ = ["clean_up", "furnish", "latecomers", "prepare", "send_off", "shape", "swept"]

_BY_HAND = (Owner.NOBODY, Owner.CUSTOM, Owner.MIRROR, Owner.DAEMON_SET_GONE)
_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
_BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


async def prepare(cluster: Cluster) -> None:
    """What all states need: the custom resource, and the policy that holds some pods still."""
    await cluster.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    if not cluster.simulated:
        await cluster.create(_POLICIES, HOLD)
        await cluster.create(_BINDINGS, HOLD_BINDING)
    await until("the custom resource is served", lambda: _serves(cluster, CLONES.format("default")))


async def _serves(cluster: Cluster, path: str) -> bool:
    try:
        await cluster.get(path)
    except AssertionError:
        return False
    return True


async def furnish(cluster: Cluster, copy: Copy) -> None:
    """Nodes, pods, budgets."""
    for node in (copy.home, copy.spare):
        await cluster.create("/api/v1/nodes", copy.node(node))
        if cluster.simulated:  # which has kubelets for the nodes that it starts with
            ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            await cluster.patch(f"/api/v1/nodes/{node}/status", ready, STRATEGIC)
    for namespace in copy.namespaces:
        await cluster.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        await until(f"{account}", lambda path=account: _serves(cluster, path))
    await until(f"{copy.mark}: nodes are ready", lambda: _nodes_ready(cluster, copy))
    await _cordon(cluster, copy.spare, yes=True)
    for workload in copy.state.workloads:
        if not workload.late:
            await _create(cluster, copy, workload)
    await _stand(cluster, copy, "here")
    if any(w.there for w in copy.state.workloads):
        await _scale_out(cluster, copy)
    await _cordon(cluster, copy.spare, yes=False)
    for workload in copy.state.workloads:
        await _dress(cluster, copy, workload)
    for budget in copy.state.budgets:
        await cluster.create(budgets(copy.mark), copy.budget(budget))
    await until(f"{copy.mark}: budgets are counted", lambda: _counted(cluster, copy), seconds=90)


async def _nodes_ready(cluster: Cluster, copy: Copy) -> bool:
    nodes = await cluster.items("/api/v1/nodes", labelSelector=f"{COPY}={copy.mark}")
    ready = [c["status"] for n in nodes for c in n.get("status", {}).get("conditions", ()) if c["type"] == "Ready"]
    tainted = [t for n in nodes for t in n["spec"].get("taints", ()) if "not-ready" in t["key"]]
    return ready == ["True", "True"] and not tainted


async def _cordon(cluster: Cluster, node: str, *, yes: bool) -> None:
    await cluster.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True if yes else None}})

    async def settled() -> bool:
        taints = (await cluster.get(f"/api/v1/nodes/{node}"))["spec"].get("taints", ())
        return any(t["key"] == "node.kubernetes.io/unschedulable" for t in taints) == yes

    await until(f"{node} cordoned: {yes}", settled)


async def _create(cluster: Cluster, copy: Copy, workload: Workload) -> None:
    by_hand = workload.owner in _BY_HAND or (workload.owner is Owner.JOB and cluster.simulated)
    if not by_hand:
        await cluster.create(*copy.controller(workload))
        return
    owner = await _owner(cluster, copy, workload)
    for number in range(workload.here):
        await cluster.create(pods(copy.namespace(workload)), copy.pod(workload, number, owner))


async def _owner(cluster: Cluster, copy: Copy, workload: Workload) -> dict[str, Any] | None:
    if workload.owner is Owner.CUSTOM:
        body = {"apiVersion": "differential.test/v1", "kind": "Clone", "metadata": {"name": workload.name}}
        made = await cluster.create(CLONES.format(copy.mark), body)
        return reference("differential.test/v1", "Clone", workload.name, made["metadata"]["uid"])
    if workload.owner is Owner.MIRROR:
        node = await cluster.get(f"/api/v1/nodes/{copy.home}")
        return reference("v1", "Node", copy.home, node["metadata"]["uid"])
    if workload.owner is Owner.DAEMON_SET_GONE:
        return reference("apps/v1", "DaemonSet", workload.name)
    return reference("batch/v1", "Job", workload.name) if workload.owner is Owner.JOB else None


async def _stand(cluster: Cluster, copy: Copy, what: str) -> None:
    """Wait until as many pods as asked for are on the node, and all that may run do."""

    async def standing() -> bool:
        found = await shape(cluster, copy)
        return all(_stands(found[w.name], w, both=what == "both") for w in copy.state.workloads if not w.late)

    await until(f"{copy.mark}: pods stand {what}", standing, seconds=90)


def _stands(found: list[str], workload: Workload, *, both: bool) -> bool:
    there = workload.there if both else 0
    if workload.owner is Owner.DAEMON_SET:
        there = 1
    state = "Pending unready" if workload.pending else "Running ready"
    return found == [f"home {state}"] * workload.here + [f"spare {state}"] * there


async def _scale_out(cluster: Cluster, copy: Copy) -> None:
    await _cordon(cluster, copy.home, yes=True)
    await _cordon(cluster, copy.spare, yes=False)
    for workload in copy.state.workloads:
        if workload.there:
            path, _ = copy.controller(workload)
            await cluster.patch(f"{path}/{workload.name}", {"spec": {"replicas": workload.here + workload.there}})
    await _stand(cluster, copy, "both")
    await _cordon(cluster, copy.home, yes=False)


async def _dress(cluster: Cluster, copy: Copy, workload: Workload) -> None:
    """What only a pod's status says."""
    every = await _pods_of(cluster, copy, workload)
    here, there = ([p for p in every if p["spec"].get("nodeName") == node] for node in (copy.home, copy.spare))
    sick = [*(here[:1] if workload.unready else ()), *(there[:1] if workload.unready_there else ())]
    for pod in here if workload.finished else sick:
        no = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
        status = {"conditions": no, **({"phase": "Succeeded"} if workload.finished else {})}
        await cluster.patch(f"{pods(copy.namespace(workload))}/{pod['metadata']['name']}/status", {"status": status}, STRATEGIC)

    async def free() -> bool:
        """The Job controller has seen them, and took its finalizers off."""
        return not any(p["metadata"].get("finalizers") for p in await _pods_of(cluster, copy, workload))

    if workload.owner is Owner.JOB:
        await until(f"{copy.mark}: the job is seen to be finished", free)


async def _pods_of(cluster: Cluster, copy: Copy, workload: Workload) -> list[dict[str, Any]]:
    return await cluster.items(pods(copy.namespace(workload)), labelSelector=f"app={workload.name}")


async def _counted(cluster: Cluster, copy: Copy) -> bool:
    """Whether every budget's status is about the pods as they are."""
    found = await shape(cluster, copy)
    for budget in copy.state.budgets:
        seen = await cluster.get(f"{budgets(copy.mark)}/{budget.name}")
        status = seen.get("status", {})
        ready = sum(pod.endswith(" ready") for w in copy.state.workloads if budget.fits(w) for pod in found[w.name])
        if any(c["reason"] == "SyncFailed" for c in status.get("conditions", ())):
            continue  # it cannot be counted, and says so
        if status.get("observedGeneration") != seen["metadata"]["generation"] or status.get("currentHealthy") != ready:
            return False
    return True


async def send_off(cluster: Cluster, copy: Copy) -> None:
    """Delete what is to be terminating when the drain begins; its replacements are on the spare node then."""
    leaving = [w for w in copy.state.workloads if w.terminating]
    if leaving:
        await _cordon(cluster, copy.home, yes=True)
    for namespace in copy.namespaces[1:]:
        await cluster.delete(f"/api/v1/namespaces/{namespace}")
    ending = [w for w in copy.state.workloads if w.ending_namespace]  # its controller would take 5 s to get to them
    for workload in (*leaving, *ending):
        for pod in await _pods_of(cluster, copy, workload):
            await cluster.delete(f"{pods(copy.namespace(workload))}/{pod['metadata']['name']}")

    async def under_way() -> bool:
        found = await shape(cluster, copy)
        left = all("home Running ready going" in found[w.name] for w in copy.state.workloads if w.terminating or w.ending_namespace)
        return left and all(found[w.name].count("spare Running ready") == w.here + w.there for w in leaving if w.replaced)

    await until(f"{copy.mark}: pods are leaving", under_way)
    if leaving:
        await _cordon(cluster, copy.home, yes=False)


async def latecomers(cluster: Cluster, copy: Copy, before: Before) -> None:
    """Once the first pod is on its way out, put those onto the node that come late, and let them be counted like the others."""
    late = [w for w in copy.state.workloads if w.late]
    if not late:
        return

    async def under_way() -> bool:
        return any(pod.endswith("going") for pods in (await shape(cluster, copy)).values() for pod in pods)

    await until(f"{copy.mark}: the first pod is leaving", under_way)
    for workload in late:
        await _create(cluster, copy, workload)
        for pod in await _pods_of(cluster, copy, workload):
            before.add(pod)


async def shape(cluster: Cluster, copy: Copy) -> dict[str, list[str]]:
    """Workload -> where and how its pods are; the same for every copy of a state."""
    found: dict[str, list[str]] = {w.name: [] for w in copy.state.workloads}
    places = {copy.home: "home", copy.spare: "spare"}
    for namespace in copy.namespaces:
        for pod in await cluster.items(pods(namespace)):
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
            place = places.get(pod["spec"].get("nodeName", ""), "nowhere")
            words = [place, pod["status"]["phase"], "ready" if ready else "unready"]
            words += ["going"] if "deletionTimestamp" in pod["metadata"] else []
            found[pod["metadata"]["labels"]["app"]].append(" ".join(words))
    return {name: sorted(words) for name, words in found.items()}


async def clean_up(cluster: Cluster, copy: Copy) -> None:
    """Take everything away again; pods that cannot go by themselves are helped."""
    for namespace in copy.namespaces:
        await cluster.delete(f"/api/v1/namespaces/{namespace}")
        for pod in await cluster.items(pods(namespace)):
            path = f"{pods(namespace)}/{pod['metadata']['name']}"
            if pod["metadata"].get("finalizers") == [FINALIZER]:
                await cluster.patch(path, {"metadata": {"finalizers": None}})
            await cluster.delete(path, gracePeriodSeconds=0)
    await asyncio.gather(*(cluster.delete(f"/api/v1/nodes/{node}") for node in (copy.home, copy.spare)))


async def swept(cluster: Cluster) -> None:
    """Wait until nothing is left of any copy, so that whoever comes next finds the cluster as it was."""

    async def empty() -> bool:
        spaces = await cluster.items("/api/v1/namespaces")
        nodes = await cluster.items("/api/v1/nodes", labelSelector=COPY)
        return not nodes and not await stranded() and not any(space["metadata"]["name"].startswith("diff-") for space in spaces)

    async def stranded() -> list[dict[str, Any]]:
        """Pods of DaemonSets that other tests have; without their node's kubelet they would stay until the garbage collector comes."""
        found = [pod for pod in await cluster.items(PODS) if pod["spec"].get("nodeName", "").startswith("diff-")]
        for pod in found:
            await cluster.delete(f"{pods(pod['metadata']['namespace'])}/{pod['metadata']['name']}", gracePeriodSeconds=0)
        return found

    await until("nothing is left of the copies", empty, seconds=90)
