from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.gates import Limits, Unread
from remediator.gates.rate_limited import Settings
from remediator.model import ApprovalState, Target, evolve
from remediator.reasons import Reason


@pytest.fixture
def began(a_run, now):
    """Runs on other nodes that began so many minutes ago."""

    def runs(*minutes, **fields):
        return tuple(
            a_run(id=f"run-{m}", target=Target(kind="Node", name=f"node-{m}"), started_at=now - timedelta(minutes=m), **fields)
            for m in minutes
        )

    return runs


def test_six_disruptive_runs_an_hour_by_default(judge, case, snapshot, began):
    assert judge("rate_limited", case, snapshot(recent_runs=began(1, 2, 3, 4, 5))).allowed
    verdict = judge("rate_limited", case, snapshot(recent_runs=began(1, 2, 3, 4, 5, 59)))
    assert verdict.reason is Reason.RATE_LIMITED
    assert verdict.detail == "6 disruptive runs began within 1h; disruptive_per_hour is 6"


def test_an_hour_later_there_is_room_again(judge, case, snapshot, began):
    assert judge("rate_limited", case, snapshot(recent_runs=began(1, 2, 3, 4, 5, 60))).allowed


def test_none_at_all_where_the_settings_say_so(judge, case, snapshot):
    assert not judge("rate_limited", evolve(case, limits=Limits(disruptive_per_hour=0)), snapshot()).allowed


@pytest.mark.parametrize("fields", [{"disruptive": False}, {"dry_run": True}])
def test_harmless_runs_and_dry_runs_do_not_count(judge, case, snapshot, began, fields):
    assert judge("rate_limited", case, snapshot(recent_runs=began(*range(1, 20), **fields))).allowed


def test_a_run_in_the_middle_does_not_count_itself(judge, case, snapshot, began):
    runs = began(1, 2, 3, 4, 5, 6)
    assert judge("rate_limited", evolve(case, run="run-6"), snapshot(recent_runs=runs)).allowed


def test_a_playbook_may_set_a_rate_of_its_own_over_all_targets(judge, case, snapshot, began):
    rated = evolve(case, settings={"rate": Settings.model_validate({"max": 2, "within": "12h"})})
    assert judge("rate_limited", rated, snapshot(recent_runs=(*began(100), *began(200, playbook="other")))).allowed
    verdict = judge("rate_limited", rated, snapshot(recent_runs=began(100, 200)))
    assert verdict.detail == "2 of 2 runs of agent within 12h"


def test_what_cannot_be_read_refuses(judge, case, snapshot):
    assert judge("rate_limited", case, snapshot(recent_runs=Unread(detail="no"))).reason is Reason.UNREADABLE


def test_a_run_begins_when_people_say_yes(judge, case, snapshot, began, a_question, now):
    """Neither one that still waits, or never got a yes, counts; nor does the time of the question."""
    one = evolve(case, limits=Limits(disruptive_per_hour=1))
    for state in ("waiting", "rejected", "expired", "withdrawn"):
        waited = began(30, approvals=(a_question(state=ApprovalState(state), ended_at=now),))
        assert judge("rate_limited", one, snapshot(recent_runs=waited)).allowed
    yes = a_question(state=ApprovalState.APPROVED, ended_at=now - timedelta(minutes=5))
    assert not judge("rate_limited", one, snapshot(recent_runs=began(300, approvals=(yes,)))).allowed
