"""One open run per target, whatever the playbook: five alert names for one node are one remediation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class TargetBusy(Gate):
    """Refuses while another run is open on the target. A dry run only minds dry runs, and a live run only live ones.

    A run that waits for people before its beginning only keeps them from being asked a second time about the same target.
    """

    name: ClassVar[str] = "target_busy"
    summary: ClassVar[str] = "no other run is open on the target"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.OPEN_RUNS})

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        for run in snapshot.open_runs:
            other = run.id != case.run and run.target.key == case.target.key and run.dry_run == case.dry_run
            if other and (case.asks or not run.unapproved):
                return self.refuse(snapshot, f"run {run.id} of {run.playbook} is {run.state} on {run.target.key}")
        return self.allow(snapshot)
