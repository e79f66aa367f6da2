from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.gates import Limits, Unread
from remediator.gates.storm import watch
from remediator.model import TriggerKind, evolve
from remediator.reasons import Reason
from remediator.settings import Storm

MINUTE = timedelta(minutes=1)


@pytest.fixture
def stormy(case):
    return evolve(case, limits=Limits(storm=Storm(episodes=4, within=5 * MINUTE, cooldown=10 * MINUTE)))


def begun(now, *minutes):
    """Episodes about different nodes that began so many minutes ago."""
    return tuple(sorted((now - MINUTE * m, f"node-{n}") for n, m in enumerate(minutes)))


def test_so_many_within_the_window_are_a_storm(judge, stormy, snapshot, now):
    assert judge("storm", stormy, snapshot(episodes=begun(now, 1, 2, 3))).allowed
    verdict = judge("storm", stormy, snapshot(episodes=begun(now, 1, 2, 3, 0)))
    assert verdict.reason is Reason.STORM
    assert verdict.detail == "4 things in trouble since 5m ago; 4 are a storm, which goes on until there are fewer than 2"


def test_several_episodes_about_one_node_are_one_thing(judge, stormy, snapshot, now):
    same = tuple((now - MINUTE * m, "node-3") for m in (4, 3, 2, 1, 0))
    assert judge("storm", stormy, snapshot(episodes=same)).allowed


def test_it_goes_on_until_half_of_it_is_over_and_then_cools_down(judge, stormy, snapshot, now):
    episodes = begun(now, 0, 0, 2, 3)

    def after(minutes):
        return judge("storm", stormy, snapshot(at=now + MINUTE * minutes, episodes=episodes))

    assert "goes on" in after(4).detail, "three, then two of four are left: no longer a storm if it began now, but it did not"
    assert not after(4).allowed
    assert "the last ended 2026-01-05T10:05:00.000Z, its cooldown ends 2026-01-05T10:15:00.000Z" in after(5).detail
    assert not after(14.9).allowed
    assert after(15).allowed


def test_a_person_who_found_the_cause_may_act(judge, stormy, snapshot, now):
    assert judge("storm", evolve(stormy, trigger=TriggerKind.MANUAL), snapshot(episodes=begun(now, 0, 0, 0, 0, 0))).allowed


def test_what_cannot_be_read_refuses(judge, case, snapshot):
    assert judge("storm", case, snapshot(episodes=Unread(detail="no"))).reason is Reason.UNREADABLE


@given(st.lists(st.tuples(st.integers(-60, 0), st.integers(0, 9))), st.integers(2, 6))
def test_the_number_is_what_a_plain_count_gives_and_that_many_are_always_a_storm(now_and, most):
    from datetime import UTC, datetime

    at = datetime(2026, 1, 5, tzinfo=UTC)
    weather = watch(sorted({(at + MINUTE * m, str(s)) for m, s in now_and}), at, most=most, within=5 * MINUTE)
    count = len({s for m, s in now_and if m > -5})
    assert weather.now == count
    assert not (count >= most and not weather.raging)
    assert not (count < (most + 1) // 2 and weather.raging)
