"""What came of acting, counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from remediator.effect import effects
from remediator.model import Approval, ApprovalState, Run, RunState, Target, Trigger, TriggerKind
from remediator.reasons import Reason

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


def run(state, *, node="a", playbook="p", took=None, **fields):
    return Run(
        id=f"{node}-{state}-{took}",
        playbook=playbook,
        revision="0",
        trigger=Trigger(kind=TriggerKind.ALERT, by="alertmanager"),
        target=Target(kind="Node", name=node),
        state=state,
        started_at=NOW,
        ended_at=None if took is None else NOW + timedelta(seconds=took),
        deadline=NOW + timedelta(hours=1),
        **fields,
    )


def test_success_and_time_to_heal():
    healed = [run(RunState.HEALED, took=seconds) for seconds in (30, 90, 600)]
    bad = run(RunState.NOT_HEALED, took=900, reason=Reason.STILL_FIRING)
    whole, node = effects([*healed, bad])
    assert (whole.target, node.target) == (None, "Node/a")
    assert (whole.runs, whole.healed, whole.failed, whole.success) == (4, 3, 1, 0.75)
    assert (whole.heal_median, whole.heal_longest) == (90, 600), "what was not healed has no time to heal"


def test_a_false_start_is_neither_success_nor_failure():
    (whole, _) = effects([run(RunState.CANCELLED, took=5, reason=Reason.RESOLVED_MEANWHILE)])
    assert (whole.runs, whole.false_starts, whole.failed, whole.stopped) == (1, 1, 0, 0)
    assert (whole.success, whole.heal_median) == (None, None)


def test_what_people_stopped_and_what_is_open_stand_apart():
    (whole, _) = effects([run(RunState.CANCELLED, took=5, reason=Reason.CANCELLED_BY), run(RunState.VERIFYING)])
    assert (whole.stopped, whole.open, whole.success) == (1, 1, None)


def test_done_counts_as_success_but_has_no_time_to_heal():
    (whole, _) = effects([run(RunState.DONE, took=5)])
    assert (whole.healed, whole.success, whole.heal_median) == (1, 1.0, None)


def test_what_began_nothing_is_not_counted():
    asked = Approval(asked_at=NOW, expires_at=NOW, state=ApprovalState.REJECTED)
    assert effects([run(RunState.PREDICTED, took=1, dry_run=True), run(RunState.CANCELLED, took=1, approvals=(asked,))]) == ()


def test_time_spent_waiting_for_a_yes_is_not_time_to_heal():
    asked = Approval(asked_at=NOW, expires_at=NOW, state=ApprovalState.APPROVED, ended_at=NOW + timedelta(seconds=60))
    (whole, _) = effects([run(RunState.HEALED, took=100, approvals=(asked,))])
    assert whole.heal_median == 40


def test_playbooks_by_name_and_the_worst_target_in_front():
    runs = [run(RunState.HEALED, took=1), run(RunState.FAILED, node="z", took=1, reason=Reason.STEP_FAILED)]
    found = effects([*(run(RunState.HEALED, playbook="q", took=1),), *runs])
    assert [(one.playbook, one.target) for one in found] == [("p", None), ("p", "Node/z"), ("p", "Node/a"), ("q", None), ("q", "Node/a")]
