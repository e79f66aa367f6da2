"""Many pods at once, for a cluster as large as real ones get: placed and running from the start, without a scheduler's work for each.

In come a cluster and a number; out come ReplicaSets of 50 and their pods, spread over the nodes in turn, twenty sets a namespace.
Pods of a set share the parts of their spec, since stored objects are never altered in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.controllers.kubelet import report_running
from remediator.sim.controllers.templates import new_pod
from remediator.sim.defaults import complete, copy_zone
from remediator.sim.objects import Obj, clone, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.cluster import Cluster

__all__ = ["CROWD", "fill"]

CROWD = "crowd-"
"""How the names of its namespaces and sets begin."""
_EACH = 50
"""Pods of a ReplicaSet."""
_SETS = 20
"""ReplicaSets of a namespace."""
_ASKS = {"requests": {"cpu": "100m", "memory": "128Mi"}}


def fill(cluster: Cluster, pods: int) -> None:
    """Put ``pods`` more pods into the cluster; all nodes take them in turn but the control plane."""
    names = cluster.node_names()
    places = names[1:] or names
    placed = 0
    for owner in _sets(cluster, pods):
        template: Obj | None = None
        for _ in range(owner["spec"]["replicas"]):
            template = template or _template(cluster, owner)
            _place(cluster, template, places[placed % len(places)])
            placed += 1


def _sets(cluster: Cluster, pods: int) -> Iterator[Obj]:
    for number, first in enumerate(range(0, pods, _EACH)):
        namespace, labels = f"{CROWD}{number // _SETS + 1}", {"app": f"{CROWD}{number + 1}"}
        if number % _SETS == 0:
            cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        container = {"name": "app", "image": "registry.example.org/app:v1", "resources": _ASKS}
        yield cluster.create(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {"name": f"{CROWD}{number + 1}", "namespace": namespace, "labels": labels},
                "spec": {
                    "replicas": min(_EACH, pods - first),
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                },
            }
        )


def _template(cluster: Cluster, owner: Obj) -> Obj:
    pod = new_pod(owner, {}) | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"]["name"] = name_of(owner)
    complete(cluster.kind("Pod"), pod, cluster.store)
    return pod


def _place(cluster: Cluster, template: Obj, node: str) -> None:
    meta, spec = template["metadata"], template["spec"]
    pod = {
        **template,
        "metadata": {**meta, "name": cluster.store.new_name(meta["generateName"])},
        "spec": {**spec, "nodeName": node},
        "status": clone(template["status"]),
    }
    copy_zone(pod, cluster.store)
    report_running(pod, cluster.clock.now(), cluster.next_pod_address(node), cluster.node_address(node), ready=True)
    cluster.store.add(cluster.kind("Pod"), pod)
