"""One open run per target, whatever the playbook: five alert names for one node are one remediation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class TargetBusy(Gate):
    """Refuses while another run is open on the target, or what an ended one did there is being put back.

    A dry run only minds dry runs, and a live run only live ones. An undo minds open runs, and no other undo: neither would ever begin.
    A run that waits for people before its beginning only keeps them from being asked a second time about the same target.
    A run that asks again minds only what began before it.
    """

    name: ClassVar[str] = "target_busy"
    summary: ClassVar[str] = "no other run is open on the target"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.OPEN_RUNS, Fact.UNDOING})

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        for run in snapshot.open_runs:
            asked = case.asks and run.unapproved and run.dry_run == case.dry_run
            if run.target.key == case.target.key and (asked or case.minds(run)):
                return self.refuse(snapshot, f"run {run.id} of {run.playbook} is {run.state} on {run.target.key}")
        for run in () if case.undoing else snapshot.undoing:
            if run.id != case.run and run.target.key == case.target.key and run.dry_run == case.dry_run:
                return self.refuse(snapshot, f"what run {run.id} of {run.playbook} did to {run.target.key} is being put back")
        return self.allow(snapshot)
