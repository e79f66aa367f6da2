"""Whether every announced address keeps enough speakers if the target node goes away.

Of policy ``Local`` only nodes with a ready endpoint are speakers; a pod network may go once no pod is reached through it; every router
that has a prefix keeps it. A node that announces nothing that counts takes nothing away: what is gone already cannot be protected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from remediator.bgp.coverage import Rules, losses
from remediator.bgp.model import Metrics
from remediator.gates import Case, Fact, Gate, Snapshot
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Verdict

_SHOWN = 5
"""Prefixes that a refusal names; the rest is counted."""


class Settings(BaseModel):
    """``route_coverage: {min_speakers: 3, peers: any, min_zones: 2}``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_speakers: int = Field(default=1, ge=1, le=1000, description="of every address; more than limits.min_speakers, never less")
    peers: Literal["each", "any"] = Field(default="each", description="each: every router that has an address keeps it from somebody")
    min_zones: int = Field(default=1, ge=1, le=100, description="zones that the remaining speakers lie in, where they do now")
    pod_cidrs: Literal["refuse", "allow"] = Field(default="refuse", description="allow: withdraw a pod network that pods still use")


class RouteCoverage(Gate):
    """Refuses if an address would be left with too few speakers, or a router with none of them."""

    name: ClassVar[str] = "route_coverage"
    summary: ClassVar[str] = "every announced address keeps enough speakers without the target node"
    key: ClassVar[str | None] = "route_coverage"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.ROUTES})
    always: ClassVar[bool] = False
    on_undo: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if case.target.kind != "Node":
            return self.allow(snapshot, "the target is no node")
        routes, name = snapshot.routes, case.target.name
        node = routes.node(name)
        if node is None or not node.sessions:
            return self.allow(snapshot, f"{name} speaks no BGP")
        if routes.metrics is Metrics.UNREADABLE:
            return self.refuse(snapshot, f"who speaks cannot be told: {routes.metrics_detail}", Reason.UNREADABLE)
        found = losses(routes, rules(case), nodes=[name])
        short = [f"{loss.prefix.prefix} ({loss.prefix.of}): {loss.why}" for loss in found if loss.why]
        if short:
            more = f"; and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
            return self.refuse(snapshot, "; ".join(short[:_SHOWN]) + more)
        return self.allow(snapshot, f"{len(found)} prefixes keep enough speakers without {name}")


def rules(case: Case) -> Rules:
    """What has to be left: the settings' limit, or more if the playbook asks for more."""
    asked = case.settings.get("route_coverage") or Settings()
    return Rules(
        min_speakers=max(case.limits.min_speakers, asked.min_speakers),
        each_peer=asked.peers == "each",
        min_zones=asked.min_zones,
        pod_cidrs=asked.pod_cidrs == "refuse",
    )
