from __future__ import annotations

from remediator.model import TriggerKind, evolve
from remediator.reasons import Reason


def test_refuses_what_is_silenced_or_inhibited(judge, case, snapshot, alert):
    verdict = judge("silenced", case, snapshot(active_alerts={alert.episode: ("silence-1",)}))
    assert verdict.reason is Reason.SILENCED
    assert "silence-1" in verdict.detail


def test_allows_what_is_active_and_what_a_person_asks_for(judge, case, snapshot, alert):
    assert judge("silenced", case, snapshot()).allowed
    assert judge("silenced", evolve(case, trigger=TriggerKind.MANUAL), snapshot(active_alerts={alert.episode: ("s",)})).allowed
