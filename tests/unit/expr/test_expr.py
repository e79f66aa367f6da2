from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import ExpressionError, Unreadable
from remediator.expr import Expression, Pattern, Template, Undeclared

VARIABLES = {
    "target.name": "string",
    "parameters.count": "int",
    "parameters.force": "bool",
    "parameters.share": "double",
    "parameters.names": "list(string)",
    "parameters.any": "dyn",
    "alert.labels": "map(string, string)",
    "objects": "list(dyn)",
}
VALUES = {
    "target": {"name": "node-3"},
    "parameters": {"count": 3, "force": True, "share": 0.5, "names": ["a", "b"], "any": None},
    "alert": {"labels": {"node": "a", "empty": ""}},
    "objects": [{"metadata": {"name": "x"}, "status": {"ready": True, "count": 2}}],
}


def evaluate(source, want="any", values=VALUES):
    return Expression.compile(source, variables=VARIABLES, want=want).evaluate(values)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("target.name", "node-3"),
        ("target.name == 'node-3' && parameters.count > 2", True),
        ("parameters.count + 1", 4),
        ("parameters.share * 2.0", 1.0),
        ("parameters.names", ["a", "b"]),
        ("parameters.any == null", True),
        ("alert.labels.node", "a"),
        ("alert.labels['node']", "a"),
        ("has(alert.labels.nope) ? alert.labels.nope : 'd'", "d"),
        ("alert.labels.?nope.orValue('d')", "d"),
        ("'nope' in alert.labels", False),
        ("size(objects) == 1 && objects[0].status.ready", True),
        ("objects.exists(o, o.metadata.name == target.name)", False),
        ("objects.map(o, o.metadata.name)", ["x"]),
        ("objects[0].status", {"ready": True, "count": 2}),
        ("[1, 2].exists(target, target == 2)", True),
        ("target.name.matches('^node-[0-9]$') // a comment about parameters.nope", True),
        ("'parameters.nope' != \"it's\"", True),
    ],
)
def test_expressions_give_plain_values(source, value):
    assert evaluate(source) == value


@pytest.mark.parametrize(
    "source",
    [
        "alert.labels.nope",  # the library gives a truthy value of type ERROR for each of these
        "alert.labels.nope == 'x'",
        "objects[5]",
        "objects[0].nope",
        "objects.all(o, o.nope == 1)",
        "objects[0].status.count == 2 && objects[0].nope",
        "1 / (parameters.count - 3) == 1",
        "parameters.any + 1 == 2",
        "duration('x') == duration('1s')",
        "'a'.matches('(')",
    ],
)
def test_what_is_missing_or_wrong_never_passes_for_an_answer(source):
    with pytest.raises(Unreadable) as caught:
        evaluate(source)
    assert source in str(caught.value)


@pytest.mark.parametrize("values", [{}, {"target": None}, {"target": {}}, {"target": {"name": 5}}, {"target": "node-3"}])
def test_a_variable_without_a_value_is_unreadable(values):
    with pytest.raises(Unreadable):
        evaluate("target.name == 'node-3'", values=values)


def test_the_result_must_be_of_the_wanted_type_when_only_evaluation_can_tell():
    assert evaluate("objects[0].status.ready", want="bool") is True
    with pytest.raises(Unreadable, match="gave int, not bool"):
        evaluate("objects[0].status.count", want="bool")
    with pytest.raises(Unreadable, match="gave null, not string"):
        evaluate("parameters.any", want="string")


