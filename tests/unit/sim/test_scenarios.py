from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.errors import UsageError
from remediator.reasons import Reason
from remediator.sim import Simulation, all_scenarios, scenario

SCENARIOS = all_scenarios()


def test_there_are_as_many_as_promised():
    assert len({s.name for s in SCENARIOS}) == len(SCENARIOS) >= 25


@pytest.mark.parametrize("one", SCENARIOS, ids=lambda s: s.name)
def test_the_truth_does_not_contradict_itself(one):
    truth = one.truth
    assert not {(no.act, no.target) for no in truth.must_not} & {(may.act, may.target) for may in truth.may}
    assert truth.may or truth.must_not, "it says what is right"
    assert not truth.healable or any(may.act.disruptive for may in truth.may), "what can be healed is healed by something"
    assert truth.alerts or one.asks
    assert one.breaks < one.lasts
    assert all(code in set(Reason) for code in truth.says)
    assert {"nodes": one.nodes, "settings": one.settings, "own": one.own_node} == {"nodes": 5, "settings": {}, "own": ""} or not one.demo


@pytest.mark.parametrize("one", SCENARIOS, ids=lambda s: s.name)
async def test_it_breaks_and_was_whole_before(one, clock):
    async with Simulation(nodes=one.nodes, clock=clock, seed=1) as sim:
        await sim.play(one)
        await sim.run_for(one.breaks + timedelta(minutes=2, seconds=10))
        told = {alert.labels["alertname"] for alert in sim.alertmanager.alerts.values()}
        assert not one.healed(sim), "nobody did anything"
        assert told or one.asks or not one.truth.alerts, "something is told of it"


def test_what_is_not_for_the_demo():
    assert scenario("scrape-storm").name == "scrape-storm"
    with pytest.raises(UsageError, match="there is no scenario"):
        scenario("scrape-storm", demo=True)
