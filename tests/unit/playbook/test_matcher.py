from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import ExpressionError
from remediator.playbook import Matcher, parse_matcher

LABELS = {"alertname": "CiliumAgentDown", "severity": "critical", "node": "node-3"}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('alertname="CiliumAgentDown"', True),
        ("alertname=CiliumAgentDown", True),
        (' alertname = "CiliumAgentDown" ', True),
        ('alertname="CiliumAgent"', False),
        ('alertname!="CiliumAgentDown"', False),
        ('alertname!="Watchdog"', True),
        ('alertname=~"Cilium.*"', True),
        ('alertname=~"Cilium"', False),  # anchored at both ends
        ('alertname=~"Agent"', False),
        ('alertname=~"Watchdog|CiliumAgentDown"', True),
        ('alertname=~"Cilium|Watchdog"', False),
        ('alertname!~"Cilium.*"', False),
        ('alertname!~"Node.*"', True),
        ('severity=~"crit.*|warning"', True),
        ('team=""', True),  # a label that is not there counts as empty
        ('team!=""', False),
        ('team=~".*"', True),
        ('team=~".+"', False),
        ('team!~".+"', True),
        ('"alertname"="CiliumAgentDown"', True),
        ('node=~"node-\\d"', True),  # an escape that Alertmanager does not know stands for itself
        ('node=~"(?i)NODE-3"', True),
    ],
)
def test_a_matcher_fits_as_in_alertmanager(text, fits):
    assert parse_matcher(text).matches(LABELS) is fits


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("alertname", 10),
        ("=x", 1),
        ("alertname=", 11),
        ('alertname="x', 11),
        ('{alertname="x"}', 1),
        ('alertname="x",severity="y"', 14),
        ('alertname=~"("', 12),
        ('alertname=~"(?=x)"', 12),
        ('alertname=~"(a)\\\\1"', 12),
        ("a==b", 3),
        ('""="x"', 1),
        ("x" * 3000 + "=y", 1),
    ],
)
def test_what_is_no_matcher_is_refused_with_its_column(text, column):
    with pytest.raises(ExpressionError) as caught:
        parse_matcher(text)
    assert caught.value.column == column


def test_no_pattern_takes_more_than_linear_time():
    evil = Matcher("node", "=~", "(a+)+(a+)+(a+)+b")
    assert not evil.matches({"node": "a" * 50_000})


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(label=TEXT.filter(bool), op=st.sampled_from(["=", "!="]), value=TEXT)
def test_a_written_matcher_reads_back(label, op, value):
    matcher = Matcher(label, op, value)
    assert parse_matcher(str(matcher)) == matcher


@given(label=TEXT.filter(bool), value=TEXT, other=TEXT)
def test_equality_is_equality_and_its_negation(label, value, other):
    assert Matcher(label, "=", value).matches({label: other}) is (value == other)
    assert Matcher(label, "!=", value).matches({label: other}) is (value != other)


# RE2 and Python agree on this much of the syntax, on text without line breaks.
ATOMS = st.sampled_from(["a", "b", "A", "-", ".", "[ab]", "[^a]", "a|b", "(a|bb)", "a*", "b+", "a?", "(?:ab)*", "a{1,2}", "$", "^"])


@given(atoms=st.lists(ATOMS, max_size=6), value=st.text("abAB-", max_size=8))
def test_patterns_fit_the_whole_value(atoms, value):
    pattern = "".join(atoms)
    expected = re.fullmatch(f"(?:{pattern})", value) is not None
    assert Matcher("x", "=~", pattern).matches({"x": value}) is expected
    assert Matcher("x", "!~", pattern).matches({"x": value}) is not expected


@given(st.text(max_size=40))
def test_any_text_is_a_matcher_or_is_refused(text):
    try:
        matcher = parse_matcher(text)
    except ExpressionError as error:
        column = error.column
    else:
        column = 1
        assert parse_matcher(str(matcher)) == matcher
    assert 1 <= column <= len(text) + 1
