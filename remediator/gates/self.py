"""Whether acting would hit the node that carries the daemon: it must not depend on what it is about to take away."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class Settings(RootModel[Literal["refuse", "allow"]]):
    """``self: allow``, for what the daemon survives: its own network fails for a moment, and it goes on afterwards."""

    model_config = ConfigDict(frozen=True)


class Self(Gate):
    """Refuses a node on which this daemon runs, unless the playbook accepts that."""

    name: ClassVar[str] = "self"
    summary: ClassVar[str] = "the target is not the node that carries this daemon"
    key: ClassVar[str | None] = "self"
    Settings: ClassVar[type[BaseModel] | None] = Settings
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.OWN_NODE})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        settings, own = self.settings(case), snapshot.own_node
        if not own:
            return self.allow(snapshot, "the daemon runs on no node of the cluster, or NODE_NAME does not say on which")
        if case.target.kind != "Node" or case.target.name != own:
            return self.allow(snapshot, f"the daemon runs on {own}")
        if settings is not None and settings.root == "allow":
            return self.allow(snapshot, f"the daemon runs on {own}, and the playbook accepts that")
        return self.refuse(snapshot, f"this daemon runs on {own}: its own network would fail in the middle of the run")