@pytest.mark.parametrize(
    ("source", "want", "column", "message"),
    [
        ("size(objects)", "bool", 1, "must give a bool, but gives int"),
        ("parameters.force", "string", 1, "must give a string, but gives bool"),
        ("target.name < 3", "any", 13, "< does not take (string, int)"),
        ("'a' + 1", "any", 5, "+ does not take (string, int)"),
        ("true ? 1 : 'a'", "any", 6, "?: does not take"),
        ("1 +", "any", 4, "unexpected end of the expression"),
        ("1 +\n +", "any", 6, "unexpected '+'"),
        ("a b", "any", 3, "syntax error"),
        ("", "any", 1, "empty"),
        (" \n", "any", 1, "empty"),
        ("'a\0'", "any", 1, "printable"),
        ("'\ud800'", "any", 1, "printable"),
        ("1" + " + 1" * 2000, "any", 1, "at most 4096"),
        ("(" * 60 + "1" + ")" * 60, "any", 1, "recursion limit"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_compiled(source, want, column, message):
    with pytest.raises(ExpressionError) as caught:
        Expression.compile(source, variables=VARIABLES, want=want)
    assert message in str(caught.value)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("source", "name", "column"),
    [
        ("target.nam == 'x'", "target.nam", 1),
        ("1 == 1 && targt.name == 'x'", "targt.name", 11),
        ("true &&\n  nope", "nope", 11),
        ("foo(1)", "foo", 1),
        ("target", "target", 1),
        ("objects.exists(o, p.x == 1)", "p.x", 19),
    ],
)
def test_an_undeclared_name_is_named_with_its_column(source, name, column):
    with pytest.raises(Undeclared) as caught:
        Expression.compile(source, variables=VARIABLES)
    assert (caught.value.name, caught.value.column) == (name, column)


@pytest.mark.parametrize("text", ["node-3\0", "\0", "a\ud800"])
def test_text_that_the_library_would_cut_or_choke_on_is_refused(text):
    with pytest.raises(Unreadable, match="no name has"):
        evaluate("target.name == 'node-3'", values={"target": {"name": text}})
    with pytest.raises(Unreadable, match="no name has"):
        evaluate("objects[0].x == 'node-3'", values={"objects": [{"x": text}]})


def test_evaluation_is_bounded():
    nested = "objects.all(a, objects.all(b, objects.all(c, objects.all(d, true))))"
    with pytest.raises(Unreadable, match=r"[Bb]udget"):
        evaluate(nested, values={"objects": list(range(200))})


def test_expressions_may_be_evaluated_in_threads():
    expression = Expression.compile("target.name == 'node-3' && size(objects) == 1", variables=VARIABLES, want="bool")
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: expression.evaluate(VALUES), range(2000)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a ${target.name} b", "a node-3 b"),
        ("${target.name}${parameters.count}", "node-33"),
        ("${parameters.count}", 3),
        ("${parameters.force}", True),
        ("is ${parameters.force}", "is true"),
        ("${parameters.names}", ["a", "b"]),
        ("${parameters.any}", None),
        ("$${target.name}", "${target.name}"),
        ("$$${target.name}", "$${target.name}"),
        ("a $ b $1 {x} }", "a $ b $1 {x} }"),
        ('x=~"a$"', 'x=~"a$"'),
        ("a${'}' == target.name ? 1 : 2}", "a2"),
        ("${{'a': target.name}.a}", "node-3"),
    ],
)
def test_templates_render(text, value):
    assert Template.compile(text, variables=VARIABLES).render(VALUES) == value


