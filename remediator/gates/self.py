"""What the daemon itself stands on: its own node, its way to the API server, and the last pod of what it and everybody else need."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.cluster.model import Cluster
    from remediator.model import Target, Verdict


class Settings(RootModel[Literal["refuse", "allow"]]):
    """``self: allow``, for what the daemon survives: its own network fails for a moment, and it goes on afterwards."""

    model_config = ConfigDict(frozen=True)


class Self(Gate):
    """Refuses to disturb this daemon's node or pod, its API server, and the last ready CoreDNS, Prometheus, Alertmanager or API server."""

    name: ClassVar[str] = "self"
    summary: ClassVar[str] = "the target carries neither this daemon nor the last of what it depends on"
    key: ClassVar[str | None] = "self"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.OWN, Fact.CLUSTER})
    only_disruptive: ClassVar[bool] = True

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        settings, own = self.settings(case), snapshot.own
        found = []
        if _carries(case.target, own.node, own.namespace, own.pod):
            found.append(_here(case.target))
        left, rests = _rests_on(snapshot.cluster, case.target)
        found += rests
        if found and settings is not None and settings.root == "allow":
            return self.allow(snapshot, f"{'; '.join(found)}; the playbook accepts that")
        if found:
            return self.refuse(snapshot, "; ".join(found))
        where = f"this daemon runs on {own.node}" if own.node else "this daemon runs on no node of the cluster, or NODE_NAME does not say"
        return self.allow(snapshot, "; ".join([where, *(f"{count} of {app} ready elsewhere" for app, count in left.items())]))


def only_here(verdict: Verdict, target: Target) -> bool:
    """Whether the gate refused for nothing but where this daemon runs, so that another replica elsewhere could do it."""
    return verdict.gate == Self.name and verdict.detail == _here(target)


def _here(target: Target) -> str:
    return f"this daemon runs on {target.name}" if target.kind == "Node" else "the target is this daemon's own pod"


def _carries(target: Target, node: str, namespace: str, name: str) -> bool:
    if target.kind == "Node":
        return target.name == node
    return target.kind == "Pod" and (target.namespace, target.name) == (namespace, name)


def _rests_on(cluster: Cluster, target: Target) -> tuple[dict[str, int], list[str]]:
    """How many of each kind would be left elsewhere, on nodes that are Ready; and in words what only the target has."""
    works = {node.name for node in cluster.nodes if node.ready == "True"}
    ready = [pod for pod in cluster.needed if pod.ready and pod.node in works]
    here = {pod.app for pod in ready if _carries(target, pod.node, pod.namespace, pod.name)}
    left = {
        app: sum(pod.app == app and not _carries(target, pod.node, pod.namespace, pod.name) for pod in ready)
        for app in sorted({pod.app for pod in cluster.needed})
    }
    only = [f"the last ready {app} runs there" for app, count in left.items() if not count and app in here]
    node = cluster.node(target.name) if target.kind == "Node" else None
    if node is not None and cluster.api in node.addresses:
        only.append(f"this daemon reaches the API server at {cluster.api}, which is that node")
    return left, only
