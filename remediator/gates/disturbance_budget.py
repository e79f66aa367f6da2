"""How many nodes may be disturbed at once, over all actors: admins, autoscalers, upgrades and faults count as our own runs do."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from remediator.cluster.disturbed import disturbed, named
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.cluster.model import Cluster
    from remediator.model import Verdict


class Settings(BaseModel):
    """``disturbance: {max_nodes: 1, max_percent: 20}``; the narrower of these and of the settings' ``limits.max_disturbed`` counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_nodes: int | None = Field(default=None, ge=1, le=10_000)
    max_percent: float | None = Field(default=None, gt=0, le=100)


class Room(NamedTuple):
    """A part of the cluster: how many nodes it has, how many would be disturbed, how many may be."""

    where: str
    size: int
    disturbed: int
    most: int

    def __str__(self) -> str:
        return f"{self.disturbed} of {self.size} nodes {self.where} would be disturbed; at most {self.most} may be"


class DisturbanceBudget(Gate):
    """Refuses what would leave more nodes disturbed than allowed, in the cluster or in the target's zone.

    The target counts once, whether it is disturbed already or not: a broken node may be worked on, a second one may not be added to it.
    """

    name: ClassVar[str] = "disturbance_budget"
    summary: ClassVar[str] = "few enough nodes would be disturbed, whoever disturbs them"
    key: ClassVar[str | None] = "disturbance"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.CLUSTER, Fact.OPEN_RUNS})
    only_disruptive: ClassVar[bool] = True

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        cluster, target = snapshot.cluster, case.target.name if case.target.kind == "Node" else ""
        runs = [run for run in snapshot.open_runs if run.disruptive and case.minds(run)]
        found = disturbed(cluster, {run.target.name for run in runs if run.target.kind == "Node"})
        names = found.keys() | ({target} if target else set())
        node = cluster.node(target)
        rooms = [self._room(case, cluster, names, "")]
        if node is not None and node.zone:
            rooms.append(self._room(case, cluster, names, node.zone))
        others = {name: words for name, words in found.items() if name != target}
        words = f"{'; '.join(map(str, rooms))}; besides the target: {named(others) or 'none'}"
        return self.allow(snapshot, words) if all(room.disturbed <= room.most for room in rooms) else self.refuse(snapshot, words)

    def _room(self, case: Case, cluster: Cluster, names: set[str], zone: str) -> Room:
        """Of the whole cluster, or of one zone."""
        inside = {node.name for node in cluster.nodes if not zone or node.zone == zone}
        return Room(f"in {zone}" if zone else "in all", len(inside), len(inside & names), case.most_disturbed(len(inside)))
