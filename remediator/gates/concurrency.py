"""How many runs may be open at once, in all and of those that disturb (settings ``limits``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict


class Concurrency(Gate):
    """Refuses while as many runs are open as the settings allow. Dry runs and live runs are counted apart.

    What waits for people before its beginning holds nothing up, and is judged again once they said yes; but people can answer only so much.
    """

    name: ClassVar[str] = "concurrency"
    summary: ClassVar[str] = "fewer runs are open than the limits allow"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.OPEN_RUNS})

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        others = [run for run in snapshot.open_runs if run.id != case.run and run.dry_run == case.dry_run and not run.unapproved]
        disruptive = [run for run in others if run.disruptive]
        limits = case.limits
        waiting = sum(run.unapproved for run in snapshot.open_runs if run.id != case.run)
        if case.asks and waiting >= limits.waiting:
            return self.refuse(snapshot, f"{waiting} runs wait for people already; approval.waiting is {limits.waiting}")
        if len(others) >= limits.concurrent_runs:
            return self.refuse(snapshot, f"{len(others)} runs are open; concurrent_runs is {limits.concurrent_runs}")
        if case.disruptive and len(disruptive) >= limits.concurrent_disruptive:
            names = ", ".join(f"{run.playbook} on {run.target.key}" for run in disruptive)
            return self.refuse(snapshot, f"{names} is open; concurrent_disruptive is {limits.concurrent_disruptive}")
        return self.allow(snapshot, f"{len(others)} other runs are open")
