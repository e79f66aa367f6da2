from __future__ import annotations

import pytest

from remediator.gates import Limits
from remediator.model import TriggerKind, evolve
from remediator.reasons import Reason
from remediator.windows import Window


@pytest.fixture
def patching(case):
    window = Window.model_validate({"name": "patching", "from": "09:00", "to": "11:00"})
    return evolve(case, limits=Limits(maintenance=(window,)))


def test_no_alert_acts_while_a_window_is_open_and_the_words_say_until_when(judge, patching, snapshot):
    verdict = judge("maintenance", patching, snapshot())  # 10:00
    assert verdict.reason is Reason.MAINTENANCE
    assert verdict.detail == "patching 09:00 to 11:00 UTC is open until 2026-01-05T11:00:00.000Z"


def test_outside_of_it_alerts_act(judge, patching, snapshot, now):
    assert judge("maintenance", patching, snapshot(at=now.replace(hour=11))).allowed
    assert not judge("maintenance", patching, snapshot(at=now.replace(hour=9))).allowed


def test_a_person_at_work_is_what_the_window_is_for(judge, patching, snapshot):
    assert judge("maintenance", evolve(patching, trigger=TriggerKind.MANUAL), snapshot()).allowed


def test_without_windows_there_is_none(judge, case, snapshot):
    assert judge("maintenance", case, snapshot()).detail == "the settings name no window"
