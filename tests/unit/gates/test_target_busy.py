from __future__ import annotations

import pytest

from remediator.model import Mode, RunState, Target, TriggerKind, evolve
from remediator.reasons import Reason


def test_refuses_while_any_playbook_works_on_the_target(judge, case, snapshot, a_run):
    other = a_run(playbook="another", state=RunState.VERIFYING, ended_at=None)
    verdict = judge("target_busy", case, snapshot(open_runs=(other,)))
    assert verdict.reason is Reason.TARGET_BUSY
    assert other.id in verdict.detail


def test_allows_work_on_another_target_and_the_run_itself(judge, case, snapshot, a_run):
    elsewhere = a_run(target=Target(kind="Node", name="node-4"), state=RunState.RUNNING)
    itself = a_run(state=RunState.RUNNING)
    assert judge("target_busy", evolve(case, run=itself.id), snapshot(open_runs=(elsewhere, itself))).allowed


def test_dry_and_live_runs_do_not_stand_in_each_others_way(judge, case, snapshot, a_run):
    dry = a_run(state=RunState.RUNNING, dry_run=True)
    assert judge("target_busy", case, snapshot(open_runs=(dry,))).allowed
    assert not judge("target_busy", evolve(case, dry_run=True), snapshot(open_runs=(dry,))).allowed


@pytest.mark.parametrize(
    ("more", "refused"),
    [({"mode": Mode.SUGGEST}, True), ({"mode": Mode.AUTO}, False), ({"mode": Mode.SUGGEST, "trigger": TriggerKind.MANUAL}, False)],
    ids=["would ask too", "acts by itself", "a person acts"],
)
def test_a_run_that_waits_for_people_only_keeps_them_from_being_asked_twice(judge, case, snapshot, a_run, a_question, more, refused):
    waiting = a_run(state=RunState.AWAITING_APPROVAL, ended_at=None, approvals=(a_question(),))
    assert (not judge("target_busy", evolve(case, **more), snapshot(open_runs=(waiting,))).allowed) is refused


def test_a_run_that_waits_in_mid_run_keeps_its_target(judge, case, snapshot, a_run, a_question):
    waiting = a_run(state=RunState.AWAITING_APPROVAL, ended_at=None, approvals=(a_question(step=1),))
    assert not judge("target_busy", case, snapshot(open_runs=(waiting,))).allowed


def test_refuses_while_something_is_put_back_on_the_target(judge, case, snapshot, a_run):
    ended = a_run(playbook="another")
    verdict = judge("target_busy", case, snapshot(undoing=(ended,)))
    assert verdict.reason is Reason.TARGET_BUSY
    assert "is being put back" in verdict.detail
    assert judge("target_busy", case, snapshot(undoing=(a_run(target=Target(kind="Node", name="node-4")),))).allowed
    assert judge("target_busy", evolve(case, dry_run=True), snapshot(undoing=(ended,))).allowed


def test_two_undos_do_not_wait_for_one_another(judge, case, snapshot, a_run):
    assert judge("target_busy", evolve(case, undoing=True, run="mine"), snapshot(undoing=(a_run(),))).allowed
