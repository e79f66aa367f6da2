"""Every incident twice from the same beginning, live and dry: the same decisions, gates and calls up to where the world answers first.

The short incidents are compared more closely in tests/pipeline/test_dry_equals_live.py. A difference is a fault of the product.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import takewhile
from types import SimpleNamespace

import msgspec
import pytest
from msgspec import structs
from standins.calls import moves, shape

from remediator.model import Decision
from remediator.sim import all_scenarios
from remediator.testing import START, Daemons, house, perform, rehearse

BY_THE_CLOCK = ("/version", "/alertmanager/api/v2/alerts")
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
        entries = [json.loads(line) async for line in self._house.client.export()]
        decisions = [msgspec.convert(entry["data"], Decision) for entry in entries if entry.get("kind") == "decision"]
        runs = (await self._house.client.runs(limit=500)).items
        calls = [call for call in self.simulation.cluster.request_log if not beside(call)]
        decisions = in_true_time(decisions, {off for _, off in self.scenario.clock_is_off} | {timedelta(0)})
        decisions.sort(key=lambda d: (d.at, str(d.alert), *map(str, told(d))))
        type(self).found = SimpleNamespace(decisions=decisions, runs=runs, calls=calls, began=self.began)
        await super().__aexit__(*error)


class Dry(Kept):
    dry = True


def beside(call):
    """Leases are locks: a live run takes them, a dry one only their shadow. Events are notes of what a live run does."""
    return "medik8s-leases" in call.path or (call.writes and call.resource.partition(".")[0] == "events")


def play(scene, hands, folder, lasts):
    folder.mkdir()
    rehearse(lambda clock: perform(replace(scene, lasts=min(lasts, scene.lasts)), hands, clock, folder), start=START)
    return hands.found


def told(decision):
    """All that a decision says but its ids and times."""
    gates = [(verdict.gate, verdict.allowed, verdict.reason) for verdict in decision.gates]
    return decision.playbook, decision.target and decision.target.key, decision.decision, decision.reason, gates


def in_true_time(decisions, offsets):
    """The same decisions, in the order in which they were written down, with the times of a clock that never leapt."""
    found, before = [], START
    for decision in decisions:
        before = min((at for off in offsets if (at := decision.at - off) >= before), default=before)
        found.append(structs.replace(decision, at=before))
    return found


def tried_once(calls):
    """Without a trial write that repeats one of the same moment: whether alerts that come then are judged together is chance."""
    seen, found = set(), []
    for call in calls:
        trial = (call.at, call.path) if call.path.endswith("/kube-node-lease/leases") else call.seq
        if trial not in seen:
            seen.add(trial)
            found.append(call)
    return found


def evicts(call):
    return call.path.endswith("/eviction")


def questions(calls, move):
    """How often each question was asked before the move of that number."""
    changing = moves(calls)
    until = changing[move].seq
    return Counter(shape(call) for call in calls if call.seq < until and call not in changing)


def differences(live, dry):
    """Questions that were not asked as often. Those of every look come by the clock too, once more or less in the moment of the move."""
    by_the_clock = [key for key in live if key[2] in BY_THE_CLOCK or ("query", "time()") in key[3]]
    allowed = Counter(by_the_clock)
    return {key: (live[key], dry[key]) for key in live | dry if abs(live[key] - dry[key]) > allowed[key]}


@pytest.mark.long
@pytest.mark.parametrize("scene", all_scenarios(), ids=lambda scene: scene.name)
def test_dry_equals_live(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(house, "_PATIENCE", timedelta(seconds=30))  # in real time, so a busy machine would decide otherwise
    live = play(scene, Kept, tmp_path / "live", LONG)
    first = next((n for n, call in enumerate(live.calls) if call.writes), None)
    decisions, calls = live.decisions, live.calls
    if first is None:
        dry = play(scene, Dry, tmp_path / "dry", LONG)
        foreseen = dry.decisions
    else:
        calls = live.calls[: first + 1]
        dry = play(scene, Dry, tmp_path / "dry", calls[-1].at - live.began + AFTERWARDS)
        changed = {run.id for run in live.runs if any(step.changes for step in run.steps)}
        until = next(decision.at for decision in decisions if decision.run in changed)
        decisions, foreseen = ([d for d in found if d.at <= until] for found in (decisions, dry.decisions))
    assert [call for call in dry.calls if call.writes] == [], "a dry run changed something"
    assert list(map(told, foreseen)) == list(map(told, decisions))
    assert all(decision.dry_run for decision in foreseen if decision.gates)
    assert not any(decision.dry_run for decision in decisions)

    asked, tried = tried_once(moves(calls)), tried_once(moves(dry.calls))
    # Evictions are under way at once, so which of them comes first is chance; what comes before them has an order.
    ordered = len(asked) - len(list(takewhile(evicts, reversed(asked)))) if first is not None else len(asked)
    assert list(map(shape, tried[:ordered])) == list(map(shape, asked[:ordered])), "the same calls in the same order"
    assert set(map(shape, asked[ordered:])) <= set(map(shape, filter(evicts, tried[ordered:]))), "and the same evictions"
    if first is not None:
        last = min(ordered, len(asked) - 1)
        assert differences(questions(calls, last), questions(dry.calls, last)) == {}, "and the same questions before them"
