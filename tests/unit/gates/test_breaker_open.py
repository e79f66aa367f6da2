from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.breaker import Backlog, Past, Reset, counted
from remediator.gates import Limits, Unread
from remediator.model import RunState, TriggerKind, evolve
from remediator.reasons import Reason
from remediator.settings import Breaker


@pytest.fixture
def tight(case):
    return evolve(case, limits=Limits(breaker=Breaker(failures=2, runs=4, within=timedelta(hours=1))))


@pytest.fixture
def past(a_run, now):
    def runs(*minutes, state=RunState.FAILED, reason=Reason.STEP_FAILED, reset=None, **fields):
        made = (
            a_run(
                id=f"run-{m}",
                state=state,
                reason=reason,
                started_at=now - timedelta(minutes=m + 5),
                ended_at=now - timedelta(minutes=m),
                **fields,
            )
            for m in minutes
        )
        return Past(runs=counted(made), reset=reset)

    return runs


@pytest.fixture
def reset(now):
    def make(minutes, backlog=Backlog.RESUME, opened=100):
        opened_at = now - timedelta(minutes=opened)
        return Reset(at=now - timedelta(minutes=minutes), by="ada", reason="fixed", backlog=backlog, opened_at=opened_at)

    return make


def test_too_many_failures_open_it(judge, tight, snapshot, past):
    assert judge("breaker_open", tight, snapshot(failures=past(10))).allowed
    verdict = judge("breaker_open", tight, snapshot(failures=past(10, 30)))
    assert verdict.reason is Reason.BREAKER_OPEN
    words = "open since 2026-01-05T09:50:00.000Z: 2 runs that may disturb failed or did not heal within 1h"
    assert verdict.detail == f"{words}; to close it: remediator breaker reset"


def test_too_many_runs_open_it_though_all_healed(judge, tight, snapshot, past):
    assert judge("breaker_open", tight, snapshot(failures=past(1, 2, 3, state=RunState.HEALED, reason=Reason.HEALED))).allowed
    verdict = judge("breaker_open", tight, snapshot(failures=past(1, 2, 3, 4, state=RunState.HEALED, reason=Reason.HEALED)))
    assert "4 runs that may disturb began within 1h" in verdict.detail


def test_it_stays_open_however_long_ago_that_was(judge, tight, snapshot, past):
    assert not judge("breaker_open", tight, snapshot(failures=past(20_000, 20_010))).allowed


def test_failures_far_apart_do_not_open_it(judge, tight, snapshot, past):
    assert judge("breaker_open", tight, snapshot(failures=past(10, 70, 130, 190))).allowed


@pytest.mark.parametrize(
    "fields",
    [
        {"dry_run": True},
        {"disruptive": False},
        {"reason": Reason.PAUSED},
        {"reason": Reason.RESOLVED_MEANWHILE, "state": RunState.NOT_HEALED},
        {"state": RunState.CANCELLED, "reason": Reason.CANCELLED_BY},
    ],
)
def test_what_is_no_failure_of_a_remedy_does_not_count(judge, tight, snapshot, past, fields):
    assert judge("breaker_open", tight, snapshot(failures=past(10, 30, **fields))).allowed


def test_an_end_that_nobody_knows_is_a_failure(judge, tight, snapshot, past):
    assert not judge("breaker_open", tight, snapshot(failures=past(10, 30, state=RunState.UNKNOWN, reason=Reason.CRASHED))).allowed


def test_a_person_closes_it_and_it_counts_anew(judge, tight, snapshot, past, reset):
    assert judge("breaker_open", tight, snapshot(failures=past(10, 30, reset=reset(5)))).allowed
    assert judge("breaker_open", tight, snapshot(failures=past(10, 30, reset=reset(20)))).allowed
    assert not judge("breaker_open", tight, snapshot(failures=past(10, 30, reset=reset(40)))).allowed


def test_the_backlog_is_skipped_or_resumes_as_the_person_said(judge, tight, snapshot, past, reset, alert, now):
    behind = evolve(tight, alert=evolve(alert, starts_at=now - timedelta(minutes=50)))
    assert judge("breaker_open", behind, snapshot(failures=past(reset=reset(5)))).allowed
    skipping = snapshot(failures=past(reset=reset(5, Backlog.SKIP)))
    verdict = judge("breaker_open", behind, skipping)
    assert verdict.reason is Reason.BREAKER_OPEN
    assert "ada said to skip" in verdict.detail
    assert judge("breaker_open", evolve(tight, alert=evolve(alert, starts_at=now)), skipping).allowed, "it began after the reset"
    long_ago = evolve(tight, alert=evolve(alert, starts_at=now - timedelta(minutes=101)))
    assert judge("breaker_open", long_ago, skipping).allowed, "something else had held it"
    assert judge("breaker_open", evolve(behind, trigger=TriggerKind.MANUAL), skipping).allowed


def test_a_person_finds_it_open_too(judge, tight, snapshot, past):
    assert not judge("breaker_open", evolve(tight, trigger=TriggerKind.MANUAL), snapshot(failures=past(10, 30))).allowed


def test_what_cannot_be_read_refuses(judge, case, snapshot):
    assert judge("breaker_open", case, snapshot(failures=Unread(detail="no"))).reason is Reason.UNREADABLE


def test_what_nobody_approved_did_not_begin(judge, tight, snapshot, past, a_question):
    runs = past(1, 2, 3, 4, 5, 6, 7, 8, 9, state=RunState.EXPIRED, reason=Reason.APPROVAL_EXPIRED, approvals=(a_question(),))
    assert judge("breaker_open", tight, snapshot(failures=runs)).allowed
