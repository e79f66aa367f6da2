"""Workloads of a namespace of their own on one node of the real control plane, for drains."""

from __future__ import annotations

import itertools
import json
import time

import pytest

NODE = "node-4"
_numbers = itertools.count(1)


def deployment(name, replicas, *, labels=None, annotations=None, **spec):
    labels = labels or {"app": name}
    pod = {"containers": [{"name": "c", "image": "example.test/c:1"}], "terminationGracePeriodSeconds": 10, **spec}
    template = {"metadata": {"labels": labels, "annotations": annotations or {}}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def pdb(name, app=None, **spec):
    selector = {"matchLabels": {"app": app or name}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"selector": selector, **(spec or {"maxUnavailable": 1})},
    }


class Ground:
    """A namespace of its own, whose pods are planted on one node."""

    deployment, pdb = staticmethod(deployment), staticmethod(pdb)

    def __init__(self, plane, namespace):
        self.plane = plane
        self.namespace = namespace

    def pods(self, node=NODE):
        items = self.plane.get("pods", "-n", self.namespace)["items"]
        return {p["metadata"]["name"]: p for p in items if p["spec"].get("nodeName") == node}

    def plant(self, *objects):
        """Create everything; Deployments' pods land on NODE and run."""
        others = [f"node-{n}" for n in range(1, 6) if f"node-{n}" != NODE]
        self.plane.kubectl("cordon", *others)
        for thing in objects:
            self.plane.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(thing))
        wanted = sum(o["spec"].get("replicas", 1) for o in objects if o["kind"] in ("Deployment", "StatefulSet", "Pod"))

        def run():
            return len([p for p in self.pods().values() if p["status"].get("phase") == "Running"]) >= wanted

        self.plane.wait_for(f"{wanted} pods on {NODE}", run, seconds=120)
        self.plane.kubectl("uncordon", *others)
        budgets = [o["metadata"]["name"] for o in objects if o["kind"] == "PodDisruptionBudget"]

        def counted():
            items = self.plane.get("pdb", "-n", self.namespace)["items"]
            return all(i["status"].get("currentHealthy") for i in items if i["metadata"]["name"] in budgets)

        self.plane.wait_for("the budgets count their pods", counted)

    def evictions(self):
        """(pod, code) of every eviction of ours in this namespace that was no dry run, as the audit log has them."""
        return [
            (e["objectRef"]["name"], e["responseStatus"]["code"])
            for e in self.plane.writes()
            if e["objectRef"].get("subresource") == "eviction"
            and e["objectRef"]["namespace"] == self.namespace
            and "dryRun=All" not in e["requestURI"]
        ]


@pytest.fixture
def ground(control_plane):
    namespace = f"drain-{int(time.time())}-{next(_numbers)}"
    control_plane.kubectl("create", "namespace", namespace)
    control_plane.wait_for("the service account", lambda: control_plane.get("serviceaccounts", "-n", namespace)["items"])
    yield Ground(control_plane, namespace)
    control_plane.kubectl("uncordon", *(f"node-{n}" for n in range(1, 6)))
    control_plane.kubectl("annotate", "node", NODE, "remediator.dev/cordoned-by-")
    control_plane.kubectl("delete", "deployments,statefulsets,poddisruptionbudgets", "--all", "-n", namespace)
    control_plane.kubectl("delete", "pods", "--all", "-n", namespace, "--grace-period=0", "--force")
    control_plane.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")
