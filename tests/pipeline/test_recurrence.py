"""The same restart again and again is stopped: a restart hides a fault. Told by the decision, why, a metric and the report."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from remediator.server.service import ManualRequest

RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}
LOOSE = {"cooldown": "1s"}


@pytest.fixture
async def ward(house, symptom, text, later):
    """A daemon with two playbooks that restart the agent, and ``restart(playbook)``, which does so and lets an hour pass."""
    symptom.cured = house.stage.cluster.agent_works
    house.put("alerted.yaml", text("alerted", steps=[RESTART], gates=LOOSE, deadline="2h"))
    house.put("by-hand.yaml", text("by-hand", alert=None, steps=[RESTART], gates=LOOSE, deadline="2h"))
    await house.start(mode="auto")

    async def restart(playbook="by-hand", **more):
        house.stage.cluster.kill_agent("node-3")
        request = ManualRequest(playbook=playbook, target="Node/node-3", by="anna", reason="it hangs", **more)
        decision = await house.operations.trigger(request)
        if decision.run:
            run = await house.ended(decision.run)
            assert run.state == ("predicted" if run.dry_run else "healed"), run.detail
        later(hours=1)
        return decision

    house.restart = restart
    return house


async def refusals(house):
    _, metrics = await house.http("GET", "/metrics", token="read")
    found = re.search(r'remediator_gate_refusals_total\{gate="recurrence",playbook="by-hand"\} (\S+)', metrics)
    return float(found[1]) if found else 0


def restarts(house):
    return [w for w in house.stage.cluster.writes() if w.verb == "delete" and w.resource == "pods"]


async def test_the_third_restart_is_not_done_whichever_playbooks_did_the_others(ward):
    before = await refusals(ward)
    first, second = await ward.restart("alerted"), await ward.restart()
    third = await ward.restart()
    assert (third.decision, third.reason) == ("refused", "attempts_exhausted"), third.detail
    assert "a restart hides a fault here: cilium.restart_agent was done 2 times within 7d" in third.detail
    assert [v.gate for v in third.gates if not v.allowed] == ["recurrence"]
    assert len(restarts(ward)) == 2
    assert await refusals(ward) == before + 1
    _, story = await ward.http("GET", "/api/v1/why?ref=node-3", token="read")
    assert "a restart hides a fault here" in "\n".join(story["lines"])
    _, report = await ward.http("GET", "/api/v1/report/recurrence", token="read")
    (one,) = report["items"]
    assert (one["target"], one["action"], one["times"], one["healed"]) == ("Node/node-3", "cilium.restart_agent", 2, 2)
    assert [(each["run"], each["playbook"], each["state"]) for each in one["each"]] == [
        (first.run, "alerted", "healed"),
        (second.run, "by-hand", "healed"),
    ]
    assert one["first"] < one["last"]


async def test_another_node_and_a_week_later_are_allowed(ward, later):
    await ward.restart()
    await ward.restart()
    ward.stage.cluster.kill_agent("node-4")
    other = await ward.operations.trigger(ManualRequest(playbook="by-hand", target="Node/node-4", by="anna"))
    assert other.decision == "run", other.detail
    await ward.ended(other.run)
    later(days=7)
    assert (await ward.restart()).decision == "run"


async def test_it_survives_a_restart_of_the_daemon(ward):
    await ward.restart()
    await ward.restart()
    await ward.stop()
    await ward.start(mode="auto")
    assert (await ward.restart()).reason == "attempts_exhausted"


async def test_a_dry_run_is_never_counted_and_is_refused_as_a_live_one(ward):
    for _ in range(3):
        assert (await ward.restart(dry_run=True)).decision == "run"
    assert (await ward.restart()).decision == "run"
    assert (await ward.restart()).decision == "run"
    for dry in (True, False):
        refused = await ward.restart(dry_run=dry)
        assert (refused.decision, refused.reason) == ("refused", "attempts_exhausted")
    _, report = await ward.http("GET", "/api/v1/report/recurrence", token="read")
    assert [one["times"] for one in report["items"]] == [2]
    _, effect = await ward.http("GET", "/api/v1/report/effect", token="read")
    assert [(one["playbook"], one["target"] is None, one["runs"]) for one in effect["items"]] == [
        ("by-hand", True, 2),
        ("by-hand", False, 2),
    ]
    _, none = await ward.http("GET", "/api/v1/report/effect?playbook=other", token="read")
    assert none["items"] == []


async def test_what_began_meanwhile_is_seen_right_before_the_restart(line, stage, symptom, text, gate):
    """A ladder whose restart comes late asks again, and then the drain is tried by whoever is told."""
    stage.cluster.kill_agent("node-3")
    line.load(text(steps=[gate, RESTART], gates={**LOOSE, "recurrence": {"stop_at": 2, "within": "1d"}}))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.step_begins(run, "gate")
    await somebody_elses_restart(line, run)
    line.gate.set()
    done = await line.ended(run)
    assert (done.state, done.reason) == ("cancelled", "attempts_exhausted"), done.detail
    assert "a restart hides a fault here" in done.detail


async def somebody_elses_restart(line, run):
    from remediator.model import Change, ChangeState, Resource, RunState, evolve, new_id

    now = line.world.clock.now()
    other = evolve(await line.journal.run(run), id=new_id(now), playbook="other", state=RunState.HEALED, alert=None, ended_at=now)
    await line.journal.save_run(other)
    change = Change(
        id=new_id(now),
        run=other.id,
        step="restart",
        action="cilium.restart_agent",
        verb="delete",
        resource=Resource(kind="Pod", namespace="kube-system", name="cilium-x"),
        state=ChangeState.KEPT,
        at=now - timedelta(minutes=5),
    )
    await line.journal.save_change(change)
