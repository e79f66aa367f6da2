"""``no_culprit``; how the finding comes about is shown in tests/unit/attribution."""

from __future__ import annotations

import pytest

from remediator.attribution import Finding, Kind
from remediator.gates import Unread, in_force
from remediator.model import Target, TriggerKind, evolve
from remediator.reasons import Reason

GATE = "no_culprit"


def blamed(node):
    return Finding(kind=Kind.NODE, node=node, nodes=(node,), confidence=0.8, words="4 of 5 sound nodes that voted say so")


def nobody(kind=Kind.NOBODY):
    return Finding(kind=kind, words="what was seen")


@pytest.fixture
def verdict(case, snapshot, judge):
    """verdict(finding, **changes to the case)."""
    return lambda finding, **changes: judge(GATE, evolve(case, **changes), snapshot(finding=finding))


def test_the_target_that_the_pairs_blame_is_allowed_with_the_votes(verdict):
    found = verdict(blamed("node-3"))
    assert found.allowed
    assert found.detail == "4 of 5 sound nodes that voted say so; confidence 0.8"


@pytest.mark.parametrize("trigger", [TriggerKind.ALERT, TriggerKind.MANUAL])
def test_another_node_is_to_blame(verdict, trigger):
    found = verdict(blamed("node-5"), trigger=trigger)
    assert (found.allowed, found.reason) == (False, Reason.NO_CULPRIT)
    assert found.detail == "node-5 is to blame, not node-3: 4 of 5 sound nodes that voted say so"


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NODE])
def test_no_node_is_to_blame_and_it_is_said_what_is(verdict, kind):
    found = verdict(nobody(kind))
    assert (found.allowed, found.reason, found.detail) == (False, Reason.NO_CULPRIT, f"{kind}: what was seen")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NODE])
def test_a_person_who_names_a_node_is_refused_where_something_else_explains_it(verdict, kind):
    assert verdict(nobody(kind), trigger=TriggerKind.MANUAL).allowed is (kind is Kind.NOBODY)


def test_only_a_node_can_be_blamed(verdict):
    assert not verdict(blamed("node-3"), target=Target(kind="Pod", namespace="a", name="node-3")).allowed


@pytest.mark.parametrize("trigger", [TriggerKind.ALERT, TriggerKind.MANUAL])
def test_pairs_that_cannot_be_read_refuse_as_unreadable(verdict, trigger):
    found = verdict(Unread(detail="no answer within 1.5 s"), trigger=trigger)
    assert (found.allowed, found.reason) == (False, Reason.UNREADABLE)
    assert "no answer within 1.5 s" in found.detail


def test_it_applies_only_where_a_playbook_asks_for_the_culprit(case):
    assert GATE not in {gate.name for gate in in_force(case)}
    assert GATE in {gate.name for gate in in_force(case, [GATE])}
