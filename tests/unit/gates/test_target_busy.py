from __future__ import annotations

from remediator.model import RunState, Target, evolve
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
