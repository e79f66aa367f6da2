"""What goes wrong around the daemon while a run is on its way. ``docs/failures.md`` says the same to people."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator.clock import FastClock
from remediator.kube import Kube
from remediator.model import RunState
from remediator.reasons import Reason

API = "^/api"
FOR_EVER = timedelta(hours=6)
RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "30s", "metrics": False, "timeout": "30m"}}
GATES = {"cooldown": "1s"}
CORDON = {"cordon": {"action": "node.cordon"}}
PATIENT = {"query": 'symptom{node="${target.name}"} == 0', "within": "20m", "hold": "10s", "every": "5s"}


@pytest.fixture
def restarted(line, symptom):
    """The symptom is over once the node's agent is another one."""
    before = line.stage.agents()

    def another(node):
        pod = line.stage.cluster.agent_pod(node)
        return pod is not None and pod["metadata"]["uid"] != before[node]

    symptom.cured = another
    return before


@pytest.fixture
def leap(line):
    """``leap(hours=1)``: the daemon's own clock is set; the cluster's goes on as before."""
    clock = line.world.clock = FastClock(line.world.clock.rate)

    def leap(**how):
        clock._start += timedelta(**how)

    return leap


@pytest.fixture
async def under_way(line, restarted, text):
    """A run whose delete is done and that waits for the new agent."""
    line.load(text(steps=[RESTART], verify=PATIENT, deadline="3h", gates=GATES))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.when(run, lambda r: any(c.state == "kept" for s in r.steps for c in s.changes), "the delete")
    return run


async def met(line, fault, times):
    async def look():
        return fault.hits >= times

    await line.until(look, f"{times} calls met the fault")


def deletes(line):
    return [call for call in line.stage.writes() if call[0] == "delete"]


@pytest.mark.parametrize("how", [{"status": 503}, {"status": 500}, {"status": 429, "retry_after": 1}], ids=["503", "500", "429"])
async def test_an_api_server_that_refuses_for_a_while_is_waited_for(line, under_way, how):
    fault = line.stage.cluster.fail(path=API, count=None, **how)
    await met(line, fault, 4)
    line.stage.cluster.faults.clear()
    done = await line.ended(under_way)
    assert (done.state, done.reason) == (RunState.HEALED, Reason.HEALED), done.detail
    assert len(deletes(line)) == 1


async def test_an_api_server_that_refuses_for_good_ends_the_run_at_its_deadline(line, under_way, later):
    fault = line.stage.cluster.fail(path=API, status=503, count=None)
    await met(line, fault, 1)
    later(minutes=40)
    done = await line.ended(under_way)
    assert done.state is RunState.FAILED
    assert done.reason is Reason.DEADLINE
    assert "503" in done.detail
    assert len(deletes(line)) == 1


async def test_a_slow_api_server_costs_looks_and_no_second_call(line, under_way):
    """Three times slower than a call may take, as 30 s are to the 10 s of the settings."""
    kube, line.world.kube._kube = (
        line.world.kube._kube,
        await Kube.connect(server=line.stage.simulation.url, timeout=timedelta(seconds=0.2)),
    )
    try:
        fault = line.stage.cluster.slow(timedelta(seconds=0.6 * line.world.clock.rate), path=API, count=None)
        await met(line, fault, 3)
        line.stage.cluster.faults.clear()
        done = await line.ended(under_way)
    finally:
        slow, line.world.kube._kube = line.world.kube._kube, kube
        await slow.close()
    assert done.state is RunState.HEALED, done.detail
    assert len(deletes(line)) == 1


@pytest.mark.parametrize("how", ["refused", "wrong", "stale"])
async def test_without_a_usable_prometheus_nothing_is_called_healed(line, under_way, how, later):
    prometheus = line.stage.simulation.prometheus
    await line.when(under_way, lambda r: r.state == "verifying", "the verification")
    if how == "stale":
        prometheus.scraping = False
        later(hours=1)
    else:
        answer = {"status": 503} if how == "refused" else {"status": 200, "text": "<html>Welcome</html>"}
        fault = line.stage.cluster.fail(path="^/prometheus", count=None, **answer)
        await met(line, fault, 2)
        later(hours=1)
    done = await line.ended(under_way)
    assert done.state is RunState.NOT_HEALED
    assert done.reason is Reason.DEADLINE
    assert done.detail.startswith("could not be verified: ")


