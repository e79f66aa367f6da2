from __future__ import annotations

import pytest

from remediator.gates.outside_window import Settings
from remediator.model import TriggerKind, evolve
from remediator.reasons import Reason

WORK = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00", "zone": "Europe/Berlin"}


@pytest.fixture
def by_day(case):
    return evolve(case, settings={"windows": Settings.model_validate([WORK])})


@pytest.mark.parametrize(("hour", "allowed"), [(7, False), (8, True), (15, True), (16, False)])
def test_only_within_its_windows(judge, by_day, snapshot, now, hour, allowed):
    verdict = judge("outside_window", by_day, snapshot(at=now.replace(hour=hour)))  # a Monday; Berlin is an hour ahead
    assert verdict.allowed is allowed
    assert verdict.reason == (None if allowed else Reason.OUTSIDE_WINDOW)


def test_it_says_which_windows_there_are(judge, by_day, snapshot, now):
    verdict = judge("outside_window", by_day, snapshot(at=now.replace(hour=20)))
    assert verdict.detail == "at 2026-01-05T20:00:00.000Z none is open of: mon, tue, wed, thu, fri 09:00 to 17:00 Europe/Berlin"


def test_a_person_keeps_to_it_too(judge, by_day, snapshot, now):
    assert not judge("outside_window", evolve(by_day, trigger=TriggerKind.MANUAL), snapshot(at=now.replace(hour=20))).allowed


def test_without_the_setting_any_time_will_do(judge, case, snapshot):
    assert judge("outside_window", case, snapshot()).allowed
