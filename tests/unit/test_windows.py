from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.windows import Edge, Window, open_one

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def window(**fields):
    return Window.model_validate(fields)


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC)


def is_open(one, text, edge=Edge.WIDE):
    return one.closes(at(text), edge) is not None


def test_a_window_is_open_from_its_begin_up_to_just_before_its_end():
    one = window(**{"from": "09:00", "to": "17:30"})
    assert not is_open(one, "2026-01-05T08:59:59.999999Z")
    assert one.closes(at("2026-01-05T09:00:00Z"), Edge.WIDE) == at("2026-01-05T17:30:00Z")
    assert is_open(one, "2026-01-05T17:29:59.999999Z")
    assert not is_open(one, "2026-01-05T17:30:00Z")


def test_the_clock_on_the_wall_of_its_zone_is_meant():
    one = window(**{"from": "22:00", "to": "23:00", "zone": "Europe/Berlin"})
    assert is_open(one, "2026-01-05T21:30:00Z")
    assert is_open(one, "2026-07-05T20:30:00Z")
    assert not is_open(one, "2026-07-05T21:30:00Z")


def test_past_midnight_the_day_is_that_on_which_it_opened():
    one = window(**{"days": ["sat"], "from": "22:00", "to": "04:00"})  # 2026-01-03 is a Saturday
    assert one.closes(at("2026-01-04T03:59:00Z"), Edge.WIDE) == at("2026-01-04T04:00:00Z")
    assert not is_open(one, "2026-01-03T03:00:00Z")
    assert not is_open(one, "2026-01-04T22:30:00Z")


def test_whole_days_and_the_end_of_a_day():
    assert is_open(window(days=["sun"]), "2026-01-04T23:59:59Z")
    assert not is_open(window(days=["sun"]), "2026-01-05T00:00:00Z")
    assert window(**{"from": "20:00", "to": "24:00"}).closes(at("2026-01-05T21:00:00Z"), Edge.WIDE) == at("2026-01-06T00:00:00Z")


def test_once():
    one = window(since="2026-01-05T20:00:00+01:00", until="2026-01-05T22:00:00Z")
    assert not is_open(one, "2026-01-05T18:59:59Z")
    assert one.closes(at("2026-01-05T19:00:00Z"), Edge.WIDE) == at("2026-01-05T22:00:00Z")
    assert not is_open(one, "2026-01-05T22:00:00Z")


@pytest.mark.parametrize(
    ("edge", "opens", "closes"),
    [(Edge.WIDE, "00:30", "04:30"), (Edge.NARROW, "01:30", "04:30")],
)
def test_a_begin_that_does_not_exist_because_clocks_go_forward(edge, opens, closes):
    one = window(**{"from": "02:30", "to": "06:30", "zone": "Europe/Berlin"})  # 2026-03-29: after 01:59 comes 03:00, at 01:00 UTC
    first = at(f"2026-03-29T{opens}:00Z")
    assert one.closes(first, edge) == at(f"2026-03-29T{closes}:00Z")
    assert one.closes(first - timedelta(microseconds=1), edge) is None


@pytest.mark.parametrize(("edge", "opens", "closes"), [(Edge.WIDE, "00:30", "01:45"), (Edge.NARROW, "01:30", "00:45")])
def test_times_that_come_twice_because_clocks_go_back(edge, opens, closes):
    one = window(**{"from": "02:30", "to": "02:45", "zone": "Europe/Berlin"})  # 2026-10-25: 02:30 is at 00:30 and at 01:30 UTC
    ends = one.closes(at(f"2026-10-25T{opens}:00Z"), edge)
    assert ends == (at(f"2026-10-25T{closes}:00Z") if edge is Edge.WIDE else None), "read narrowly nothing is surely meant"


