"""Workloads on one node of the simulated cluster, for drains."""

from __future__ import annotations

import pytest


def deployment(name, replicas=2, namespace="apps", *, labels=None, annotations=None, **spec):
    labels = labels or {"app": name}
    template = {
        "metadata": {"labels": labels, "annotations": {"controlplane/stop-after": "2s", **(annotations or {})}},
        "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}], "terminationGracePeriodSeconds": 5, **spec},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def pdb(name, *, app=None, namespace="apps", selector=None, **spec):
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": app or name}} if selector is None else selector, **(spec or {"maxUnavailable": 1})},
    }


def bare(name, node="node-3", namespace="apps", *, owner=None, annotations=None, labels=None, finalizers=(), **spec):
    """A pod as it stands, bound to the node."""
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}, "annotations": annotations or {}}
    if owner:
        metadata["ownerReferences"] = [owner]
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    containers = [{"name": "c", "image": "example.test/c:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": containers, "terminationGracePeriodSeconds": 5, **spec},
    }


class Farm:
    """What grows on the stage."""

    deployment, pdb, bare = staticmethod(deployment), staticmethod(pdb), staticmethod(bare)

    def __init__(self, stage):
        self.stage = stage
        self.cluster = stage.cluster

    def cordon(self, name, on=True):
        kind = self.cluster.kind("Node")
        copy = self.cluster.store.edit(kind, self.cluster.store.get(kind, name))
        copy["spec"].pop("unschedulable", None)
        if on:
            copy["spec"]["unschedulable"] = True
        self.cluster.store.replace(kind, copy)

    def pods(self, node="node-3", namespace="apps"):
        return {p["metadata"]["name"]: p for p in self.cluster.objects("Pod", namespace) if p["spec"].get("nodeName") == node}

    async def plant(self, *objects, node="node-3"):
        """Create the objects; every pod of Deployments lands on ``node``. Returns when all pods run."""
        others = [name for name in self.cluster.node_names() if name != node]
        for name in others:
            self.cordon(name)
        for thing in objects:
            self.cluster.create(thing)
        wanted = sum(thing["spec"]["replicas"] for thing in objects if thing["kind"] in ("Deployment", "StatefulSet"))
        wanted += sum(thing["kind"] == "Pod" for thing in objects)
        started = ("Running", "Succeeded", "Failed")
        here = self.pods
        await self.stage.until(lambda: sum(p["status"]["phase"] in started for p in here(node).values()) >= wanted)
        await self.stage.until(lambda: all(b["status"].get("observedGeneration") for b in self.cluster.objects("PodDisruptionBudget")))
        for name in others:
            self.cordon(name, on=False)

    def patch_pod(self, name, change, namespace="apps"):
        kind = self.cluster.kind("Pod")
        copy = self.cluster.store.edit(kind, self.cluster.store.get(kind, name, namespace))
        change(copy)
        self.cluster.store.replace(kind, copy)

    def evictions(self):
        """(pod, status) of every eviction that was no dry run."""
        log = [call for call in self.cluster.request_log.entries if call.path.endswith("/eviction") and not call.dry_run]
        return [(call.path.split("/")[-2], call.status) for call in log]

    def calls(self, verb, part):
        return [call for call in self.cluster.request_log.entries if call.verb == verb and part in call.path]


@pytest.fixture
async def farm(stage):
    """The cluster without the workloads that it comes with in ``apps``."""
    for kind, names in (("Deployment", ["whoami"]), ("PodDisruptionBudget", ["whoami"])):
        for name in names:
            from remediator.sim.deletion import Deletion

            stage.cluster.registry.delete(stage.cluster.kind(kind), "apps", name, Deletion(), _options())
    await stage.until(lambda: not stage.cluster.objects("Pod", "apps"))
    return Farm(stage)


def _options():
    from remediator.sim.registry import Options

    return Options(manager="test")
