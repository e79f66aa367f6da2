"""The smallest pieces of a story."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator import words
from remediator.model import ChangeState, RunState, StepState
from remediator.reasons import Reason


@pytest.fixture
def journal():
    """Nothing is read here."""


AT = datetime(2026, 1, 5, 10, 0, 1, 900000, tzinfo=UTC)


def test_moment():
    assert words.moment(AT) == "2026-01-05 10:00:01"
    assert words.moment(AT, AT) == "10:00:01"
    assert words.moment(AT, AT - timedelta(days=1)) == "2026-01-05 10:00:01"


@pytest.mark.parametrize(
    ("milliseconds", "wanted"), [(0, "0s"), (12, "12ms"), (999, "999ms"), (1999, "1s"), (90_400, "1m30s"), (86_400_000, "1d")]
)
def test_took(milliseconds, wanted):
    assert words.took(timedelta(milliseconds=milliseconds)) == wanted


def test_because():
    sentence = "A person paused everything, this playbook or this target."
    assert words.because(Reason.PAUSED, "") == f"paused: {sentence}"
    assert words.because(Reason.PAUSED, "by\n ana") == f"paused: {sentence} (by ana)"
    assert words.because(Reason.PAUSED, "paused: by ana; cooldown: x") == f"paused: {sentence} (by ana; cooldown: x)"
    assert words.because(None, " just so ") == "just so"


def test_labels_are_quoted_and_sorted():
    assert words.labels({"b": 'x"y\n', "alertname": "A", "a": "1"}) == '{a="1", b="x\\"y\\n"}'
    assert words.labels({}) == "{}"


def test_folded():
    assert words.folded(" a\n\tb  c ") == "a b c"
    assert words.folded("abcdef", 4) == "abc…"


def test_allowed_by(incident):
    assert words.allowed_by(incident.verdicts(0)) == "4 gates allowed it: paused, observe_only, cooldown, target_busy."
    assert words.allowed_by(incident.verdicts(0)[:1]) == "1 gate allowed it: paused."
    assert words.allowed_by(()) == ""


def test_refusals_name_a_gate_that_refuses_with_another_code(incident):
    refused = incident.verdicts(0, paused="by ana")[0]
    other = type(refused)(gate="silenced", allowed=False, reason=Reason.UNREADABLE, detail="no answer", at=AT)
    assert words.refusals([refused, other]) == [
        "paused: A person paused everything, this playbook or this target. (by ana)",
        "silenced: unreadable: A signal that the decision needs could not be read, so the answer is no. (no answer)",
    ]


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c: 2 → 3"]),
        ({"a": None}, {"a": {"x": {}}}, ["a.x: absent → {}"]),
        ({"a": 1}, None, ["a: 1"]),
        (None, {"b": "x", "a": [1]}, ["a: [1]", 'b: "x"']),
        (None, None, []),
        ({"same": 1}, {"same": 1}, []),
    ],
)
def test_differences(incident, before, after, wanted):
    assert words.differences(incident.change(0, incident.run(0), before=before, after=after)) == wanted


def test_differences_are_bounded(incident):
    change = incident.change(0, incident.run(0), before={}, after={f"k{n:02d}": "x" * 1000 for n in range(30)})
    lines = words.differences(change)
    assert len(lines) == 21
    assert lines[-1] == "and 10 more"
    assert max(map(len, lines)) < 300


def test_every_state_has_words(incident):
    run = incident.run(0)
    assert all(words.state_words(state) for state in RunState)
    assert all(words.step_end(incident.step(0, 1, state=state)) for state in StepState)
    assert all(words.change_fate(incident.change(0, run, state)) for state in ChangeState)
