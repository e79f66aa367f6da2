from __future__ import annotations

import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remediator.document import dump_yaml, load_text, read_documents
from remediator.errors import DocumentError


def data(text):
    [document] = read_documents("x.yaml", text)
    return document.data


def problems(text):
    with pytest.raises(DocumentError) as caught:
        read_documents("x.yaml", text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("0755", 755),
        ("0o17", 15),
        ("0x1F", 31),
        ("+5", 5),
        ("-0", 0),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("2026-01-05", "2026-01-05"),
        ("2026-01-05T10:00:00Z", "2026-01-05T10:00:00Z"),
        ("~", None),
        ("Null", None),
        ("nULL", "nULL"),
        ("True", True),
        ("tRUE", "tRUE"),
        ("'true'", "true"),
        ('"5"', "5"),
        ("! 5", "5"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("=", "="),
        ("30s", "30s"),
        ("1h30m", "1h30m"),
    ],
)
def test_scalars_are_those_of_the_core_schema(text, value):
    found = data(f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_key_named_on_stays_a_string():
    assert data("on: push\nno: 1\noff: {y: n}\n") == {"on": "push", "no": 1, "off": {"y": "n"}}


def test_nan_is_a_number():
    assert math.isnan(data("a: .nan")["a"])


def test_several_documents_keep_their_text_and_positions():
    text = "\ufeff# first\na: 1\n---\n# second\nb:\n- 2\n---\n# nothing\n---\n{c: 3}\n"
    documents = read_documents("x.yaml", text)
    assert [document.data for document in documents] == [{"a": 1}, {"b": [2]}, {"c": 3}]
    assert documents[0].text == "# first\na: 1\n"
    assert documents[1].text.startswith("---\n# second")
    assert documents[1].position(("b", 0)) == (6, 3)
    assert documents[0].position(("a",)) == (2, 1)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "---\n...\n---\n~\n"])
def test_nothing_is_no_document(text):
    assert read_documents("x.yaml", text) == []


TREE = """\
metadata: {name: é, other: x}
ladder:
- name: one
  steps:
  - a: {action: "x"}
  -
    b: {action: y,
        z: 1}
"""


@pytest.mark.parametrize(
    ("loc", "position"),
    [
        ((), (1, 1)),
        (("metadata",), (1, 1)),
        (("metadata", "name"), (1, 12)),
        (("metadata", "other"), (1, 21)),
        (("ladder", 0), (3, 3)),
        (("ladder", 0, "steps", 0), (5, 5)),
        (("ladder", 0, "steps", 0, "a", "action"), (5, 9)),
        (("ladder", 0, "steps", 1, "b", "z"), (8, 9)),
        (("ladder", 0, "nope", "deeper"), (3, 3)),
        (("ladder", 7), (2, 1)),
        (("nope",), (1, 1)),
        (("metadata", "name", "deeper"), (1, 12)),
    ],
)
def test_everything_has_a_position_or_that_of_its_ancestor(loc, position):
    [document] = read_documents("x.yaml", TREE)
    assert document.position(loc) == position


SCALARS = """\
plain: abc def
quoted: 'abc def'
double: "abc def"
literal: |
  abc
  def
folded: >-
  abc
  def
more: abc
   def
next: {flow: "abc def"}
"""


@pytest.mark.parametrize(
    ("key", "position"),
    [
        ("plain", (1, 12)),
        ("quoted", (2, 14)),
        ("double", (3, 14)),
        ("literal", (6, 3)),
        ("folded", (9, 3)),
        ("more", (11, 4)),
    ],
)
def test_a_place_inside_of_a_string_is_found_in_every_style(key, position):
    [document] = read_documents("x.yaml", SCALARS)
    offset = document.data[key].index("def")
    assert document.value_position((key,), offset) == position
    line, column = position
    assert SCALARS.splitlines()[line - 1][column - 1 :].startswith("def")


def test_places_are_the_same_with_windows_line_ends():
    [document] = read_documents("x.yaml", SCALARS.replace("\n", "\r\n"))
    assert document.value_position(("literal",), 4) == (6, 3)
    assert document.value_position(("more",), 4) == (11, 4)


