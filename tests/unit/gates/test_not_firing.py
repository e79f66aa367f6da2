from __future__ import annotations

from datetime import timedelta

from remediator.model import TriggerKind, evolve
from remediator.reasons import Reason


def test_refuses_an_episode_that_alertmanager_does_not_hold(judge, case, snapshot):
    assert judge("not_firing", case, snapshot(active_alerts={})).reason is Reason.NOT_FIRING


def test_refuses_an_older_episode_of_an_alert_that_fires_again(judge, case, snapshot, alert):
    again = {(alert.fingerprint, alert.starts_at + timedelta(minutes=1)): ()}
    verdict = judge("not_firing", case, snapshot(active_alerts=again))
    assert not verdict.allowed
    assert "another episode" in verdict.detail


def test_a_person_needs_no_symptom(judge, case, snapshot):
    assert judge("not_firing", evolve(case, trigger=TriggerKind.MANUAL, alert=None), snapshot(active_alerts={})).allowed


def test_finer_than_milliseconds_makes_no_difference(judge, case, snapshot, alert):
    """Alertmanager's webhook prints nanoseconds, its API milliseconds."""
    fine = evolve(alert, starts_at=alert.starts_at + timedelta(microseconds=789))
    assert judge("not_firing", evolve(case, alert=fine), snapshot()).allowed