async def test_a_clock_that_leaps_ahead_makes_what_waits_late_and_sends_nothing_again(line, leap, under_way):
    """The step has 30 minutes; it looks once more, and says that its time is up if that look does not end it."""
    leap(hours=1)
    done = await line.ended(under_way)
    assert (done.state, done.reason) in ((RunState.FAILED, Reason.DEADLINE), (RunState.HEALED, Reason.HEALED)), done.detail
    assert len(deletes(line)) == 1
    assert (await line.journal.verify()).ok


async def test_a_clock_that_leaps_back_begins_the_hold_anew_and_does_not_wait_for_the_hour(line, leap, symptom, text):
    symptom.set("node-3", False)
    line.load(text(verify={**PATIENT, "hold": "1m"}, deadline="3h"))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.when(run, lambda r: r.verification is not None and r.verification.held_since is not None, "the hold")
    leap(hours=-1)
    done = await line.ended(run)
    assert (done.state, done.reason) == (RunState.HEALED, Reason.HEALED), done.detail
    assert done.ended_at < done.started_at, "it waited until its clock was where it had been"
    decisions = await line.decided(await line.deliver(line.outside.fire("Other")))
    assert [decision.decision for decision in decisions] == ["unmatched"]
    assert (await line.journal.verify()).ok


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_leap_of_the_clock_lifts_no_gate_before_its_time(line, restarted, text, leap, hours):
    """Ahead: a cooldown of two hours lasts. Back: its start lies in the future, and it lasts longer."""
    gates = {"cooldown": "2h", "attempts": {"max": 1, "per": "target", "within": "3h"}}
    line.load(text(steps=[RESTART], verify=PATIENT, deadline="3h", gates=gates))
    await line.start()
    await line.ended(await line.run_of(line.outside.fire(episode="first")))
    leap(hours=hours)
    (decision,) = await line.decided(await line.deliver(line.outside.fire(episode="second")))
    no = {verdict.gate for verdict in decision.gates if not verdict.allowed}
    assert {"cooldown", "attempts_exhausted"} <= no
    assert len(deletes(line)) == 1


async def test_a_run_that_hangs_keeps_nobody_else_waiting(line, restarted, text):
    """Its call is never answered; another target's run goes its whole way meanwhile."""
    other = text("other", alert="Other", steps=[CORDON], verify=None)
    line.load(text(steps=[RESTART], verify=PATIENT, deadline="3h", gates=GATES), other)
    await line.start()
    held = line.stage.cluster.slow(FOR_EVER, verb="delete", count=None)
    stuck = await line.run_of(line.outside.fire(node="node-3"))
    await met(line, held, 1)
    done = await line.ended(await line.run_of(line.outside.fire("Other", node="node-5")))
    assert done.state is RunState.DONE, done.detail
    now = await line.journal.run(stuck)
    assert now.state is RunState.RUNNING
    assert [c.state for s in now.steps for c in s.changes] == ["intended"]


async def test_a_flood_on_many_targets_is_decided_to_the_last_alert(line, text):
    """A playbook takes every one of 1,000 alerts on 400 targets; benchmarks/flood.py has 10,000 on 1,000 that exist, and the numbers."""
    line.load(text(verify=None))
    await line.start()
    alerts = [line.outside.fire(node=f"node-{number % 400 + 1}", number=str(number), known=False) for number in range(1000)]
    deliveries = await asyncio.gather(*(line.deliver(*alerts[start : start + 20]) for start in range(0, 1000, 20)))
    for delivery in deliveries:
        assert len(await line.decided(delivery)) == 20

    async def counted():
        return line.pipeline.undecided == 0  # a moment after the last decision is on disk

    await line.until(counted, "none is counted as undecided")
