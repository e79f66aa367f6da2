from __future__ import annotations

import pytest

from remediator.gates import Fact, Unread, evaluate, gates, in_force, refusals
from remediator.model import evolve
from remediator.reasons import Reason


def test_every_gate_file_is_registered_under_a_reason_code(root):
    files = {path.stem for path in (root / "remediator" / "gates").glob("*.py")} - {"__init__"}
    assert set(gates()) == files
    assert all(gate.reason or Reason(name) for name, gate in gates().items())


def test_nothing_refuses_a_case_without_blemish(case, snapshot):
    assert refusals(evaluate(case, snapshot(), in_force(case, gates()))) == ()


def test_what_no_action_brings_is_not_asked(case):
    asked = {gate.name for gate in in_force(case)}
    assert asked == {name for name, gate in gates().items() if gate.always}
    assert {gate.name for gate in in_force(case, ["crash_looping"])} == asked | {"crash_looping"}


def test_every_gate_that_an_action_brings_is_there():
    from remediator.actions import actions

    assert {name for action in actions().values() for name in action.brings} <= set(gates())


@pytest.mark.parametrize(
    ("fact", "concerned"),
    [
        ("pauses", {"paused"}),
        ("open_runs", {"target_busy", "concurrency", "disturbance_budget"}),
        ("active_alerts", {"not_firing", "silenced"}),
        ("target", {"paused", "target_changed", "protected", "agent_not_ready"}),
        ("namespace", {"paused", "protected"}),
        ("history", {"duplicate"}),
        ("restarts", {"recurrence"}),
        ("cilium", {"agent_not_ready", "crash_looping", "operator_down", "rollout_in_progress"}),
        ("finding", {"no_culprit"}),
        ("routes", {"bgp_agent", "bgp_conflict", "bgp_shift", "route_coverage"}),
        ("recent_runs", {"rate_limited"}),
        ("failures", {"breaker_open"}),
        ("episodes", {"storm"}),
        ("cluster", {"disturbance_budget", "partition", "quorum", "self"}),
        ("network", {"partition"}),
        ("view", {"partition"}),
        ("lease", {"target_leased"}),
        ("rights", {"missing_right"}),
    ],
)
def test_a_fact_that_could_not_be_read_refuses_as_unreadable(case, snapshot, fact, concerned):
    verdicts = evaluate(case, snapshot(**{fact: Unread(detail="the cable is cut")}), in_force(case, gates()))
    no = refusals(verdicts)
    assert {v.gate for v in no} == concerned
    assert {v.reason for v in no} == {Reason.UNREADABLE}
    assert all("the cable is cut" in v.detail for v in no)
    assert len(verdicts) == len(in_force(case, gates()))


def test_history_is_read_only_where_a_playbook_asks(case, snapshot):
    from remediator.gates.attempts_exhausted import Settings

    blind = snapshot(history=Unread(detail="no"))
    assert refusals(evaluate(case, blind, in_force(case))) == ()
    asked = evolve(case, settings={"attempts": Settings.model_validate({"max": 2, "within": "6h"})})
    assert [v.gate for v in refusals(evaluate(asked, blind, in_force(asked)))] == ["attempts_exhausted"]


def test_a_gate_reads_only_what_it_declares(case, snapshot):
    full = snapshot()
    for gate in (kind() for kind in gates().values()):
        declared = {fact: value for fact, value in full.facts.items() if fact in gate.reads}
        gate.judge(case, evolve(full, facts=declared))
        assert gate.reads <= set(Fact)


def test_every_gate_describes_itself():
    for gate in gates().values():
        text = gate.describe()
        assert text["summary"]
        assert text["name"] == gate.name


def test_what_disturbs_nothing_passes_gates_that_are_only_for_the_disruptive_and_nothing_is_read_for_it(case, snapshot):
    harmless = evolve(case, disruptive=False)
    only = [gate for gate in in_force(harmless) if gate.only_disruptive]
    assert only
    assert {fact for gate in only for fact in gate.needs(harmless)} == set()
    assert all(gate.needs(case) == gate.reads for gate in only)
    verdicts = evaluate(harmless, evolve(snapshot(), facts={}), only)
    assert {verdict.detail for verdict in verdicts} == {"nothing in it disturbs"}
    assert all(verdict.allowed for verdict in verdicts)
