"""Links to questions: only this daemon makes them, and each is about one question."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.telling import Invitation, Invitations, milliseconds

NOW = datetime(2026, 1, 5, 10, 0, 0, 123456, tzinfo=UTC)
RUN = "01k4mmwf5v2m3c4d5e6f7g8h9j"


def test_it_is_read_back_also_after_a_restart():
    text = Invitations(["one", "two"]).text(RUN, NOW)
    assert Invitations(["two", "one"]).read(text) == Invitation(RUN, milliseconds(NOW))
    assert "one" not in text


def test_each_question_has_its_own():
    made = Invitations(["x"])
    assert made.text(RUN, NOW) != made.text(RUN, NOW + timedelta(milliseconds=1))


@pytest.mark.parametrize(
    "alter", [lambda t: t[:-1], lambda t: "a" + t[1:], lambda t: t.replace(".1", ".2", 1), lambda _: "", lambda _: "..", lambda _: "é"]
)
def test_one_that_was_altered_is_none(alter):
    made = Invitations(["x"])
    assert made.read(alter(made.text(RUN, NOW))) is None


def test_other_tokens_end_it_and_without_any_a_restart_does():
    assert Invitations(["y"]).read(Invitations(["x"]).text(RUN, NOW)) is None
    assert Invitations().read(Invitations().text(RUN, NOW)) is None
