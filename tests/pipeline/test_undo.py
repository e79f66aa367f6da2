"""Putting back what disturbs is gated like doing it: refused, it stays on the list of what is left behind, and can be done later."""

from __future__ import annotations

import asyncio

import pytest

from remediator import carry
from remediator.bgp.read import read_routes
from remediator.bgp.selector import DRAIN_LABEL
from remediator.kube import kinds
from remediator.model import Mode, Pause, RunState, Step, StepState, Trigger, TriggerKind, evolve, new_id
from remediator.undo import undo

SHIFT = {"shift": {"action": "bgp.withdraw_node", "timeout": "15m"}}
CORDON = {"cordon": {"action": "node.cordon"}}
LOOK = {"look": {"action": "prometheus.query", "query": "symptom"}}
FAILS = {"look": {"action": "prometheus.query", "query": "symptom == 7", "expect": "some"}}


@pytest.fixture
def rate():
    """Slow enough that sessions come back in time on a busy machine."""
    return 30


@pytest.fixture
async def steady(line):
    """BGP whose sessions have time enough to come back while everything else is slow, and all of which are up."""
    for peer in ("peer-tor1", "peer-tor2"):
        timers = {"spec": {"timers": {"connectRetryTimeSeconds": 90}}}
        await line.world.kube.patch(kinds.BGP_PEER_CONFIG, peer, timers, type="merge")
    cilium = line.world.cilium

    async def look():
        now = line.world.clock.now()
        routes = await read_routes(
            line.world.kube, line.world.prometheus, namespace=cilium.namespace, agents=cilium.agent_selector, now=now
        )
        return all(not node.lag and node.sessions and all(one.works for one in node.sessions) for node in routes.nodes)

    await line.until(look, "every session")


@pytest.fixture
async def shifted(line, stage, symptom, text, steady):
    """A run that took node-3 out of BGP because of an alert, healed; ``resolve`` ends the alert."""
    symptom.cured = lambda node: DRAIN_LABEL in labels(stage, node)
    line.load(text(steps=[CORDON, SHIFT], on_resolved="undo", gates={"cooldown": "1s"}, deadline="1h"))
    await line.start()
    alert = line.outside.fire()
    run = await line.ended(await line.run_of(alert))
    assert run.state == "healed", run.detail

    async def resolve():
        line.resolved = await line.deliver(line.outside.resolve(alert))
        await line.decided(line.resolved)

    line.resolve = resolve
    return run


def labels(stage, node="node-3"):
    return stage.cluster.get("Node", node)["metadata"]["labels"]


async def left(line):
    return (await line.journal.changes(left_behind=True)).items


async def outcomes(line, run):
    entries = await line.journal.entries(ref=run, kind="undo")
    return [entry.data["outcome"] for entry in entries if "outcome" in entry.data]


async def tried(line, run, times=1):
    async def look():
        found = await outcomes(line, run)
        return found if len(found) >= times else None

    return (await line.until(look, "a try to undo"))[-1]


async def pause(line, **what):
    now = line.world.clock.now()
    await line.journal.add_pause(Pause(id=new_id(now), reason="stop it", by="anna", at=now, **what))


async def test_allowed_it_goes_back_last_first(line, stage, shifted):
    await line.resolve()
    words = await tried(line, shifted.id)
    assert words.index("speaks BGP again") < words.index("uncordoned"), "last first"
    assert DRAIN_LABEL not in labels(stage)
    assert await left(line) == ()


async def test_refused_it_stays_on_the_list_with_the_reason_and_what_disturbs_nothing_goes_back(line, stage, shifted):
    before = line.counted("remediator_gate_refusals_total", playbook="remedy", gate="paused")
    await pause(line)
    await line.resolve()
    words = await tried(line, shifted.id)
    assert "left, since putting it back is refused now: patch Node/node-3: paused: everything is paused by anna: stop it" in words
    assert DRAIN_LABEL in labels(stage), "BGP was not brought back"
    assert not stage.cluster.get("Node", "node-3")["spec"].get("unschedulable"), "an uncordon disturbs nothing"
    (change,) = await left(line)
    assert (change.action, change.state, change.reason) == ("bgp.withdraw_node", "applied", "paused")
    assert "stop it" in change.detail
    assert line.counted("remediator_gate_refusals_total", playbook="remedy", gate="paused") == before + 1
    await line.journal.end_pauses(playbook=None, target=None, by="anna", at=line.world.clock.now())
    await line.pipeline.undo(shifted.id)
    assert "speaks BGP again" in await tried(line, shifted.id, times=2)
    assert DRAIN_LABEL not in labels(stage)
    assert await left(line) == ()
    (change,) = [c for step in (await line.journal.run(shifted.id)).steps for c in step.changes if c.id == change.id]
    assert (change.state, change.reason, change.detail) == ("undone", None, "")


