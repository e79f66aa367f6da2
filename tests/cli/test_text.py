"""Text for terminals: what is neutral, how ages read, how tables are set."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.cli.output import to_text
from remediator.cli.text import age, clip, safe, span, table

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202eabc\u2066\u200b\ufeff", "\\u202eabc\\u2066\\u200b\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_safe(text, wanted):
    assert safe(text) == wanted


@given(st.text())
def test_safe_text_is_one_line_without_controls(text):
    told = safe(text)
    assert not [c for c in told if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert safe(told) == told


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_is_harmless_and_keeps_its_meaning(data):
    text = to_text({"data": data})
    assert json.loads(text) == {"data": data}
    assert not [c for c in text if c != "\n" and unicodedata.category(c) == "Cc"]


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (-3, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11160, "3h6m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (691200, "8d"),
        (63071999, "729d"),
        (63072000, "2y"),
        (63936000, "2y10d"),
    ],
)
def test_span_is_kubectls(seconds, wanted):
    assert span(timedelta(seconds=seconds)) == wanted


def test_age():
    assert age(None, NOW) == "-"
    assert age(NOW - timedelta(minutes=5), NOW) == "5m"
    assert age(NOW + timedelta(seconds=4), NOW) == "0s"
    assert age(NOW + timedelta(hours=2, minutes=1), NOW) == "in 121m"


def test_clip():
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 3) == "ab…"


def test_table_is_kubectls():
    rows = [("a", "", "漢字"), ("longer", "x\ny", "e\u0301z")]
    assert table(("NAME", "B", "WIDE"), rows) == "NAME    B     WIDE\na       -     漢字\nlonger  x\\ny  e\u0301z\n"


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_every_row_of_a_table_is_one_line(rows):
    lines = table(("A", "B"), rows).split("\n")
    assert len(lines) == len(rows) + 2
    assert not [line for line in lines if line != line.rstrip(" ")]
