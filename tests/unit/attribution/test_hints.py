from __future__ import annotations

from datetime import UTC, datetime

from remediator.attribution import Hint, Place, hints_of
from remediator.model import DecisionKind, Episode, Target

NODES = tuple(Place(name=f"node-{n}", address=f"10.0.0.{n}") for n in range(1, 6))
AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


def episode(name, *, node="node-3", target=None, resolved=None, **labels):
    return Episode(
        fingerprint=f"{name}-{node}",
        starts_at=AT,
        name=name,
        labels={"alertname": name, "node": node, **labels},
        first_seen=AT,
        last_seen=AT,
        decision=DecisionKind.REFUSED,
        target=target,
        resolved_at=resolved,
    )


def test_an_alert_about_a_node_itself_counts_once():
    assert hints_of([episode("NodeNicErrors"), episode("NodeNicErrors")], NODES) == (Hint(node="node-3", alert="NodeNicErrors"),)


def test_the_labels_say_which_node_and_not_the_target_which_may_have_been_blamed_itself():
    found = hints_of([episode("NodeNicErrors", target=Target(kind="Node", name="node-4"))], NODES)
    assert [hint.node for hint in found] == ["node-3"]


def test_an_address_is_the_node_that_has_it_and_a_stranger_is_nobody():
    by_address = episode("NodeNicErrors", node="", instance="10.0.0.2:9100")
    assert [hint.node for hint in hints_of([by_address], NODES)] == ["node-2"]
    assert hints_of([episode("NodeNicErrors", node="node-99", instance="10.0.0.2:9100")], NODES) == ()


def test_what_was_computed_from_the_same_pairs_or_names_an_observer_does_not_count():
    names = ("NodeLatencyCritical", "CiliumPairLatencyCritical", "NodePacketLossCritical", "CiliumHealthEndpointsUnreachable", "Unheard")
    assert hints_of([episode(name) for name in names], NODES) == ()


def test_neither_does_what_is_over_or_names_no_node():
    assert hints_of([episode("NodeFailure", resolved=AT), episode("NodeFailure", node="")], NODES) == ()
