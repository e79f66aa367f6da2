"""Whether the pods of a node that is to be emptied fit on the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.cluster.fit import fit, shortened
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class Settings(BaseModel):
    """``capacity: {headroom_percent: 10}``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    headroom_percent: float = Field(default=0, ge=0, lt=100, description="of each other node, that must stay free of requests")


class Capacity(Gate):
    """Refuses if some pod of the target would find no node. Brought by actions that empty nodes, or set by a playbook.

    What cannot be judged (device claims, other schedulers, volumes that do not exist yet) is said and does not refuse.
    """

    name: ClassVar[str] = "capacity"
    summary: ClassVar[str] = "the pods of the node fit on the others"
    key: ClassVar[str | None] = "capacity"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.LOAD})
    always: ClassVar[bool] = False
    only_disruptive: ClassVar[bool] = True

    def needs(self, case: Case) -> frozenset[Fact]:
        """Only nodes have pods that would have to move."""
        return super().needs(case) if case.target.kind == "Node" else frozenset()

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        if case.target.kind != "Node":
            return self.allow(snapshot, "the target is no node")
        load = snapshot.load
        settings: Settings = self.settings(case) or Settings()
        found = fit(load, settings.headroom_percent / 100)
        unjudged = sorted({word for words in found.unjudged.values() for word in words})
        unsure = f"; not judged for {len(found.unjudged)} of them: {', '.join(unjudged)}" if unjudged else ""
        words = f"{len(load.wants) - len(found.homeless)} of {len(load.wants)} pods fit on {len(load.offers)} other nodes{unsure}"
        if not found.homeless:
            return self.allow(snapshot, words)
        return self.refuse(snapshot, f"{words}; without a place: {shortened(f'{n} ({why})' for n, why in found.homeless.items())}")
