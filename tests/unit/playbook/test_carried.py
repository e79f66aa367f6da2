"""Which labels an expression's result may have: never too few."""

from __future__ import annotations

import pytest

from remediator.playbook.carried import labels_of

RECORDED = {"node:x:max": "max by (node) (x)", "a:loop": "a:loop + sum by (zone) (y)", "raw:x": "x"}


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("up == 0", None),
        ('{job="x"} > 0', None),
        ("vector(1)", set()),
        ("max(x) > 2", set()),
        ("max by (node) (x) == 0", {"node"}),
        ("max (x) by (node, zone)", {"node", "zone"}),
        ("sum without (pod) (x)", None),
        ("topk by (node) (3, x)", None),
        ("histogram_quantile(0.9, sum by (node, le) (rate(x[5m]))) > 0.005", {"node", "le"}),
        ("max by (node) (x) unless on (node) node:x:max", {"node"}),
        ("node:x:max == 0 and on (node) max(x) > 1", {"node"}),
        ("raw:x > 1", None),
        ("sum by (node) (x) / x", None),
        ('sum by (node) (x{reason=~"by (pod)|sum(x"}) > 1', {"node"}),
        ("sum by (node) (x) # then x and 'y'\n> 1", {"node"}),
        ("sum by (node) (rate(x[5m:1m] offset 1d)) > bool 1e3", {"node"}),
        ("quantile_over_time(0.5, (min by (a) (x))[5m:30s])", {"a"}),
        ("sum by (a) (x * on (b) group_left (c) y) * on (a) group_left (d) max by (a, d) (z)", {"a", "d"}),
        ("a:loop", None),
    ],
)
def test_labels(expression, labels):
    assert labels_of(expression, RECORDED) == labels


def test_a_label_that_is_made_is_carried():
    assert "gateway" in labels_of('label_replace(max by (name) (x), "gateway", "$1", "name", "(.+)") == 0', {})


def test_an_unclosed_parenthesis_is_no_end():
    assert labels_of("sum by (node) (x", {}) == {"node"}
