"""Never a second restart for one episode, and never more than one node's agent, whatever alerts say and cooldowns allow."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.episodes import Episodes
from remediator.model import RunState, Trigger, TriggerKind, evolve

RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}
LOOSE = {"gates": {"cooldown": "1s"}}


@pytest.fixture
def restarting(deciding, text, symptom):
    """With ``symptom`` Prometheus scrapes whenever it is asked, so that a leap in time does not make it stale."""
    deciding.load(text(steps=[RESTART], **LOOSE))
    return deciding


async def ended(deciding, run):
    """The run is over, healed, and its cooldown is over too."""
    now = deciding.world.clock.now()
    stored = await deciding.world.journal.run(run)
    await deciding.world.journal.save_run(evolve(stored, state=RunState.HEALED, ended_at=now))
    await deciding.world.clock.sleep(timedelta(seconds=5))


def told(decisions):
    return [(str(d.decision), d.reason or "") for d in decisions]


async def test_the_same_episode_never_restarts_twice_whatever_the_cooldown_says(restarting, outside, later):
    alert = outside.fire()
    (first,) = await restarting.decide(alert)
    await ended(restarting, first.run)
    later(hours=5)
    assert told(await restarting.decide(alert)) == [("duplicate", "duplicate")]


async def test_nor_if_the_episode_was_forgotten_in_memory(restarting, outside, later):
    """As after so many others that it fell out, or on another replica: the journal's history of the target knows."""
    alert = outside.fire()
    (first,) = await restarting.decide(alert)
    await ended(restarting, first.run)
    later(hours=5)
    restarting.decider._episodes = Episodes()
    (again,) = await restarting.decide(alert)
    assert told([again]) == [("refused", "duplicate")]
    assert first.run in again.detail
    assert [v.gate for v in again.gates if not v.allowed] == ["duplicate"]


async def test_nor_by_another_playbook(restarting, outside, text, later):
    alert = outside.fire()
    (first,) = await restarting.decide(alert)
    await ended(restarting, first.run)
    later(hours=5)
    restarting.load(text("other", steps=[RESTART], **LOOSE))
    restarting.decider._episodes = Episodes()
    assert told(await restarting.decide(alert)) == [("refused", "duplicate")]


async def test_another_firing_of_the_alert_is_another_episode(restarting, outside, later):
    alert = outside.fire()
    (first,) = await restarting.decide(alert)
    await ended(restarting, first.run)
    await restarting.decide(outside.resolve(alert))
    later(hours=1)
    assert told(await restarting.decide(outside.fire())) == [("run", "")]


async def test_a_person_may_ask_again(restarting, outside):
    alert = outside.fire()
    (first,) = await restarting.decide(alert)
    await ended(restarting, first.run)
    stored = await restarting.world.journal.run(first.run)
    by_hand = Trigger(kind=TriggerKind.MANUAL, by="ada", reason="once more")
    judged = await restarting.decider.person(restarting.world.library.by_name("remedy"), stored.target, by_hand, alert=stored.alert)
    assert judged.run is not None, judged.decision.detail


async def test_alerts_for_every_node_restart_one_agent(restarting, outside, stage):
    """Never a fleet-wide restart: one at a time, and the next only once no other agent is down."""
    alerts = [outside.fire(node=node) for node in stage.cluster.node_names()]
    decisions = await restarting.decide(*alerts)
    assert told(decisions) == [("run", ""), *[("refused", "concurrency")] * 4]


async def test_agents_that_are_down_together_are_restarted_by_no_alert(restarting, outside, stage):
    """Several at once have one cause, and it is not in any of them."""
    for node in ("node-2", "node-3"):
        stage.cluster.kill_agent(node)
    decisions = await restarting.decide(*[outside.fire(node=node) for node in ("node-2", "node-3")])
    assert told(decisions) == [("refused", "agent_not_ready")] * 2
    assert stage.writes() == []


async def test_an_alert_that_names_no_node_restarts_none(restarting, outside):
    assert told(await restarting.decide(outside.fire(node=""))) == [("refused", "target_missing")]


async def test_a_second_rung_that_restarts_again_is_refused(line, stage, symptom, text):
    """A ladder that tries the same once more: the restart did not help, so another will not."""
    symptom.cured = lambda node: False
    ladder = [[RESTART], [{"again": RESTART["restart"]}]]
    verify = {"query": 'symptom{node="${target.name}"} == 0', "within": "4s", "hold": "1s", "every": "1s"}
    line.load(text(ladder=ladder, verify=verify, **LOOSE))
    await line.start()
    run = await line.ended(await line.run_of(line.outside.fire()))
    assert (run.state, run.reason) == ("failed", "attempts_exhausted"), run.detail
    assert [verb for verb, _ in stage.writes()] == ["delete"]


async def test_gates_of_a_restart_forbid_it_and_not_what_a_later_rung_does(line, stage, symptom, text):
    """The agent begins to crash by itself after its restart: it is left alone, and its node is cordoned all the same."""
    symptom.cured = lambda node: bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))
    verify = {"query": 'symptom{node="${target.name}"} == 0', "within": "4s", "hold": "1s", "every": "1s"}
    line.load(
        text(
            ladder=[[{"settle": {"action": "wait", "for": "1s"}}], [{"cordon": {"action": "node.cordon"}}], [RESTART]],
            verify=verify,
            **LOOSE,
        )
    )
    stage.cluster.kill_agent("node-3", "crash_loop")
    await line.start()
    run = await line.ended(await line.run_of(line.outside.fire()))
    assert (run.state, run.rung) == ("healed", 1), run.detail
