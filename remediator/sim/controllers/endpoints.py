"""EndpointSlices: which pods stand behind a service, and on which nodes.

In come services with a selector and pods; out comes one slice a service, with each pod's readiness (pkg/controller/endpointslice).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.objects import dig, is_ready, key_of, labels_of, name_of, namespace_of, owner_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["EndpointController"]

_SERVICES, _PODS = ("", "services"), ("", "pods")


class EndpointController:
    """Keeps one slice a service."""

    tables = (_SERVICES, _PODS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """The service, or every service that selects the pod or did."""
        if change.table == _SERVICES:
            return (key_of(change.obj),)
        seen = [labels_of(obj) for obj in (change.obj, change.before) if obj is not None]
        services = self.cluster.store.list(_SERVICES, namespace_of(change.obj))
        return [key_of(s) for s in services if any(_selects(s, labels) for labels in seen)]

    def reconcile(self, key: tuple[str, str]) -> None:
        """Make the slice say what is there now."""
        namespace, name = key
        kind = self.cluster.kind("EndpointSlice")
        service = self.cluster.store.get(_SERVICES, name, namespace)
        found = self.cluster.store.get(kind, f"{name}-slice", namespace)
        if service is None or not dig(service, "spec.selector"):
            if found is not None:
                self.cluster.store.remove(kind, found)
            return
        endpoints = [_endpoint(pod) for pod in self.cluster.store.list(_PODS, namespace) if _behind(service, pod)]
        if found is None:
            labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
            meta = {"name": f"{name}-slice", "namespace": namespace, "labels": labels, "ownerReferences": [owner_reference(service)]}
            self.cluster.store.add(kind, {"metadata": meta, "addressType": "IPv4", "endpoints": endpoints, "ports": []})
        elif found["endpoints"] != endpoints:
            copy = self.cluster.store.edit(kind, found)
            copy["endpoints"] = endpoints
            self.cluster.store.replace(kind, copy)


def _selects(service: Obj, labels: dict[str, str]) -> bool:
    selector = dig(service, "spec.selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _behind(service: Obj, pod: Obj) -> bool:
    return _selects(service, labels_of(pod)) and bool(dig(pod, "status.podIP")) and dig(pod, "status.phase") == "Running"


def _endpoint(pod: Obj) -> Obj:
    leaving = "deletionTimestamp" in pod["metadata"]
    conditions = {"ready": is_ready(pod) and not leaving, "serving": is_ready(pod), "terminating": leaving}
    target = {"kind": "Pod", "name": name_of(pod), "namespace": namespace_of(pod), "uid": pod["metadata"]["uid"]}
    return {
        "addresses": [dig(pod, "status.podIP")],
        "conditions": conditions,
        "nodeName": dig(pod, "spec.nodeName"),
        "targetRef": target,
    }
