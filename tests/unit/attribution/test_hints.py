from __future__ import annotations

from datetime import UTC, datetime

from remediator.attribution import Hint, hints_of
from remediator.model import DecisionKind, Episode, Target

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


def episode(name, *, node="node-3", target=None, resolved=None):
    return Episode(
        fingerprint=f"{name}-{node}",
        starts_at=AT,
        name=name,
        labels={"alertname": name, "node": node},
        first_seen=AT,
        last_seen=AT,
        decision=DecisionKind.REFUSED,
        target=target,
        resolved_at=resolved,
    )


def test_an_alert_about_a_node_itself_counts_once():
    assert hints_of([episode("NodeNicErrors"), episode("NodeNicErrors")]) == (Hint(node="node-3", alert="NodeNicErrors"),)


def test_the_target_is_asked_before_the_label():
    found = hints_of([episode("CiliumAgentDown", target=Target(kind="Node", name="node-4"))])
    assert [hint.node for hint in found] == ["node-4"]


def test_what_was_computed_from_the_same_pairs_or_names_an_observer_does_not_count():
    names = ("NodeLatencyCritical", "CiliumPairLatencyCritical", "NodePacketLossCritical", "CiliumHealthEndpointsUnreachable", "Unheard")
    assert hints_of([episode(name) for name in names]) == ()


def test_neither_does_what_is_over_or_names_no_node():
    assert hints_of([episode("NodeFailure", resolved=AT), episode("NodeFailure", node="")]) == ()
