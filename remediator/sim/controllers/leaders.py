"""The leader election of Cilium's operators: who holds the lease, as the real ones write it.

In come the operators' pods; out comes the Lease ``cilium-operator-resource-lock``, held by one that is ready. A leader that goes, or is not
ready any more, is followed by the next one after a moment. A holder is named by its node and its life.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.objects import dig, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["LeaderElection"]

_PODS, _LEASES = ("", "pods"), ("coordination.k8s.io", "leases")
_NAMESPACE, _NAME = "kube-system", "cilium-operator-resource-lock"
_TAKES_OVER = timedelta(seconds=2)


class LeaderElection:
    """Keeps the operators' lease."""

    tables = (_PODS,)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._late = False

    def keys(self, change: Change) -> Iterable[str]:
        """One lease, whichever operator changed."""
        return (_NAME,) if self.cluster.is_operator(change.obj) else ()

    def reconcile(self, _name: str) -> None:
        """Let another one lead, after a moment, if the leader does not work."""
        if self._holder() in map(self._identity, self._working()) or self._late or not self.cluster.cilium:
            return
        if self.cluster.booting:
            self._take_over()
            return
        self._late = True
        self.cluster.loop.after(_TAKES_OVER, self._take_over)

    def _working(self) -> list[Obj]:
        pods = self.cluster.store.list(_PODS, _NAMESPACE)
        return [p for p in pods if self.cluster.is_operator(p) and is_ready(p) and "deletionTimestamp" not in p["metadata"]]

    def _identity(self, pod: Obj) -> str:
        return f"{dig(pod, 'spec.nodeName')}-{pod['metadata']['uid'][:10]}"

    def _holder(self) -> str:
        return str(dig(self.cluster.store.get(_LEASES, _NAME, _NAMESPACE), "spec.holderIdentity") or "")

    def _take_over(self) -> None:
        self._late = False
        names = [self._identity(pod) for pod in self._working()]
        if not names or self._holder() in names:
            return
        kind, found = self.cluster.kind("Lease"), self.cluster.store.get(_LEASES, _NAME, _NAMESPACE)
        now = self.cluster.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        times = {"acquireTime": now, "renewTime": now, "leaseDurationSeconds": 15}
        changes = int(dig(found, "spec.leaseTransitions") or 0)
        spec = {"holderIdentity": min(names), "leaseTransitions": changes + (found is not None), **times}
        if found is None:
            self.cluster.store.add(kind, {"metadata": {"name": _NAME, "namespace": _NAMESPACE}, "spec": spec})
            return
        copy = self.cluster.store.edit(kind, found)
        copy["spec"] = spec
        self.cluster.store.replace(kind, copy)
