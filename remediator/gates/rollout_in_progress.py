"""Whether somebody else is replacing Cilium's pods, or a restart would do so with another version."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.cilium import judge
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class RolloutInProgress(Gate):
    """Refuses while the agents' DaemonSet or the operator rolls out, and where a restart would upgrade (OnDelete with a newer revision)."""

    name: ClassVar[str] = "rollout_in_progress"
    summary: ClassVar[str] = "Cilium is not being rolled out, and a restart would bring back the same version"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.CILIUM})
    always: ClassVar[bool] = False

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        cilium = snapshot.cilium
        found = [judge.rolling_out(cilium.agents), judge.would_upgrade(cilium.agents, case.target.name)]
        found += [judge.deployment_rolls(one) for one in cilium.operators]
        words = "; ".join(part for part in found if part)
        return self.refuse(snapshot, words) if words else self.allow(snapshot)
