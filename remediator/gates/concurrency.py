"""How many runs may be open at once, in all, of those that disturb, and of these in one zone (settings ``limits``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Outline, Verdict


class Concurrency(Gate):
    """Refuses while as many runs are open as the settings allow. Dry runs and live runs are counted apart.

    What waits for people before its beginning holds nothing up, and is judged again once they said yes; but people can answer only so much.
    A run that asks again counts only what began before it.
    """

    name: ClassVar[str] = "concurrency"
    summary: ClassVar[str] = "fewer runs are open than the limits allow"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.OPEN_RUNS, Fact.CLUSTER})

    def needs(self, case: Case) -> frozenset[Fact]:
        """The cluster only where zones matter."""
        return self.reads if self._by_zone(case) else self.reads - {Fact.CLUSTER}

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        others = [run for run in snapshot.open_runs if case.minds(run)]
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
        words = f"{len(others)} other runs are open, {len(disruptive)} of them may disturb"
        return self._zone(case, snapshot, disruptive, words) if disruptive and self._by_zone(case) else self.allow(snapshot, words)

    def _by_zone(self, case: Case) -> bool:
        """Where no more may be open in all than in one zone, zones need not be known."""
        return case.disruptive and case.target.kind == "Node" and case.limits.concurrent_disruptive > case.limits.concurrent_per_zone

    def _zone(self, case: Case, snapshot: Snapshot, disruptive: list[Outline], words: str) -> Verdict:
        zones = {node.name: node.zone for node in snapshot.cluster.nodes}
        zone, most = zones.get(case.target.name, ""), case.limits.concurrent_per_zone
        if not zone:
            return self.allow(snapshot, f"{words}; {case.target.name} is in no zone")
        inside = [run for run in disruptive if run.target.kind == "Node" and zones.get(run.target.name) == zone]
        detail = f"{words}, {len(inside)} in {zone}; concurrent_per_zone is {most}"
        return self.allow(snapshot, detail) if len(inside) < most else self.refuse(snapshot, detail)
