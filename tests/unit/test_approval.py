"""Questions to people as values: who may answer what, and what becomes of the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.approval import answer, question
from remediator.errors import UsageError
from remediator.model import Answer, Run, RunState, Target, Trigger, TriggerKind, evolve
from remediator.world import Asking

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)


def waiting(people=1, step=None):
    asked = question(Asking(expires=timedelta(hours=1), people=people), NOW, text="May it?", step=step)
    return Run(
        id="r1",
        playbook="p",
        revision="0",
        trigger=Trigger(kind=TriggerKind.ALERT),
        target=Target(kind="Node", name="node-3"),
        state=RunState.AWAITING_APPROVAL,
        started_at=NOW,
        deadline=NOW + timedelta(hours=1),
        approvals=(asked,),
    )


def yes(by="anna", minutes=10, **more):
    return Answer(by=by, at=NOW + timedelta(minutes=minutes), approved=True, **more)


def no(by="anna"):
    return evolve(yes(by), approved=False)


def test_one_yes_lets_it_go_on_and_the_deadline_counts_from_there():
    run = answer(waiting(), yes(reason="go"))
    assert (run.state, run.approvals[0].state, run.approved, run.unapproved) == ("running", "approved", True, False)
    assert run.deadline == NOW + timedelta(hours=1, minutes=10)
    assert run.begun_at == NOW + timedelta(minutes=10)


def test_a_step_that_asked_does_not_change_when_the_run_began():
    run = answer(waiting(step=2), yes())
    assert (run.begun_at, run.unapproved, run.approved) == (NOW, False, True)


@pytest.mark.parametrize("same", ["anna", "Anna", " ANNA ", "anna@bastion", "anna@other.example"])
def test_the_same_person_counts_once_however_it_is_spelled(same):
    first = answer(waiting(people=2), yes("anna@laptop"))
    assert (first.state, first.approvals[0].missing) == ("awaiting_approval", 1)
    with pytest.raises(UsageError, match=r"approved run r1 already; 1 more person must approve it too"):
        answer(first, yes(same))


def test_two_people():
    run = answer(answer(waiting(people=2), yes("anna")), yes("berta"))
    assert (run.state, [said.by for said in run.approvals[0].answers]) == ("running", ["anna", "berta"])


@pytest.mark.parametrize(("by", "named"), [("api, 10.0.0.7", False), ("@host", True), ("  ", True)])
def test_where_two_have_to_agree_a_yes_needs_a_name(by, named):
    with pytest.raises(UsageError, match="say who you are"):
        answer(waiting(people=2), yes(by), named=named)
    assert answer(waiting(), yes(by), named=named).state == "running"


def test_one_no_ends_it_also_after_a_yes_and_needs_no_name():
    run = answer(answer(waiting(people=2), yes("anna")), no("api, 10.0.0.7"), named=False)
    assert (run.approvals[0].state, run.state, run.unapproved) == ("rejected", "awaiting_approval", True)
    with pytest.raises(UsageError, match=r"rejected by api, 10\.0\.0\.7\); it does not wait"):
        answer(run, yes("berta"))


@pytest.mark.parametrize("said", [yes(minutes=60), evolve(no(), at=NOW + timedelta(hours=2))])
def test_after_its_time_nobody_can_answer(said):
    with pytest.raises(UsageError, match="expired 2026-01-05T11:00:00"):
        answer(waiting(), said)


def test_a_run_that_asks_nothing_or_went_on_takes_no_answer():
    with pytest.raises(UsageError, match=r"run r1 is running \(approved by anna\); it does not wait for an approval"):
        answer(answer(waiting(), yes()), yes("berta"))
    with pytest.raises(UsageError, match="run r1 has ended: healed; it does not wait"):
        answer(evolve(waiting(), approvals=(), state=RunState.HEALED), yes())
