"""A small journal in memory with the writes and reads that stories need, and the records of one incident."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from remediator.clock import ManualClock
from remediator.journal import Journal
from remediator.model import (
    Alert,
    AlertStatus,
    Change,
    ChangeState,
    Decision,
    DecisionKind,
    Delivery,
    Page,
    Resource,
    Run,
    RunState,
    Step,
    StepState,
    Target,
    Trigger,
    TriggerKind,
    Verdict,
    Verification,
    evolve,
    new_id,
    to_json,
)
from remediator.reasons import Reason

START = datetime(2026, 1, 5, 10, 0, 0, tzinfo=UTC)
NODE = Target(kind="Node", name="node-3", uid="7b1f")


class FakeJournal:
    def __init__(self):
        self._deliveries, self._decisions, self._runs, self._notes = {}, [], {}, []

    async def add_delivery(self, delivery):
        self._deliveries[delivery.id] = delivery

    async def decide(self, delivery, decisions, *, runs=(), decided_at=None):
        self._decisions += decisions
        if delivery and decided_at:
            self._deliveries[delivery] = evolve(self._deliveries[delivery], decided_at=decided_at)
        for run in runs:
            await self.save_run(run)

    async def save_run(self, run):
        self._runs[run.id] = run

    async def run(self, id):  # noqa: A002 - the journal's own name for it
        return self._runs.get(id)

    async def delivery(self, id):  # noqa: A002 - as above
        return self._deliveries.get(id)

    async def bare_runs(self, *, ids=None, target=None, limit=50):
        found = [run for run in self._runs.values() if target in (None, run.target.key) and (ids is None or run.id in ids)]
        return [evolve(run, steps=()) for run in sorted(found, key=lambda run: run.id, reverse=True)[:limit]]

    async def save_change(self, change):
        """It is in its run already."""

    async def note(self, kind, ref, data):
        self._notes.append(SimpleNamespace(kind=kind, ref=ref, data=data, at=START + timedelta(minutes=15)))

    async def entries(self, *, ref=None, kind=None, limit=1000):
        if kind != "decision":
            return [note for note in self._notes if (note.kind, note.ref) == (kind, ref)]
        return [SimpleNamespace(data=to_json(d)) for d in self._decisions if kind == "decision" and d.id == ref]

    async def decisions(self, *, delivery=None, fingerprint=None, target=None, run=None, name=None, limit=50):
        def fits(d):
            return (
                delivery in (None, d.delivery)
                and run in (None, d.run)
                and (fingerprint is None or (d.alert and d.alert.fingerprint == fingerprint))
                and (name is None or (d.alert and d.alert.name == name))
                and (target is None or (d.target and d.target.key == target))
            )

        found = sorted(filter(fits, self._decisions), key=lambda d: d.id, reverse=True)
        return Page(items=tuple(found[:limit]))


class Incident:
    """Writes records with a clock of its own: ``at`` is seconds after 10:00:00."""

    def __init__(self, journal):
        self.journal = journal
        self._salt = 0

    def time(self, at):
        return START + timedelta(seconds=at)

    def id(self, at):
        """Ids that are the same in every test run, and sort by time and then by order."""
        self._salt += 1
        return new_id(self.time(at))[:10] + f"{self._salt:016d}"

    def alert(self, name="CiliumAgentDown", *, since=-120, resolved=None, fingerprint="00f1a2b3c4d5e6f7", annotations=None, **labels):
        return Alert(
            name=name,
            fingerprint=fingerprint,
            starts_at=self.time(since),
            ends_at=None if resolved is None else self.time(resolved),
            status=AlertStatus.FIRING if resolved is None else AlertStatus.RESOLVED,
            labels={"alertname": name, **(labels or {"node": "node-3", "severity": "critical"})},
            annotations={"summary": "The agent on node-3 is gone."} if annotations is None else annotations,
        )

    async def deliver(self, at, *alerts, truncated=0, sender="10.0.0.7"):
        delivery = Delivery(
            id=self.id(at),
            received_at=self.time(at),
            receiver="remediator",
            group_key="{}:{}",
            status="firing",
            truncated=truncated,
            alerts=alerts,
            sender=sender,
        )
        await self.journal.add_delivery(delivery)
        return delivery

    def verdicts(self, at, **refusals):
        names = ["paused", "observe_only", "cooldown", "target_busy"]
        return tuple(
            Verdict(
                gate=n, allowed=n not in refusals, reason=Reason(n) if n in refusals else None, detail=refusals.get(n, ""), at=self.time(at)
            )
            for n in names
        )

    async def decide(self, at, kind, delivery=None, *, alert=None, run=None, runs=(), **more):
        decision = self.decision(at, kind, delivery, alert=alert, run=run, **more)
        decided_at = self.time(at) if delivery else None
        await self.journal.decide(delivery.id if delivery else None, [decision], runs=runs, decided_at=decided_at)
        for one in runs:
            await self.keep(one)
        return decision

    def decision(self, at, kind, delivery=None, *, alert=None, run=None, **more):
        return Decision(
            id=self.id(at),
            delivery=delivery.id if delivery else None,
            at=self.time(at),
            alert=alert or (delivery.alerts[0] if delivery else None),
            decision=DecisionKind(kind),
            run=run.id if run else None,
            **more,
        )

    async def keep(self, run):
        """A run with all that its steps changed."""
        await self.journal.save_run(run)
        for change in (change for step in run.steps for change in step.changes):
            await self.journal.save_change(change)

    def run(self, at, **more):
        values = {
            "id": self.id(at),
            "playbook": "cilium-agent-down",
            "revision": "0123456789ab",
            "trigger": Trigger(kind=TriggerKind.ALERT),
            "target": NODE,
            "state": RunState.RUNNING,
            "started_at": self.time(at),
            "deadline": self.time(at + 1800),
            **more,
        }
        return Run(**values)

    def change(self, at, run, state=ChangeState.KEPT, **more):
        values = {
            "id": self.id(at),
            "run": run.id,
            "step": "restart",
            "action": "cilium.restart_agent",
            "verb": "delete",
            "resource": Resource(kind="Pod", namespace="kube-system", name="cilium-x7k2p", uid="11aa"),
            "before": {"metadata": {"uid": "11aa"}},
            "after": {"metadata": {"uid": "22bb"}},
            "state": state,
            "at": self.time(at),
            "ended_at": self.time(at + 1),
            **more,
        }
        return Change(**values)

    def step(self, at, until, index=0, **more):
        values = {
            "name": "restart",
            "action": "cilium.restart_agent",
            "rung": 0,
            "index": index,
            "state": StepState.SUCCEEDED if until is not None else StepState.RUNNING,
            "started_at": self.time(at),
            "ended_at": None if until is None else self.time(until),
            "attempts": 1,
            **more,
        }
        return Step(**values)

    def proof(self, at, until, *, healed, checks=14, last="1 sample: 1", hold=60.0, held=None):
        return Verification(
            started_at=self.time(at),
            deadline=self.time(at + 600),
            hold_seconds=hold,
            held_since=None if held is None else self.time(held),
            healed=healed,
            checks=checks,
            last=last,
            ended_at=None if until is None else self.time(until),
        )

    async def healed(self, at=0, *, since=None):
        """Delivered, decided, restarted, proved."""
        delivery = await self.deliver(at, self.alert(since=at - 120 if since is None else since))
        gates = self.verdicts(at + 1)
        run = self.run(at + 1, delivery=delivery.id, alert=delivery.alerts[0], gates=gates)
        change = self.change(at + 2, run)
        step = self.step(at + 1, at + 31, outcome="Pod cilium-9qwzt is ready on node-3.", changes=(change,))
        ended = evolve(
            run,
            state=RunState.HEALED,
            reason=Reason.HEALED,
            ended_at=self.time(at + 97),
            steps=(step,),
            verification=self.proof(at + 31, at + 97, healed=True, held=at + 37),
        )
        await self.decide(at + 1, "run", delivery, run=run, runs=[ended], playbook=run.playbook, target=NODE, gates=gates)
        return SimpleNamespace(delivery=delivery, run=ended, alert=delivery.alerts[0])


@pytest.fixture(params=["in memory", "sqlite"])
async def journal(request, tmp_path):
    if request.param == "in memory":
        yield FakeJournal()
        return
    real = await Journal.open(f"sqlite:///{tmp_path / 'journal.db'}", clock=ManualClock(START))
    yield real
    await real.close()


@pytest.fixture
def incident(journal):
    return Incident(journal)


@pytest.fixture
def golden(request):
    """Compare with tests/unit/story/golden/NAME.txt; GOLDEN=write makes the files anew, for a person to read in the diff."""

    def compare(lines):
        name = request.node.originalname.removeprefix("test_")
        path = Path(__file__).parent / "golden" / f"{name}.txt"
        text = "".join(line + "\n" for line in lines)
        if os.environ.get("GOLDEN") == "write":
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare
