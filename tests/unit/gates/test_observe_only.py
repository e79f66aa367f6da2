from __future__ import annotations

import pytest

from remediator.model import Mode, TriggerKind, evolve
from remediator.reasons import Reason


@pytest.mark.parametrize(
    ("mode", "trigger", "allowed"),
    [
        (Mode.AUTO, TriggerKind.ALERT, True),
        (Mode.AUTO, TriggerKind.MANUAL, True),
        (Mode.SUGGEST, TriggerKind.ALERT, False),
        (Mode.SUGGEST, TriggerKind.MANUAL, True),
        (Mode.OBSERVE, TriggerKind.ALERT, False),
        (Mode.OBSERVE, TriggerKind.MANUAL, False),
    ],
)
def test_mode_decides_who_may_act(judge, case, snapshot, mode, trigger, allowed):
    verdict = judge("observe_only", evolve(case, mode=mode, trigger=trigger), snapshot())
    assert verdict.allowed is allowed
    assert verdict.reason == (None if allowed else Reason.OBSERVE_ONLY)


def test_a_suggestion_says_the_command_that_would_act(judge, case, snapshot):
    verdict = judge("observe_only", evolve(case, mode=Mode.SUGGEST), snapshot())
    assert "remediator run agent --target Node/node-3" in verdict.detail
