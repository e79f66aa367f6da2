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
    from differential.states import Flags

__all__ = ["GOING", "GONE", "LEFT", "Before", "Outcome", "in_time", "look", "remember"]

GONE, GOING, LEFT = "gone", "going", "left"
_BUSY = 20
"""Seconds; kubectl's own sleep of 5 s after a refusal is among them."""


def in_time(seconds: float, flags: Flags) -> bool:
    """Whether a drain that took so long kept to its time-out."""
    return seconds <= flags.timeout + _BUSY


@dataclass(frozen=True)
class Before:
    """The pods that were on the node when the drain began, and those that came late."""

    workload: dict[str, str] = field(default_factory=dict)
    """namespace/name -> workload"""
    uids: dict[str, str] = field(default_factory=dict)
    """uid -> namespace/name"""

    def add(self, pod: dict[str, Any]) -> None:
        """One more pod."""
        meta = pod["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        self.workload[key], self.uids[meta["uid"]] = meta["labels"]["app"], key


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

    in_time: bool = True
    """Whether it came to its end within the time that it was given, and some for a busy machine."""

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
        end = ("drained" if self.drained else "failed") + ("" if self.in_time else " too late")
        return f"{end}, {'cordoned' if self.cordoned else 'schedulable'}; refused: {no}; {fates} [{self.seconds:.1f} s, {self.calls} calls]"


async def remember(cluster: Cluster, copy: Copy) -> Before:
    """The pods on the node now."""
    before = Before()
    for pod in await cluster.items(PODS, fieldSelector=f"spec.nodeName={copy.home}"):
        if pod["metadata"]["namespace"] in copy.namespaces:
            before.add(pod)
    return before


async def look(cluster: Cluster, copy: Copy, before: Before) -> tuple[dict[str, dict[str, int]], bool]:
    """The fates of those pods, and whether the node is cordoned."""
    now = {p["metadata"]["uid"]: p for space in copy.namespaces for p in await cluster.items(pods(space))}
    counted: dict[str, Counter[str]] = {name: Counter() for name in sorted(set(before.workload.values()))}
    for uid, key in before.uids.items():
        fate = GONE if uid not in now else GOING if "deletionTimestamp" in now[uid]["metadata"] else LEFT
        counted[before.workload[key]][fate] += 1
    node = await cluster.get(f"/api/v1/nodes/{copy.home}")
    return {name: dict(sorted(found.items())) for name, found in counted.items()}, bool(node["spec"].get("unschedulable"))
