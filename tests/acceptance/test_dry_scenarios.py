"""Every incident twice from the same beginning, live and dry: the same decisions, gates and calls up to where the world answers first.

The short incidents are compared more closely in tests/pipeline/test_dry_equals_live.py. A difference is a fault of the product.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from standins.calls import moves, shape

from remediator import facts
from remediator.sim import all_scenarios
from remediator.testing import START, Daemons, perform, rehearse

EXCEPT = {
    "clock-leaps-back": "the daemon's own clock goes back, so its records cannot be put in order by their times",
    "drain-of-a-cordoned-node": "what changes something first is one of several evictions under way at once; which one is chance",
}
"""Incidents in which a comparison makes no sense, with the reason."""
EVERY = 1 if os.environ.get("REMEDIATOR_EVERY_INCIDENT") else 2
"""Every how manieth incident is played; each plays twice, and those that a person can watch are compared elsewhere too."""
LONG, AFTERWARDS = timedelta(minutes=15), timedelta(minutes=2)
"""How long to look on at most, and how long at a dry run after the moment of the live one's first change."""


class Kept(Daemons):
    """The daemon, and what it decided, did and asked, once all is over."""

    dry = False
    found = None

    async def __aenter__(self):
        self.began = self.clock.now()
        self.scenario = replace(self.scenario, settings={**self.scenario.settings, "dry_run": self.dry})
        return await super().__aenter__()

    async def __aexit__(self, *error):
        decisions = (await self._house.client.decisions(limit=500)).items
        runs = (await self._house.client.runs(limit=500)).items
        # Leases are locks: a live run takes them, a dry one only their shadow.
        calls = [call for call in self.simulation.cluster.request_log if "medik8s-leases" not in call.path]
        decisions = sorted(decisions, key=lambda d: (d.at, str(d.alert), *map(str, told(d))))
        type(self).found = SimpleNamespace(decisions=decisions, runs=runs, calls=calls, began=self.began)
        await super().__aexit__(*error)


class Dry(Kept):
    dry = True


def play(scene, hands, folder, lasts):
    folder.mkdir()
    rehearse(lambda clock: perform(replace(scene, lasts=min(lasts, scene.lasts)), hands, clock, folder), start=START)
    return hands.found


def told(decision):
    """All that a decision says but its ids and times."""
    gates = [(verdict.gate, verdict.allowed, verdict.reason) for verdict in decision.gates]
    return decision.playbook, decision.target and decision.target.key, decision.decision, decision.reason, gates


@pytest.mark.long
@pytest.mark.parametrize("scene", [s for s in all_scenarios() if s.name not in EXCEPT][::EVERY], ids=lambda scene: scene.name)
def test_dry_equals_live(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=30))  # in real time, so a busy machine would decide otherwise
    live = play(scene, Kept, tmp_path / "live", LONG)
    first = next((n for n, call in enumerate(live.calls) if call.writes), None)
    decisions, calls = live.decisions, live.calls
    if first is None:
        dry = play(scene, Dry, tmp_path / "dry", LONG)
        foreseen = dry.decisions
    else:
        calls = live.calls[: first + 1]
        dry = play(scene, Dry, tmp_path / "dry", calls[-1].at - live.began + AFTERWARDS)
        begun = min((run for run in live.runs if any(step.changes for step in run.steps)), key=lambda run: run.started_at)
        until = next(decision.at for decision in decisions if decision.run == begun.id)
        decisions, foreseen = ([d for d in found if d.at <= until] for found in (decisions, dry.decisions))
    assert [call for call in dry.calls if call.writes] == [], "a dry run changed something"
    assert list(map(told, foreseen)) == list(map(told, decisions))
    assert all(decision.dry_run for decision in foreseen if decision.gates)
    assert not any(decision.dry_run for decision in decisions)

    asked, tried = list(map(shape, moves(calls))), list(map(shape, moves(dry.calls)))
    assert tried[: len(asked)] == asked, "the same calls in the same order"
    if first is not None:
        same = [call for call in dry.calls if call.seq <= moves(dry.calls)[len(asked) - 1].seq]
        reads = Counter(map(shape, calls)) - Counter(asked)
        assert Counter(map(shape, same)) - Counter(map(shape, moves(same))) == reads, "and the same questions before them"