def test_a_template_knows_what_it_needs():
    template = Template.compile("a ${target.name} ${parameters.count + 1}", variables=VARIABLES)
    assert template.names == {"target.name", "parameters.count"}
    assert template.constant is None
    assert template.only is None
    assert Template.compile("a $${b}", variables={}).constant == "a ${b}"
    assert Template.compile("${parameters.count}", variables=VARIABLES).only.type == "int"
    assert Template.compile("${parameters.count}", variables=VARIABLES).text(VALUES) == "3"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("ab ${ target.name", 4, "never closed"),
        ("ab ${target.nam}", 6, "undeclared"),
        ("ab ${1 +} c", 9, "unexpected end"),
        ("${}", 3, "empty"),
        ("a ${parameters.names}", 1, "cannot stand inside of a text"),
        ("a ${alert.labels}", 1, "cannot stand inside of a text"),
        ("${target.name} ${ 'a", 16, "never closed"),
        ("x" * 20_000, 1, "at most 16384"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_its_column(text, column, message):
    with pytest.raises(ExpressionError) as caught:
        Template.compile(text, variables=VARIABLES)
    assert message in str(caught.value)
    assert caught.value.column == column


@pytest.mark.parametrize("value", ['a"b', "a'b", "a`b", "a\\b", "a{b", "a}b", "a\nb", "a\tb", "a\x7fb"])
def test_a_value_inside_of_a_text_cannot_change_the_text(value):
    values = {"target": {"name": value}}
    with pytest.raises(Unreadable):
        Template.compile('up{node="${target.name}"}', variables=VARIABLES).render(values)
    assert Template.compile("${target.name}", variables=VARIABLES).render(values) == value


@pytest.mark.parametrize("text", ["x ${parameters.any}", "x ${objects[0]}"])
def test_what_is_no_text_cannot_stand_inside_of_one(text):
    with pytest.raises(Unreadable, match="cannot stand inside"):
        Template.compile(text, variables=VARIABLES).render(VALUES)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(TEXT)
def test_escaped_text_renders_as_itself(text):
    template = Template.compile(text.replace("${", "$${"), variables={})
    assert template.constant == text
    assert template.render({}) == text


@given(before=TEXT, name=st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True), after=TEXT)
def test_names_arrive_unchanged_in_any_text(before, name, after):
    text = before.replace("$", "") + "x${target.name}" + after.replace("$", "")
    rendered = Template.compile(text, variables=VARIABLES).render({"target": {"name": name}})
    assert rendered == before.replace("$", "") + "x" + name + after.replace("$", "")


@given(TEXT)
def test_any_text_is_a_template_or_is_refused_within_it(text):
    try:
        Template.compile(text, variables=VARIABLES)
    except ExpressionError as error:
        column = error.column
    else:
        column = 1
    assert 1 <= column <= len(text) + 1


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_is_refused_within_it(text):
    try:
        Expression.compile(text, variables=VARIABLES)
    except ExpressionError as error:
        column = error.column
    else:
        column = 1
    assert 1 <= column <= len(text) + 1


@given(TEXT)
def test_a_string_literal_evaluates_to_itself(text):
    literal = json.dumps(text, ensure_ascii=True) if text.isascii() and text.isprintable() else "''"
    expected = text if literal != "''" else ""
    assert evaluate(literal) == expected


@pytest.mark.parametrize("regex", ["(", "a)|(b", "(?=a)", "(?<!a)b", r"(a)\1", "[", "a{2000}", "(?P<n", "*", "(x{1000}){1000}", "\ud800"])
def test_what_re2_does_not_take_is_refused(regex):
    with pytest.raises(ExpressionError, match="not a regular expression"):
        Pattern.compile(regex)


@pytest.mark.parametrize(
    ("regex", "text", "fits"),
    [
        ("a|b", "a", True),
        ("a|b", "ab", False),
        ("a|b.*", "bc", True),
        ("a|", "", True),
        ("", "", True),
        ("", "a", False),
        ("a.b", "a\nb", False),
        ("(?s)a.b", "a\nb", True),
        ("a$", "a\n", False),
        ("é+", "éé", True),
        ('"\\d"', '"5"', True),
        ("(?i)node", "NODE", True),
        ("node-1|node.2", "nodex2", True),
    ],
)
def test_a_pattern_fits_the_whole_text(regex, text, fits):
    assert Pattern.compile(regex).fits(text) is fits


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_a_pattern_answers_for_any_text(text):
    assert Pattern.compile("a.b").fits(text)
    assert not Pattern.compile("a").fits(text)
    assert not Pattern.compile("[a-z]+").fits(text)
