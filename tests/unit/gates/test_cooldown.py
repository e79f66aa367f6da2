from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.gates.cooldown import Settings
from remediator.model import ApprovalState, TriggerKind, evolve
from remediator.reasons import Reason


@pytest.fixture
def cooling(case):
    return evolve(case, settings={"cooldown": Settings.model_validate("30m")})


@pytest.mark.parametrize(("minutes", "allowed"), [(0, False), (29, False), (30, True), (31, True)])
def test_counts_from_the_end_of_the_last_run(judge, cooling, snapshot, a_run, now, minutes, allowed):
    runs = (a_run(ended_at=now - timedelta(hours=5)), a_run(ended_at=now - timedelta(minutes=minutes)))
    verdict = judge("cooldown", cooling, snapshot(history=runs))
    assert verdict.allowed is allowed
    assert verdict.reason == (None if allowed else Reason.COOLDOWN)


def test_other_playbooks_and_dry_runs_do_not_heat(judge, cooling, snapshot, a_run, now):
    runs = (a_run(playbook="other", ended_at=now), a_run(dry_run=True, ended_at=now), a_run(ended_at=None))
    assert judge("cooldown", cooling, snapshot(history=runs)).allowed


def test_without_the_setting_there_is_none(judge, case, snapshot, a_run, now):
    assert judge("cooldown", case, snapshot(history=(a_run(ended_at=now),))).allowed


def test_the_refusal_says_when_it_ends(judge, cooling, snapshot, a_run, now):
    verdict = judge("cooldown", cooling, snapshot(history=(a_run(ended_at=now - timedelta(minutes=10)),)))
    assert "2026-01-05T10:20:00.000Z" in verdict.detail


@pytest.mark.parametrize(("trigger", "refused"), [(TriggerKind.ALERT, True), (TriggerKind.MANUAL, False)])
def test_what_nobody_approved_only_keeps_people_from_being_asked_again(judge, cooling, snapshot, a_run, a_question, now, trigger, refused):
    run = a_run(ended_at=now, approvals=(a_question(state=ApprovalState.REJECTED),))
    assert judge("cooldown", evolve(cooling, trigger=trigger), snapshot(history=(run,))).allowed is not refused
