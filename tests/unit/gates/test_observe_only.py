from __future__ import annotations

import pytest

from remediator.model import Mode, TriggerKind, evolve
from remediator.reasons import Reason


@pytest.mark.parametrize(
    ("mode", "trigger", "allowed"),
    [
        (Mode.AUTO, TriggerKind.ALERT, True),
        (Mode.AUTO, TriggerKind.MANUAL, True),
        (Mode.SUGGEST, TriggerKind.ALERT, True),
        (Mode.SUGGEST, TriggerKind.MANUAL, True),
        (Mode.OBSERVE, TriggerKind.ALERT, False),
        (Mode.OBSERVE, TriggerKind.MANUAL, False),
    ],
)
def test_mode_decides_who_may_act(judge, case, snapshot, mode, trigger, allowed):
    verdict = judge("observe_only", evolve(case, mode=mode, trigger=trigger), snapshot())
    assert verdict.allowed is allowed
    assert verdict.reason == (None if allowed else Reason.OBSERVE_ONLY)


def test_a_run_that_nobody_approved_is_refused_in_mid_run_where_people_are_to_be_asked(judge, case, snapshot):
    """As where the mode was lowered from ``auto`` while it was under way."""
    begun = evolve(case, mode=Mode.SUGGEST, run="r")
    assert judge("observe_only", begun, snapshot()).reason is Reason.OBSERVE_ONLY
    assert judge("observe_only", evolve(begun, approved=True), snapshot()).allowed
    assert judge("observe_only", evolve(begun, trigger=TriggerKind.MANUAL), snapshot()).allowed


def test_a_yes_does_not_go_beyond_observe(judge, case, snapshot):
    assert not judge("observe_only", evolve(case, mode=Mode.OBSERVE, run="r", approved=True), snapshot()).allowed


@pytest.mark.parametrize(("more", "allowed"), [({}, False), ({"run": "r"}, True), ({"trigger": TriggerKind.MANUAL}, True)])
def test_a_dry_run_goes_on_and_people_may_ask_for_one(judge, case, snapshot, more, allowed):
    dry = evolve(case, mode=Mode.OBSERVE, dry_run=True, **more)
    assert judge("observe_only", dry, snapshot()).allowed is allowed
