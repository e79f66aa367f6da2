"""``route_coverage``; what it counts is shown in tests/unit/bgp."""

from __future__ import annotations

import pytest

from remediator.bgp.model import Metrics, Node, Prefix, PrefixKind, Routes, Session
from remediator.gates import Limits, Unread, gates, in_force
from remediator.gates.route_coverage import Settings
from remediator.model import Target, evolve
from remediator.reasons import Reason

GATE = "route_coverage"


def routes(*speakers, **more):
    session = Session(instance="i", peer="tor1", address="r1", state="established")
    nodes = tuple(Node(name=name, sessions=(session,)) for name in ("node-1", "node-2", "node-3"))
    vip = Prefix(prefix="10.0.0.1/32", kind=PrefixKind.SERVICE, of="apps/web", speakers=dict.fromkeys(speakers, ("r1",)))
    return Routes(nodes=nodes, prefixes=(vip,), **more)


def test_two_speakers_and_min_speakers_2_refuses(case, snapshot, judge):
    verdict = judge(GATE, case, snapshot(routes=routes("node-2", "node-3")))
    assert (verdict.allowed, verdict.reason) == (False, Reason.ROUTE_COVERAGE)
    assert verdict.detail == "10.0.0.1/32 (apps/web): 1 of 2 speakers would be left, 2 are wanted"


def test_three_speakers_are_enough(case, snapshot, judge):
    verdict = judge(GATE, case, snapshot(routes=routes("node-1", "node-2", "node-3")))
    assert verdict.allowed
    assert verdict.detail == "1 prefixes keep enough speakers without node-3"


def test_the_limit_is_the_settings_and_a_playbook_can_only_ask_for_more(case, snapshot, judge):
    few = snapshot(routes=routes("node-2", "node-3"))
    assert judge(GATE, evolve(case, limits=Limits(min_speakers=1)), few).allowed
    asked = evolve(case, limits=Limits(min_speakers=1), settings={GATE: Settings(min_speakers=2)})
    assert not judge(GATE, asked, few).allowed
    assert not judge(GATE, evolve(case, settings={GATE: Settings(min_speakers=1)}), few).allowed


@pytest.mark.parametrize("target", [Target(kind="Node", name="node-9"), Target(kind="Pod", namespace="a", name="p")])
def test_who_announces_nothing_takes_nothing_away(case, snapshot, judge, target):
    assert judge(GATE, evolve(case, target=target), snapshot(routes=routes("node-2"))).allowed


def test_an_address_that_others_are_short_of_already_is_not_this_nodes_matter(case, snapshot, judge):
    assert judge(GATE, case, snapshot(routes=routes("node-1"))).allowed


def test_prometheus_that_cannot_be_asked_refuses_as_unreadable(case, snapshot, judge):
    blind = routes("node-1", "node-2", "node-3", metrics=Metrics.UNREADABLE, metrics_detail="no answer")
    assert judge(GATE, case, snapshot(routes=blind)).reason is Reason.UNREADABLE
    assert judge(GATE, case, snapshot(routes=Unread(detail="gone"))).reason is Reason.UNREADABLE


def test_many_short_prefixes_are_counted(case, snapshot, judge):
    many = routes("node-3")
    many = evolve(many, prefixes=tuple(evolve(many.prefixes[0], prefix=f"10.0.0.{i}/32") for i in range(9)))
    assert judge(GATE, case, snapshot(routes=many)).detail.endswith("; and 4 more")


def test_it_applies_only_where_an_action_or_a_playbook_brings_it(case):
    assert GATE not in {gate.name for gate in in_force(case)}
    assert GATE in {gate.name for gate in in_force(case, [GATE])}
    assert GATE in {gate.name for gate in in_force(evolve(case, settings={GATE: Settings()}))}
    assert gates()[GATE].key == GATE
