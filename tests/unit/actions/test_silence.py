"""``alertmanager.silence`` on the simulated Alertmanager, and once on the real one."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from remediator.model import Alert, AlertStatus, ChangeState, StepState, evolve
from remediator.monitoring import Alertmanager
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

ACTION = "alertmanager.silence"
LABELS = {"alertname": "CiliumAgentDown", "node": "node-3", "severity": "critical"}


async def begun(stage, playbook, *, alert=True, **more):
    run = await stage.begin(playbook, node="node-3", **more)
    if alert:
        now = stage.world.clock.now()
        told = Alert(name=LABELS["alertname"], fingerprint="f" * 16, starts_at=now, status=AlertStatus.FIRING, labels=LABELS)
        await stage.world.journal.save_run(evolve(run, alert=told))
    return run


async def step(stage, *, alert=True, dry_run=False, **parameters):
    playbook = stage.playbook(ACTION, **parameters)
    return await stage.carry(playbook, await begun(stage, playbook, alert=alert, dry_run=dry_run))


async def silences(stage):
    return await stage.world.alertmanager.silences()


def texts(silence):
    return sorted(f"{m.name}{'=' if m.is_equal else '!='}{m.value}" for m in silence.matchers)


async def test_the_other_alerts_of_the_target_are_muted_for_a_while_and_again_heard_once_undone(stage):
    done = await step(stage, duration="2h")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (made,) = await silences(stage)
    assert (texts(made), made.created_by, made.over) == (["alertname!=CiliumAgentDown", "node=node-3"], "remediator", False)
    assert made.ends_at - made.starts_at == timedelta(hours=2)
    (change,) = done.run.steps[0].changes
    assert change.request_id in made.comment
    assert (await undo(stage.world, done.run)).undone == (f"ended the silence {made.id}",)
    assert [one.over for one in await silences(stage)] == [True]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"labels": ["severity"]}, ["alertname!=CiliumAgentDown", "severity=critical"]),
        ({"matchers": ['alertname="NodeLatencyCritical"', 'target_node="${target.name}"']},
         ["alertname=NodeLatencyCritical", "target_node=node-3"]),
    ],
)  # fmt: skip
async def test_matchers_come_from_the_alert_or_from_the_file(stage, parameters, expected):
    done = await step(stage, **parameters)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert [texts(one) for one in await silences(stage)] == [expected]


@pytest.mark.parametrize(
    ("parameters", "alert", "reason"),
    [
        ({"matchers": ['node="node-3"']}, True, Reason.SILENCED),
        ({"matchers": ['severity!="none"']}, False, Reason.TARGET_AMBIGUOUS),
        ({"labels": ["zone"]}, True, Reason.TARGET_MISSING),
        ({"labels": ["node"]}, False, Reason.TARGET_MISSING),
    ],
)
async def test_what_would_mute_too_much_or_the_runs_own_alert_is_refused(stage, parameters, alert, reason):
    done = await step(stage, alert=alert, **parameters)
    assert (done.end, done.reason) == (StepEnd.FAILED, reason)
    assert await silences(stage) == []


async def test_a_dry_run_and_no_alertmanager(stage):
    done = await step(stage, dry_run=True)
    assert (done.end, done.detail.startswith("would mute node=")) == (StepEnd.SUCCEEDED, True)
    assert await silences(stage) == []
    stage.world.alertmanager = None
    assert "alertmanager.url" in (await step(stage)).detail


async def test_after_a_crash_the_silence_is_found_again_and_not_made_twice(stage):
    done = await step(stage)
    (change,) = done.run.steps[0].changes
    again = evolve(done.run.steps[0], state=StepState.RUNNING)
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED))
    await stage.world.journal.save_step(done.run.id, again)
    done = await stage.carry(stage.playbook(ACTION), done.run)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len(await silences(stage)) == 1
    assert [one.state for one in done.run.steps[0].changes] == [ChangeState.APPLIED]


async def test_what_somebody_else_took_over_or_time_ended_is_left(stage):
    done = await step(stage)
    (made,) = await silences(stage)
    manager = stage.simulation.alertmanager
    theirs = dataclasses.replace(manager.silences[made.id], ends_at=made.ends_at + timedelta(hours=3))
    manager.silences[made.id] = theirs
    assert (await undo(stage.world, done.run)).foreign
    assert not (await silences(stage))[0].over


@pytest.mark.alertmanager
async def test_the_real_alertmanager_takes_it_finds_it_and_ends_it(stage, alertmanager, monkeypatch):
    from remediator.clock import SystemClock

    real = alertmanager()
    door = Alertmanager(real.url, timeout=timedelta(seconds=20))
    monkeypatch.setattr(stage.world, "alertmanager", door)
    stage.world.clock = SystemClock()  # a real Alertmanager lives now
    done = await step(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (made,) = await silences(stage)
    assert (texts(made), made.over) == (["alertname!=CiliumAgentDown", "node=node-3"], False)
    (change,) = done.run.steps[0].changes
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED))
    await stage.world.journal.save_step(done.run.id, evolve(done.run.steps[0], state=StepState.RUNNING))
    done = await stage.carry(stage.playbook(ACTION), done.run)
    assert len(await silences(stage)) == 1
    assert (await undo(stage.world, done.run)).undone == (f"ended the silence {made.id}",)
    assert [one.over for one in await silences(stage)] == [True]
    await door.close()