def test_of_several_the_one_that_stays_open_longest():
    short, long = window(name="a", **{"from": "09:00", "to": "10:00"}), window(name="b", **{"from": "09:30", "to": "12:00"})
    assert open_one([long, short], at("2026-01-05T09:45:00Z"), Edge.WIDE) == (long, at("2026-01-05T12:00:00Z"))
    assert open_one([short, long], at("2026-01-05T13:00:00Z"), Edge.WIDE) is None


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "open for ever"),
        ({"since": "2026-01-05T20:00:00Z"}, "open for ever"),
        ({"from": "09:00"}, "belong together"),
        ({"from": "09:00", "to": "09:00"}, "at the same time"),
        ({"from": "9:00", "to": "10:00"}, "must be a time of day"),
        ({"from": "24:30", "to": "10:00"}, "must be a time of day"),
        ({"from": 540, "to": "10:00"}, "in quotes"),
        ({"from": "09:00", "to": "10:00", "zone": "Europe/Berlinn"}, "is not a time zone"),
        ({"from": "09:00", "to": "10:00", "zone": "../etc/passwd"}, "is not a time zone"),
        ({"days": []}, "at least 1 item"),
        ({"days": ["someday"]}, "mon"),
        ({"since": "2026-01-05T20:00:00Z", "until": "2026-01-05T20:00:00Z"}, "not before until"),
        ({"since": "2026-01-05T20:00:00", "until": "2026-01-05T22:00:00Z"}, "timezone"),
        ({"form": "09:00", "to": "10:00"}, "form"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        window(**fields)


def test_it_is_written_back_as_it_was_read():
    fields = {"name": "", "days": ("sat", "sun"), "from": "22:00", "to": "04:00", "zone": "Europe/Berlin", "since": None, "until": None}
    assert window(**{k: v for k, v in fields.items() if v}).model_dump() == fields


def clock(minutes):
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


MOMENTS = st.integers(0, 30 * 366 * 86_400).map(lambda seconds: datetime(2010, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
MINUTES = st.integers(0, 24 * 60 - 1)
SPANS = st.tuples(MINUTES, MINUTES).filter(lambda span: span[0] != span[1])


@given(SPANS, st.sets(st.sampled_from(DAYS), min_size=1), st.sampled_from(ZONES), MOMENTS)
def test_narrow_lies_within_wide_and_an_end_lies_ahead_within_two_days(span, days, zone, moment):
    one = window(**{"from": clock(span[0]), "to": clock(span[1]), "days": sorted(days), "zone": zone})
    wide, narrow = one.closes(moment, Edge.WIDE), one.closes(moment, Edge.NARROW)
    assert narrow is None or (wide is not None and narrow <= wide)
    assert wide is None or moment < wide <= moment + timedelta(days=2)


@given(SPANS, st.sampled_from(ZONES), MOMENTS)
def test_every_day_and_its_complement_leave_no_gap(span, zone, moment):
    one = window(**{"from": clock(span[0]), "to": clock(span[1]), "zone": zone})
    rest = window(**{"from": clock(span[1]), "to": clock(span[0]), "zone": zone})
    assert open_one([one, rest], moment, Edge.WIDE) is not None


@given(SPANS, st.sets(st.sampled_from(DAYS), min_size=1), st.sampled_from(ZONES), MOMENTS)
def test_far_from_a_change_of_clocks_it_is_what_the_wall_shows(span, days, zone, moment):
    wall = moment.astimezone(ZoneInfo(zone))
    if any((moment + timedelta(hours=h)).astimezone(ZoneInfo(zone)).utcoffset() != wall.utcoffset() for h in (-50, -25, 25, 50)):
        return
    begin, end = span
    minutes = wall.hour * 60 + wall.minute
    today, yesterday = DAYS[wall.weekday()] in days, DAYS[(wall.weekday() - 1) % 7] in days
    past_midnight = (today and minutes >= begin) or (yesterday and minutes < end)
    expected = today and begin <= minutes < end if begin < end else past_midnight
    one = window(**{"from": clock(begin), "to": clock(end), "days": sorted(days), "zone": zone})
    for edge in Edge:
        assert (one.closes(moment, edge) is not None) is expected
