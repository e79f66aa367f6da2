"""What a verification compares with which number."""

from __future__ import annotations

import pytest

from remediator.monitoring.promql import comparisons, needed
from remediator.playbook import Library, shipped


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('up{job="a"} == 1', [('up{job="a"}', 1)]),
        ("max(m) < 0.005", [("max(m)", 0.005)]),
        ('count(m{n="x > 3"} > 0) unless quantile(0.5, m{n="x"}) > 1e-3', [('quantile(0.5, m{n="x"})', 0.001), ('m{n="x > 3"}', 0)]),
        ("vector(1) unless sum(changes(m[5m])) > 0", [("sum(changes(m[5m]))", 0)]),
        ("count(a) unless (max(a) > 0.5 or max(b) >= 2)", [("max(a)", 0.5), ("max(b)", 2)]),
        ("a and on(node) rate(b[5m]) != bool 3", [("rate(b[5m])", 3)]),
        ('m{le="<= 4"}', []),
        ("a > b", []),
        ("a > 3 * b", [("a", 3)]),
        ("((a > 1", [("a", 1)]),
        ("", []),
    ],
)
def test_left_sides_and_limits(query, found):
    assert [(one.expression, one.limit) for one in comparisons(query)] == found


def test_shipped_playbooks_that_verify_by_a_metric_have_one_to_draw():
    from remediator.actions import actions
    from remediator.gates import gates

    values = {"target": {"kind": "Node", "label": "node", "name": "n", "namespace": "", "uid": "u"}, "parameters": {}, "cilium": {}}
    queries = [
        one.verify.query.text(values)
        for one in Library.load((shipped(),), actions=actions(), gates=gates()).playbooks
        if one.verify is not None and one.verify.query is not None
    ]
    assert queries
    assert all(comparisons(query) for query in queries)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ('sum(a{node="b",state=~"c|d"}) > 0 unless (sum(e) > 0 or f > 1)', ("a",)),
        (
            'count(node:stale:ratio{node="${target.name}"} or probe_success{probe="health"}) unless max(x) == 0',
            ("node:stale:ratio", "probe_success"),
        ),
        ("sum by (node, other) (rate(a[5m] offset 10m)) / on (node) group_left (zone) b > bool 1e3", ("a", "b")),
        ("vector(1) unless sum(changes(a[5m])) > 0", ()),
        ('{__name__=~"a_.+"} and time() - b > 5', ("b",)),
        ("a > Inf or a < NaN", ("a",)),
    ],
)
def test_the_metrics_that_a_condition_needs(query, names):
    assert needed(query) == names
