"""A dry run takes a shadow of locks and budgets: it holds up no live run and is held up by none, and it spends nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.match import find
from remediator.model import RunState, Trigger, TriggerKind, evolve
from remediator.reasons import Reason
from remediator.settings import Breaker

CORDON = {"cordon": {"action": "node.cordon"}}
RESTART = {"restart": {"action": "cilium.restart_agent", "timeout": "20m"}}
DRY, LIVE = True, False


async def by_hand(deciding, *, dry, node="node-3"):
    """Somebody asks for the loaded playbook; what was decided."""
    playbook = deciding.world.library.playbooks[0]
    target = await find("Node", node, "", deciding.world.kube)
    trigger = Trigger(kind=TriggerKind.MANUAL, by="anna", reason="to see")
    judged = await deciding.decider.person(playbook, target, trigger, dry_run=dry)
    return judged.decision


async def ends(deciding, decision, state):
    """The run of ``decision`` is over, as ``state``."""
    run = await deciding.world.journal.run(decision.run)
    await deciding.world.journal.save_run(evolve(run, state=state, ended_at=deciding.world.clock.now()))


async def failed(deciding, decision):
    """The run of ``decision`` acted, and that did not help; its target is free again."""
    run = await deciding.world.journal.run(decision.run)
    await deciding.world.journal.save_run(
        evolve(run, state=RunState.FAILED, reason=Reason.STEP_FAILED, ended_at=deciding.world.clock.now())
    )
    await deciding.world.clock.sleep(timedelta(seconds=5))


def refusing(decision):
    return [verdict.gate for verdict in decision.gates if not verdict.allowed]


@pytest.mark.parametrize(("first", "second"), [(DRY, LIVE), (LIVE, DRY)], ids=["dry, then live", "live, then dry"])
async def test_neither_waits_for_a_lock_that_the_other_holds(deciding, text, first, second):
    """One run on the target, and one that disturbs anywhere: of each kind."""
    deciding.load(text(steps=[RESTART], gates={"cooldown": "1s"}))
    assert (await by_hand(deciding, dry=first)).decision == "run"
    other = await by_hand(deciding, dry=second)
    assert (other.decision, other.dry_run) == ("run", second), other.detail
    for dry in (first, second):
        again = await by_hand(deciding, dry=dry)
        assert refusing(again) == ["concurrency", "target_busy"], "its own kind holds it up"


async def test_budgets_are_counted_apart(deciding, text):
    deciding.world.limits = evolve(deciding.world.limits, concurrent_runs=1)
    deciding.load(text(steps=[CORDON]))
    for node, dry, allowed in (("node-1", DRY, True), ("node-2", LIVE, True), ("node-3", DRY, False), ("node-4", LIVE, False)):
        decision = await by_hand(deciding, dry=dry, node=node)
        assert (decision.decision == "run") is allowed, (node, decision.detail)


async def test_failures_of_dry_runs_spend_neither_attempts_nor_a_cooldown_of_live_ones(deciding, text, later):
    gates = {"attempts": {"max": 1, "per": "target", "within": "6h"}, "cooldown": "1h"}
    deciding.load(text(steps=[CORDON], gates=gates))
    await ends(deciding, await by_hand(deciding, dry=DRY), RunState.FAILED)
    again = await by_hand(deciding, dry=DRY)
    assert refusing(again) == ["attempts_exhausted", "cooldown"], "it keeps to them itself, in its own ledger"
    live = await by_hand(deciding, dry=LIVE)
    assert live.decision == "run", live.detail
    await ends(deciding, live, RunState.FAILED)
    assert refusing(await by_hand(deciding, dry=LIVE)) == ["attempts_exhausted", "cooldown"]


async def test_failures_of_dry_runs_never_open_the_breaker_and_a_dry_run_predicts_one_that_is_open(deciding, text):
    breaker = Breaker(failures=2, runs=3, within=timedelta(hours=6))
    deciding.world.limits = evolve(deciding.world.limits, breaker=breaker, disruptive_per_hour=100)
    deciding.load(text(steps=[RESTART], gates={"cooldown": "1s"}))
    nodes = iter(f"node-{n}" for n in (1, 2, 3, 1, 2, 3))
    for _ in range(4):
        dry = await by_hand(deciding, dry=DRY, node=next(nodes))
        assert dry.decision == "run", dry.detail
        await failed(deciding, dry)
    for node in ("node-4", "node-5"):
        live = await by_hand(deciding, dry=LIVE, node=node)
        assert live.decision == "run", live.detail
        await failed(deciding, live)
    assert refusing(await by_hand(deciding, dry=LIVE, node="node-1")) == ["breaker_open"]
    predicted = await by_hand(deciding, dry=DRY, node="node-1")
    assert (predicted.decision, predicted.reason, predicted.dry_run) == ("refused", "breaker_open", True)


class TestAFiringAlert:
    """Nothing that a dry run does ends an alert, so it goes on firing, and comes again and again."""

    async def test_leads_to_one_dry_run(self, deciding, outside, text, later):
        deciding.world.dry_run = True
        deciding.load(text(steps=[CORDON]))
        alert = outside.fire()
        (first,) = await deciding.decide(alert)
        assert (first.decision, first.dry_run) == ("run", True)
        await ends(deciding, first, RunState.PREDICTED)
        for _ in range(5):
            later(hours=4)
            assert [d.decision for d in await deciding.decide(alert)] == ["duplicate"]
        await deciding.restart()
        assert [d.decision for d in await deciding.decide(alert)] == ["duplicate"]

    async def test_that_flaps_is_held_by_the_cooldown_of_dry_runs(self, deciding, outside, text, later):
        deciding.world.dry_run = True
        deciding.load(text(steps=[CORDON], gates={"cooldown": "30m"}))
        runs = 0
        for _ in range(6):
            alert = outside.fire()
            (decision,) = await deciding.decide(alert)
            if decision.decision == "run":
                runs += 1
                await ends(deciding, decision, RunState.PREDICTED)
            await deciding.decide(outside.resolve(alert))
            later(minutes=6)
        assert runs == 2, "at the beginning, and after half an hour"

    async def test_is_acted_on_once_the_daemon_is_no_longer_dry(self, deciding, outside, text, later):
        """It was still firing when somebody switched dry_run off; the dry run is no reason to leave it alone."""
        deciding.world.dry_run = True
        deciding.load(text(steps=[RESTART], gates={"cooldown": "30m"}))
        alert = outside.fire()
        (dry,) = await deciding.decide(alert)
        await ends(deciding, dry, RunState.PREDICTED)
        deciding.world.dry_run = False
        await deciding.restart()
        (live,) = await deciding.decide(alert)
        assert (live.decision, live.dry_run) == ("run", False), live.detail
        assert live.run != dry.run
        later(minutes=1)
        (again,) = await deciding.decide(alert)
        assert (again.decision, again.run) == ("duplicate", live.run)

    async def test_does_not_stand_in_the_way_of_a_person_nor_is_undone(self, line, stage, symptom, text):
        """Through the whole pipeline: nothing is left behind, so there is nothing to undo when the alert resolves."""
        line.world.dry_run = True
        line.load(text(steps=[CORDON], on_resolved="undo"))
        await line.start()
        alert = line.outside.fire()
        run = await line.ended(await line.run_of(alert))
        assert run.state == "predicted", run.detail
        await line.decided(await line.deliver(line.outside.resolve(alert)))
        await line.world.clock.sleep(timedelta(seconds=5))
        assert await line.journal.entries(ref=run.id, kind="undo") == []
        assert stage.writes() == []
