from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.errors import UsageError
from remediator.playbook import Parameter
from remediator.playbook.parameters import fill


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "a b", "a b"),
        ("string", "", ""),
        ("int", "-5", -5),
        ("number", "0.25", 0.25),
        ("number", "3", 3.0),
        ("bool", "true", True),
        ("bool", "False", False),
        ("duration", "1h30m", "1h30m"),
        ("list", "a, b,,c", ["a", "b", "c"]),
        ("list", "", []),
    ],
)
def test_text_becomes_a_value(kind, text, value):
    found = Parameter(type=kind).parse(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "1.5"),
        ("int", "x"),
        ("int", "9" * 17),
        ("number", "nan"),
        ("number", "1e999"),
        ("bool", "yes"),
        ("duration", "5"),
        ("duration", "soon"),
        ("string", "a\nb"),
        ("string", "a\0"),
        ("string", "x" * 1001),
    ],
)
def test_text_that_does_not_fit_is_refused(kind, text):
    with pytest.raises(ValueError, match=r"must be|has no unit|is not"):
        Parameter(type=kind).parse(text)


def test_given_values_defaults_and_all_mistakes_at_once():
    declared = {
        "timeout": Parameter(type="duration", default="15m"),
        "force": Parameter(type="bool", default=False),
        "grace": Parameter(type="duration", default=None),
        "method": Parameter(choices=("auto", "drain_label"), default="auto"),
        "reason": Parameter(),
    }
    assert fill(declared, {"reason": "x", "force": "true"}) == {
        "timeout": "15m",
        "force": True,
        "grace": None,
        "method": "auto",
        "reason": "x",
    }
    with pytest.raises(UsageError) as caught:
        fill(declared, {"forse": "true", "timeout": "5", "method": "by hand"})
    message = str(caught.value)
    for part in ('no parameter "forse"; did you mean "force"?', '"5" has no unit', '"by hand" is not one of', '"reason" needs a value'):
        assert part in message


@pytest.mark.parametrize(
    "declared",
    [
        {"type": "bool", "default": "no"},
        {"type": "int", "default": True},
        {"type": "list", "default": [1]},
        {"type": "list", "default": "a"},
        {"type": "string", "default": 5},
        {"type": "duration", "default": 5},
        {"type": "int", "choices": ["a"]},
        {"choices": ["a"], "default": "b"},
        {"type": "number", "default": float("inf")},
    ],
)
def test_a_default_must_fit_its_type(declared):
    with pytest.raises(ValidationError):
        Parameter.model_validate(declared)


@given(kind=st.sampled_from(["string", "int", "number", "bool", "duration", "list"]), text=st.text(max_size=20))
def test_any_text_is_a_value_or_refused(kind, text):
    parameter = Parameter(type=kind)
    try:
        value = parameter.parse(text)
    except ValueError:
        return
    assert parameter.read(value) == value
