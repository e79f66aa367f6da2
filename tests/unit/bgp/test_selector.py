"""Selectors as the operator evaluates them, on CiliumNode labels, and the label change that makes them let go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.bgp.selector import DRAIN_LABEL, LabelChange, NamedSelector, NoWay, applied, selects, selects_node, way_out
from remediator.errors import Unreadable

KEYS = st.sampled_from(["bgp", "rack", DRAIN_LABEL, "kubernetes.io/hostname", "topology.kubernetes.io/zone"])
VALUES = st.sampled_from(["enabled", "disabled", "a", "true"])
LABELS = st.dictionaries(KEYS, VALUES)
TERM = st.one_of(
    st.builds(lambda k, o: {"key": k, "operator": o}, KEYS, st.sampled_from(["Exists", "DoesNotExist"])),
    st.builds(
        lambda k, o, v: {"key": k, "operator": o, "values": v},
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.lists(VALUES, min_size=1, unique=True),
    ),
)
SELECTOR = st.fixed_dictionaries({}, optional={"matchLabels": LABELS, "matchExpressions": st.lists(TERM, max_size=3)})


def plainly(selector, labels):
    """The rules of apimachinery's ``labels.Requirement.Matches``, one by one."""
    for key, value in selector.get("matchLabels", {}).items():
        if key not in labels or labels[key] != value:
            return False
    for term in selector.get("matchExpressions", []):
        has, value = term["key"] in labels, labels.get(term["key"])
        held = {
            "In": has and value in term.get("values", []),
            "NotIn": not has or value not in term.get("values", []),
            "Exists": has,
            "DoesNotExist": not has,
        }
        if not held[term["operator"]]:
            return False
    return True


@given(SELECTOR, LABELS)
def test_a_selector_selects_what_apimachinery_would(selector, labels):
    assert selects(selector, labels) is plainly(selector, labels)


@given(st.lists(st.one_of(st.none(), SELECTOR), max_size=3), LABELS, st.sampled_from(["auto", "drain_label", "selector_label"]))
def test_after_a_way_out_nothing_selects_the_node_and_no_label_of_others_was_touched(selectors, labels, method):
    named = [NamedSelector(name=str(i), selector=s) for i, s in enumerate(selectors)]
    found = way_out(named, labels, method)
    if isinstance(found, NoWay):
        assert found.why
        return
    after = applied(labels, found)
    assert after != labels
    assert {k: v for k, v in after.items() if k != found.key} == {k: v for k, v in labels.items() if k != found.key}
    assert not any(selects_node(s, after) for s in selectors)
    assert "kubernetes.io" not in found.key
    assert (found.key == DRAIN_LABEL) is (found.method == "drain_label")
    if method != "auto":
        assert found.method == method


@given(SELECTOR, LABELS)
def test_the_drain_label_is_taken_wherever_it_works(selector, labels):
    drained = {**labels, DRAIN_LABEL: "true"}
    works = plainly(selector, labels) and not plainly(selector, drained)
    found = way_out([NamedSelector(name="c", selector=selector)], labels)
    assert works is (isinstance(found, LabelChange) and found.method == "drain_label")


def one(selector):
    return [NamedSelector(name="CiliumBGPClusterConfig/main", selector=selector)]


@pytest.mark.parametrize(
    ("selector", "labels", "key", "value"),
    [
        ({"matchLabels": {"bgp": "enabled"}}, {"bgp": "enabled"}, "bgp", "disabled"),
        ({"matchExpressions": [{"key": "bgp", "operator": "Exists"}]}, {"bgp": ""}, "bgp", None),
        ({"matchExpressions": [{"key": "bgp", "operator": "In", "values": ["a", "disabled"]}]}, {"bgp": "a"}, "bgp", None),
        ({"matchExpressions": [{"key": "off", "operator": "NotIn", "values": ["x"]}]}, {}, "off", "x"),
        ({"matchExpressions": [{"key": "off", "operator": "DoesNotExist"}]}, {}, "off", "true"),
        ({"matchExpressions": [{"key": DRAIN_LABEL, "operator": "DoesNotExist"}]}, {}, DRAIN_LABEL, "true"),
    ],
)
def test_method_a_and_b(selector, labels, key, value):
    found = way_out(one(selector), labels)
    assert (found.key, found.value) == (key, value)


@pytest.mark.parametrize("selector", [None, {}, {"matchLabels": {"kubernetes.io/os": "linux"}}])
def test_no_label_of_kubernetes_is_ever_changed_and_the_refusal_says_what_to_do(selector):
    found = way_out(one(selector), {"kubernetes.io/os": "linux"})
    assert isinstance(found, NoWay)
    assert DRAIN_LABEL in found.why


def test_a_change_that_makes_another_configuration_take_the_node_over_is_none():
    both = [*one({"matchLabels": {"bgp": "enabled"}}), NamedSelector(name="other", selector={"matchLabels": {"bgp": "disabled"}})]
    assert isinstance(way_out(both, {"bgp": "enabled"}), NoWay)


def test_an_operator_that_nobody_knows_is_unreadable():
    with pytest.raises(Unreadable, match="Gt"):
        selects({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}, {})


def test_nil_selects_every_node_and_no_service():
    assert selects_node(None, {})
    assert not selects(None, {})
    assert selects({}, {})
