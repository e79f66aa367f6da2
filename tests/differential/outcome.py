"""What a drain did: which pods went, which stayed, what was refused and why. The same shape for kubectl and for remediator.

In come the pods on the node before a drain and a look at the cluster after it; out comes an ``Outcome``. Pods are counted by workload,
since the names of a controller's pods differ from copy to copy.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from differential.cluster import PODS, pods

if TYPE_CHECKING:
    from collections.abc import Mapping

    from differential.cluster import Cluster
    from differential.copies import Copy

__all__ = ["GOING", "GONE", "LEFT", "Before", "Outcome", "look", "remember"]

GONE, GOING, LEFT = "gone", "going", "left"


@dataclass(frozen=True)
class Before:
    """The pods that were on the node when the drain began."""

    workload: Mapping[str, str]
    """namespace/name -> workload"""
    uids: Mapping[str, str]
    """uid -> namespace/name"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it ended."""

    drained: bool
    """Whether it was said to have succeeded."""
    fates: Mapping[str, Mapping[str, int]]
    """Workload -> how many of its pods are gone, going (marked for deletion, still there), or left."""
    refusals: frozenset[tuple[str, str]]
    """(reason code, workload): what kept it from being drained; the workload is empty where none was named."""
    cordoned: bool
    seconds: float = 0.0
    calls: int = 0
    """Requests to the API server."""
    said: str = field(default="", compare=False)
    """Its own words."""

    @property
    def reasons(self) -> frozenset[str]:
        """The reason codes alone."""
        return frozenset(reason for reason, _ in self.refusals)

    def untouched(self) -> bool:
        """Whether no pod went that would not have gone anyway."""
        return not any(count for fates in self.fates.values() for fate, count in fates.items() if fate == GONE)

    def __str__(self) -> str:
        fates = "; ".join(f"{name}: {', '.join(f'{n} {fate}' for fate, n in found.items())}" for name, found in self.fates.items())
        no = ", ".join(f"{reason}({workload})" for reason, workload in sorted(self.refusals)) or "nothing"
        end = "drained" if self.drained else "failed"
        return f"{end}, {'cordoned' if self.cordoned else 'schedulable'}; refused: {no}; {fates} [{self.seconds:.1f} s, {self.calls} calls]"


async def _on(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    return await cluster.items(PODS, fieldSelector=f"spec.nodeName={node}")


async def remember(cluster: Cluster, copy: Copy) -> Before:
    """The pods on the node now."""
    workload, uids = {}, {}
    for pod in await _on(cluster, copy.home):
        meta = pod["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        if meta["namespace"] in copy.namespaces:
            workload[key], uids[meta["uid"]] = meta["labels"]["app"], key
    return Before(workload, uids)


async def look(cluster: Cluster, copy: Copy, before: Before) -> tuple[dict[str, dict[str, int]], bool]:
    """The fates of those pods, and whether the node is cordoned."""
    now = {p["metadata"]["uid"]: p for space in copy.namespaces for p in await cluster.items(pods(space))}
    counted: dict[str, Counter[str]] = {name: Counter() for name in sorted(set(before.workload.values()))}
    for uid, key in before.uids.items():
        fate = GONE if uid not in now else GOING if "deletionTimestamp" in now[uid]["metadata"] else LEFT
        counted[before.workload[key]][fate] += 1
    node = await cluster.get(f"/api/v1/nodes/{copy.home}")
    return {name: dict(sorted(found.items())) for name, found in counted.items()}, bool(node["spec"].get("unschedulable"))