def test_a_place_beyond_the_string_is_its_end():
    [document] = read_documents("x.yaml", SCALARS)
    assert document.value_position(("next", "flow"), 99)[0] == 12
    assert document.value_position(("nope",), 3) == (1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\nb: 4\n", ['3:1: key "a" appears twice', '4:1: key "b" appears twice']),
        ("x: {a: 1, 'a': 2}", ['1:11: key "a" appears twice in this mapping; the first is at line 1, column 5']),
        ("a:\n\tb: 1", ["2:1: a tab cannot indent YAML"]),
        ("a: *x", ["1:4: alias *x has no complete anchor"]),
        ("a: &x [*x]", ["1:8: alias *x has no complete anchor"]),
        ("a: &x 1\n---\nb: *x", ["3:4: alias *x has no complete anchor"]),
        ("1: a\ntrue: b\n~: c", ['1:1: a key must be a string; write "1"', '2:1: a key must be a string; write "true"', "3:1: "]),
        ("? [a]\n: 1", ["1:3: a key must be a string, written out"]),
        ("<<: {a: 1}", ["1:1: merge keys"]),
        ("a: !!set {b}", ["1:4: tag !!set"]),
        ("a: !!binary aGk=", ["1:4: tag !!binary"]),
        ("a: !!int x", ["1:4: tag !!int"]),
        ("a: !local 1", ["1:4: tag !local"]),
        ("a: " + "9" * 101, ["1:4: a number of 101 characters"]),
        ("a: [1, 2", ["2:1: did not find expected ',' or ']'"]),
        ("a: 'x", ["1:6: found unexpected end of stream (while scanning a quoted scalar that began at line 1, column 4)"]),
        ("a: b: c", ['1:5: a second ": "']),
        ("a: {b: ${c}}", ['1:8: write "${...}" in quotes here']),
        ("a: `b`", ['1:4: "`" cannot begin a value']),
        ("a: \x07", ["1:4: character U+0007"]),
        ("a: \ud800", ["1:4: character U+D800"]),
        ("a: 1\n...\nb", ["3:1: did not find expected <document start>"]),
        ("[" * 40, ["1:34: nested deeper than 32 levels"]),
        ("a" * (1024 * 1024 + 1), ["1:1: 1048577 characters"]),
    ],
)
def test_what_cannot_be_read_is_refused_where_it_stands(text, expected):
    found = problems(text)
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(f"x.yaml:{start}")


def test_aliases_stand_for_copies_within_bounds():
    assert data("a: &x {b: [1]}\nc: [*x, *x]") == {"a": {"b": [1]}, "c": [{"b": [1]}, {"b": [1]}]}
    bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    began = time.perf_counter()
    [problem] = problems(bomb)
    assert "more than 20000 values" in problem
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("text", ["[" * 500_000, "- " * 300_000, "{a: " * 200_000, "? " * 300_000])
def test_depth_is_refused_before_it_costs_anything(text):
    began = time.perf_counter()
    assert "nested deeper" in problems(text)[0]
    assert time.perf_counter() - began < 5


def test_files_are_utf8_and_bounded(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes("\ufeffä: 1\n".encode())
    assert data(load_text(file)) == {"ä": 1}
    file.write_bytes("ä\nb: \udcff".encode("utf-8", "surrogateescape"))
    with pytest.raises(DocumentError, match=r":2:4: byte 0xff is not UTF-8"):
        load_text(file)
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(DocumentError, match="larger than 1048576 bytes"):
        load_text(file)
    with pytest.raises(DocumentError, match="cannot be read: "):
        load_text(tmp_path)
    with pytest.raises(DocumentError, match="cannot be read: No such file"):
        load_text(tmp_path / "nope")


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(
        ["on", "NO", "0755", "0o17", "1e3", "12:30", "null", "~", "=", "<<", "- a", "a: b", "#x", "a #b", " ", "\n", "a\nb\n", "%x"]
    ),
)
TREES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@given(TREES.filter(lambda tree: tree is not None))
@example({"<<": 1, "on": "NO", "a": "0o17\n", "b": "\u202e", "c": "\x85", "d": "\u2028x", "e": "\ufeff", "f": "\x1b[1m"})
@example("a\n b\n\n")
def test_what_is_written_reads_back(tree):
    [document] = read_documents("x.yaml", dump_yaml(tree))
    assert document.data == tree


@given(TREES)
def test_output_holds_nothing_that_a_terminal_acts_on(tree):
    text = dump_yaml(tree)
    assert not [char for char in text if char in "\x1b\x07\x85\u202e\u2028\u200b\ufeff"]


def test_output_is_block_style_in_the_order_given():
    shared = [1]
    assert dump_yaml({"b": shared, "a": {"c": shared}, "t": (1, "2"), "m": "x\ny\n"}) == (
        "b:\n- 1\na:\n  c:\n  - 1\nt:\n- 1\n- '2'\nm: |\n  x\n  y\n"
    )


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@`#,? \n\t$~<\\"), max_size=60))
def test_any_text_is_documents_or_problems_with_places(text):
    try:
        documents = read_documents("x.yaml", text)
    except DocumentError as error:
        lines = text.count("\n") + 2
        assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in error.problems)  # noqa: PT017 - either is right
    else:
        assert all(document.data is not None for document in documents)
