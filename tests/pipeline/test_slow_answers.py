"""A system that hangs still leads to a decision, soon, with the reason ``unreadable``; and to no run."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

SOON = 4.0
"""Seconds: about 2 by design, and room for a busy machine. Without a deadline of ours it would take 10."""
FOR_EVER = timedelta(hours=6)

PATHS = {"kubernetes": "^/api", "alertmanager": "^/alertmanager"}


@pytest.fixture
def unhurried():
    """Here the deadline is what counts."""


def asked_of_nodes(deciding):
    return [(call.verb, call.name) for call in deciding.stage.cluster.request_log if call.resource == "nodes"]


async def timed(deciding, *alerts):
    began = time.monotonic()
    decisions = await deciding.decide(*alerts)
    return decisions, time.monotonic() - began


@pytest.mark.parametrize("hangs", PATHS)
async def test_every_alert_of_a_delivery_is_refused_soon(deciding, outside, text, hangs):
    """Five alerts do not wait five times."""
    deciding.load(text())
    deciding.stage.cluster.slow(FOR_EVER, path=PATHS[hangs], count=None)
    alerts = [outside.fire(node=f"node-{n}") for n in range(1, 6)]
    decisions, seconds = await timed(deciding, *alerts)
    assert [(d.decision, d.reason) for d in decisions] == [("refused", "unreadable")] * 5
    assert "no answer within" in decisions[0].detail
    assert seconds < SOON
    assert deciding.runs == []


async def test_a_target_that_only_a_list_can_find_is_no_exception(deciding, outside, text):
    deciding.load(text())
    deciding.stage.cluster.slow(FOR_EVER, path="^/api", count=None)
    (decision,), seconds = await timed(deciding, outside.fire(node="", instance="10.0.0.1:9962"))
    assert (decision.decision, decision.reason) == ("refused", "unreadable")
    assert seconds < SOON


async def test_kubernetes_that_hangs_between_match_and_gates(deciding, outside, text):
    """Both targets are found, and the next questions are not answered."""
    deciding.load(text(steps=[{"restart": {"action": "cilium.restart_agent"}}], gates={"cooldown": "1m"}))
    cluster = deciding.stage.cluster
    cluster.slow(timedelta(0), path="^/api", count=2)
    cluster.slow(FOR_EVER, path="^/api", count=None)
    decisions, seconds = await timed(deciding, outside.fire(), outside.fire(node="node-1"))
    assert [(d.decision, d.reason) for d in decisions] == [("refused", "unreadable")] * 2
    no = {verdict.gate for verdict in decisions[0].gates if not verdict.allowed}
    assert {"agent_not_ready", "partition", "quorum", "target_leased"} <= no
    assert not {"paused", "protected", "target_changed"} & no, "what is asked of the target itself was answered"
    assert seconds < SOON


async def test_a_target_that_is_not_there_says_so_of_its_own_alert_alone(deciding, outside, text):
    """What several alerts ask is asked at once; what one of them is told is no other's."""
    deciding.load(text())
    decisions = await deciding.decide(outside.fire(node="node-1"), outside.fire(node="node-99"), outside.fire(node="node-2"))
    assert [decision.reason for decision in decisions] == [None, "target_missing", None]


async def test_each_target_of_a_delivery_is_asked_for_once(deciding, outside, text):
    deciding.load(text())
    deciding.world.alertmanager = None  # so each is refused: after a run that begins everything is asked anew
    two = outside.fire(node="node-1", cpu="0"), outside.fire(node="node-1", cpu="1")
    await deciding.decide(*two, *(outside.fire(node=f"node-{n}") for n in (2, 3)))
    assert sorted(asked_of_nodes(deciding)) == [("get", "node-1"), ("get", "node-2"), ("get", "node-3")]


async def test_nodes_that_only_a_list_can_find_are_listed_once(deciding, outside, text):
    deciding.load(text())
    deciding.world.alertmanager = None
    decisions = await deciding.decide(*(outside.fire(node="", instance=f"node-{n}:9100") for n in (1, 2, 3)))
    assert [decision.target.name for decision in decisions] == ["node-1", "node-2", "node-3"]
    assert [verb for verb, _ in asked_of_nodes(deciding)].count("list") == 1


@pytest.mark.parametrize(("door", "status"), [("alertmanager", 500), ("alertmanager", 401), ("kubernetes", 403), ("kubernetes", 500)])
async def test_a_system_that_says_no_is_unreadable_too(deciding, outside, text, door, status):
    deciding.load(text())
    deciding.stage.cluster.fail(path=PATHS[door], status=status, count=None)
    (decision,), seconds = await timed(deciding, outside.fire())
    assert (decision.decision, decision.reason) == ("refused", "unreadable")
    assert seconds < SOON


async def test_an_alertmanager_that_is_not_set_is_unreadable(deciding, outside, text):
    deciding.load(text())
    deciding.world.alertmanager = None
    (decision,) = await deciding.decide(outside.fire())
    assert (decision.decision, decision.reason) == ("refused", "unreadable")
    assert "alertmanager.url" in decision.detail


async def test_what_needs_no_question_is_decided_at_once(deciding, outside, text):
    deciding.load(text())
    alert = outside.fire()
    await deciding.decide(alert)
    for path in PATHS.values():
        deciding.stage.cluster.slow(FOR_EVER, path=path, count=None)
    decisions, seconds = await timed(deciding, alert, outside.resolve(outside.fire(node="node-1")), outside.fire("Other"))
    assert [d.decision for d in decisions] == ["duplicate", "resolved", "unmatched"]
    assert seconds < SOON / 2


@pytest.mark.parametrize("path", ["^/prometheus", "^/api", "^/(prometheus|alertmanager)", "^/"])
async def test_who_is_to_blame_that_nobody_tells(deciding, outside, text, path):
    """Three alerts read the pairs once, and what hangs beside Prometheus costs no time of its own."""
    when = {"alerts": ['alertname="Symptom"'], "target": {"kind": "Node", "culprit": "latency"}}
    deciding.load(text(alert=None, when=when))
    deciding.stage.cluster.slow(FOR_EVER, path=path, count=None)
    decisions, seconds = await timed(deciding, *(outside.fire(node=f"node-{n}") for n in (1, 2, 3)))
    assert [(d.decision, d.reason) for d in decisions] == [("refused", "unreadable")] * 3
    assert seconds < SOON
    assert deciding.runs == []
