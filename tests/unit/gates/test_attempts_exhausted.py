from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.gates.attempts_exhausted import Settings
from remediator.model import ApprovalState, evolve
from remediator.reasons import Reason


def limited(case, most=2, within="6h"):
    return evolve(case, settings={"attempts": Settings.model_validate({"max": most, "within": within})})


def test_refuses_when_used_up(judge, case, snapshot, a_run, now):
    two = tuple(a_run(started_at=now - timedelta(hours=h)) for h in (1, 5))
    verdict = judge("attempts_exhausted", limited(case), snapshot(history=two))
    assert verdict.reason is Reason.ATTEMPTS_EXHAUSTED
    assert verdict.detail == "2 of 2 attempts within 6h"


@pytest.mark.parametrize("other", [{"playbook": "other"}, {"dry_run": True}])
def test_counts_only_its_own_kind(judge, case, snapshot, a_run, now, other):
    runs = (a_run(started_at=now - timedelta(hours=1)), a_run(started_at=now - timedelta(hours=1), **other))
    assert judge("attempts_exhausted", limited(case), snapshot(history=runs)).allowed


def test_counts_open_runs_too_but_not_itself(judge, case, snapshot, a_run, now):
    itself = a_run(started_at=now, ended_at=None)
    asked = evolve(limited(case, most=1), run=itself.id)
    assert judge("attempts_exhausted", asked, snapshot(history=(itself,))).allowed
    assert not judge("attempts_exhausted", limited(case, most=1), snapshot(history=(itself,))).allowed


@pytest.mark.parametrize("wrong", [{"max": 0, "within": "1h"}, {"max": 1, "within": "8d"}, {"max": 1, "within": "0s"}, {"max": 1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


@given(ages=st.lists(st.integers(0, 12 * 60), max_size=12), most=st.integers(1, 5))
def test_never_allows_more_than_the_limit_within_the_window(ages, most):
    """Whatever the history, allowed means fewer than ``most`` runs began within the six hours."""
    from datetime import UTC, datetime

    from remediator.gates import Case, Fact, Snapshot, gates
    from remediator.model import Mode, Run, RunState, Target, Trigger, TriggerKind

    now = datetime(2026, 1, 5, 10, tzinfo=UTC)
    node = Target(kind="Node", name="n", uid="u")
    runs = tuple(
        Run(
            id=str(i),
            playbook="p",
            revision="r",
            trigger=Trigger(kind=TriggerKind.ALERT),
            target=node,
            state=RunState.HEALED,
            started_at=now - timedelta(minutes=age),
            deadline=now,
        )
        for i, age in enumerate(ages)
    )
    settings = {"attempts": Settings.model_validate({"max": most, "within": "6h"})}
    case = Case(playbook="p", mode=Mode.AUTO, target=node, trigger=TriggerKind.ALERT, settings=settings)
    verdict = gates()["attempts_exhausted"]().judge(case, Snapshot(at=now, facts={Fact.HISTORY: runs}))
    assert verdict.allowed == (sum(age < 6 * 60 for age in ages) < most)


@pytest.mark.parametrize(("state", "counts"), [("approved", True), ("rejected", False), ("expired", False), ("withdrawn", False)])
def test_what_nobody_approved_is_no_attempt(judge, case, snapshot, a_run, a_question, state, counts):
    run = a_run(approvals=(a_question(state=ApprovalState(state)),))
    assert judge("attempts_exhausted", limited(case, most=1), snapshot(history=(run,))).allowed is not counts


def test_each_of_several_windows_has_its_own_number(judge, case, snapshot, a_run, now):
    from remediator.gates.attempts_exhausted import Settings

    settings = Settings.model_validate({"max": 2, "within": "1h", "also": [{"max": 3, "within": "7d"}]})
    asked = evolve(case, settings={"attempts": settings})
    runs = [a_run(started_at=now - timedelta(hours=h)) for h in (2, 30, 60)]
    assert judge("attempts_exhausted", asked, snapshot(history=tuple(runs[:2]))).detail == (
        "0 of 2 attempts within 1h, 2 of 3 attempts within 7d"
    )
    assert not judge("attempts_exhausted", asked, snapshot(history=tuple(runs))).allowed
