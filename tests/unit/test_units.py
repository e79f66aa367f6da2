from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("7d", 7 * 86400),
        ("2w", 14 * 86400),
        ("1y", 365 * 86400),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("1y2w3d4h5m6s7ms", 365 * 86400 + 17 * 86400 + 4 * 3600 + 5 * 60 + 6.007),
        ("90m", 5400),
        ("007s", 7),
    ],
)
def test_durations_read(text, seconds):
    assert parse_duration(text).total_seconds() == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5", "write 5s, 5m or 5h"),
        ("1.5", "has no unit"),
        ("", "is not a duration"),
        ("-5m", "is not a duration"),
        ("5 m", "is not a duration"),
        ("1.5h", "is not a duration"),
        ("30m1h", "is not a duration"),
        ("1h1h", "is not a duration"),
        ("5min", "is not a duration"),
        ("5M", "is not a duration"),
        ("PT5M", "is not a duration"),
        ("٣s", "is not a duration"),
        ("5m\n", "is not a duration"),
        ("200y", "longer than 100 years"),
        ("9" * 400 + "s", "longer than 100 years"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_hint(text, hint):
    with pytest.raises(ValueError, match=hint):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=1, minutes=30), "1h30m"),
        (timedelta(days=14), "14d"),
        (timedelta(milliseconds=1500), "1s500ms"),
        (timedelta(seconds=-90), "-1m30s"),
        (timedelta(microseconds=400), "0s"),
    ],
)
def test_durations_are_written_short(duration, text):
    assert format_duration(duration) == text


@given(st.integers(min_value=0, max_value=100 * 365 * 86400 * 1000))
def test_a_written_duration_reads_back(milliseconds):
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.text("0123456789ywdhms. -", max_size=12))
def test_any_text_is_a_duration_or_refused(text):
    try:
        duration = parse_duration(text)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        assert duration >= timedelta(0)
        assert parse_duration(format_duration(duration)) == duration
    assert not message or f'"{text}"' in message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("512KiB", 512 * 1024),
        ("4MiB", 4 * 1024**2),
        ("1GiB", 1024**3),
        ("1kB", 1000),
        ("2MB", 2_000_000),
        ("5 MiB", 5 * 1024**2),
    ],
)
def test_sizes_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("4", "write 4KiB or 4MiB"),
        ("", "is not a size"),
        ("4M", "is not a size"),
        ("-4MiB", "is not a size"),
        ("4mib", "is not a size"),
        ("1.5MiB", "is not"),
    ],
)
def test_what_is_no_size_is_refused_with_a_hint(text, hint):
    with pytest.raises(ValueError, match=hint):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_written_size_reads_back(size):
    assert parse_size(format_size(size)) == size
