from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.gates import Unread
from remediator.model import TriggerKind, evolve
from remediator.reasons import Reason


def test_one_episode_leads_to_one_run_however_long_ago(judge, case, snapshot, a_run, alert, now):
    old = a_run(alert=alert, playbook="another", started_at=now - timedelta(days=7), ended_at=now - timedelta(days=7))
    verdict = judge("duplicate", case, snapshot(history=(old,)))
    assert verdict.reason is Reason.DUPLICATE
    assert old.id in verdict.detail


@pytest.mark.parametrize("difference", [{"starts_at": timedelta(minutes=1)}, {"fingerprint": "f2"}])
def test_another_episode_is_another_matter(judge, case, snapshot, a_run, alert, difference):
    changes = {name: alert.starts_at + value if name == "starts_at" else value for name, value in difference.items()}
    assert judge("duplicate", case, snapshot(history=(a_run(alert=evolve(alert, **changes)), a_run()))).allowed


def test_less_than_a_millisecond_is_no_difference(judge, case, snapshot, a_run, alert):
    again = evolve(alert, starts_at=alert.starts_at + timedelta(microseconds=400))
    assert not judge("duplicate", case, snapshot(history=(a_run(alert=again),))).allowed


def test_a_person_may_ask_again(judge, case, snapshot, a_run, alert):
    by_hand = evolve(case, trigger=TriggerKind.MANUAL)
    assert judge("duplicate", by_hand, snapshot(history=(a_run(alert=alert),))).allowed


def test_a_run_does_not_stand_in_its_own_way_and_a_dry_run_in_nobodys(judge, case, snapshot, a_run, alert):
    mine = a_run(alert=alert)
    assert judge("duplicate", evolve(case, run=mine.id), snapshot(history=(mine,))).allowed
    assert judge("duplicate", case, snapshot(history=(a_run(alert=alert, dry_run=True),))).allowed


def test_unreadable(judge, case, snapshot):
    assert judge("duplicate", case, snapshot(history=Unread(detail="no"))).reason is Reason.UNREADABLE