@pytest.mark.long
@pytest.mark.parametrize("gate", ["protected", "target_busy", "unreadable"])
async def test_each_gate_that_looks_at_the_cluster_and_not_at_the_symptom_refuses(line, stage, shifted, gate):
    if gate == "protected":
        marks = {"metadata": {"annotations": {"remediator.dev/protected": "true"}}}
        await line.world.kube.patch(kinds.NODE, "node-3", marks, type="merge")
    elif gate == "target_busy":
        await other_run(line, shifted)
    else:
        stage.cluster.fail(verb="get", path="/nodes/node-3$", status=500, count=None)
    await line.resolve()
    await tried(line, shifted.id)
    assert DRAIN_LABEL in labels(stage)
    assert {change.action: change.reason for change in await left(line)}["bgp.withdraw_node"] == gate


async def other_run(line, of):
    """Another run is open on the same node."""
    now = line.world.clock.now()
    step = Step(name="s", action="wait", rung=0, index=0, state=StepState.PENDING)
    by_hand = Trigger(kind=TriggerKind.MANUAL, by="berta")
    other = evolve(of, id=new_id(now), state=RunState.RUNNING, trigger=by_hand, disruptive=False, steps=(step,), ended_at=None)
    await line.journal.decide(None, [], runs=[other])


async def test_what_was_refused_for_another_run_goes_back_when_that_one_ends(line, stage, shifted, text, gate):
    line.load(text("watch", alert="Other", steps=[gate], verify=None))
    other = await line.run_of(line.outside.fire("Other"))
    await line.step_begins(other, "gate")
    await line.resolve()
    assert "target_busy" in await tried(line, shifted.id)
    assert [change.reason for change in await left(line)] == ["target_busy"]
    line.gate.set()
    await line.ended(other)
    assert "speaks BGP again" in await tried(line, shifted.id, times=2)
    assert await left(line) == ()


async def test_while_it_goes_back_nobody_else_begins_on_the_target(line, stage, symptom, text, monkeypatch):
    """The run has ended, and so stands among no open ones."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(world, run):
        begun.set()
        await go_on.wait()
        return await undo(world, run)

    monkeypatch.setattr(carry, "undo", slowly)
    symptom.cured = lambda node: stage.cluster.get("Node", node)["spec"].get("unschedulable")
    line.load(text(steps=[CORDON], on_resolved="undo"), text("watch", alert="Other", steps=[LOOK], verify=None, gates={"cooldown": "1s"}))
    await line.start()
    alert = line.outside.fire()
    run = await line.ended(await line.run_of(alert))
    assert run.state == "healed", run.detail
    await line.decided(await line.deliver(line.outside.resolve(alert)))
    await begun.wait()
    other = line.outside.fire("Other")
    (refused,) = await line.decided(await line.deliver(other))
    assert (refused.decision, refused.reason) == ("refused", "target_busy"), refused.detail
    go_on.set()
    assert "uncordoned" in await tried(line, run.id)

    async def over():
        return not line.world.undoing

    await line.until(over, "its end")
    assert (await line.ended(await line.run_of(other))).state == "done"


async def test_neither_the_symptom_nor_the_mode_nor_a_limit_of_attempts_forbids_it(line, stage, symptom, text, steady):
    """It goes back because the alert is over; a cooldown that has just begun is no reason to leave a node out of service."""
    gates = {"cooldown": "5h", "attempts": {"max": 1, "per": "target", "within": "6h"}}
    line.load(text(steps=[SHIFT, FAILS], on_failure="undo", gates=gates))
    await line.start()
    alert = line.outside.fire()
    run = await line.run_of(alert)
    await line.when(run, lambda r: any(c.state == "applied" for s in r.steps for c in s.changes), "the shift")
    line.world.mode_of = lambda _: Mode.SUGGEST
    line.outside.resolve(alert)
    done = await line.ended(run)
    assert (done.state, done.reason) == ("failed", "step_failed"), done.detail
    assert "speaks BGP again" in done.detail
    assert DRAIN_LABEL not in labels(stage)


async def test_refused_before_the_end_the_run_says_so_and_leaves_it_to_be_undone_later(line, stage, symptom, text, steady):
    line.load(text(steps=[SHIFT, FAILS], on_failure="undo", gates={"cooldown": "1s"}))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.when(run, lambda r: any(c.state == "applied" for s in r.steps for c in s.changes), "the shift")
    marks = {"metadata": {"annotations": {"remediator.dev/protected": "true"}}}
    await line.world.kube.patch(kinds.NODE, "node-3", marks, type="merge")
    done = await line.ended(run)
    assert (done.state, done.reason) == ("failed", "step_failed")
    assert "putting it back is refused now: patch Node/node-3: protected" in done.detail
    assert [change.reason for change in await left(line)] == ["protected"]
    assert DRAIN_LABEL in labels(stage)


async def test_what_could_not_be_undone_says_why_on_the_list(line, stage, symptom, text):
    symptom.cured = lambda node: bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))
    line.load(text(steps=[CORDON], on_resolved="undo"))
    await line.start()
    alert = line.outside.fire()
    run = (await line.ended(await line.run_of(alert))).id
    stage.cluster.fail(verb="patch", path="/nodes/node-3", status=403, count=None)
    await line.decided(await line.deliver(line.outside.resolve(alert)))
    await tried(line, run)
    (change,) = [c for c in await left(line) if not c.undoes]
    assert (change.state, change.reason) == ("applied", "step_failed")
    assert change.detail.startswith("not put back: ")
