"""What a verification compares with which number."""

from __future__ import annotations

import pytest

from remediator.monitoring.promql import comparisons
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

    values = {"target": {"kind": "Node", "name": "n", "namespace": "", "uid": "u"}, "parameters": {}, "cilium": {}}
    queries = [
        one.verify.query.text(values)
        for one in Library.load((shipped(),), actions=actions(), gates=gates()).playbooks
        if one.verify is not None and one.verify.query is not None
    ]
    assert queries
    assert all(comparisons(query) for query in queries)
