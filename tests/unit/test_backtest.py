"""Deliveries on record through playbooks: what would run, who refuses, what cannot be judged, and what another revision makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.actions import actions
from remediator.backtest import ASSUMED, Backtest, differences
from remediator.gates import Limits, gates
from remediator.model import Alert, AlertStatus, Delivery, Mode
from remediator.playbook import load_playbook
from remediator.playbook.library import Library
from remediator.settings import Storm
from remediator.windows import Window

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
PLAYBOOK = """
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: agent, summary: Restart the agent}
when:
  alerts: [alertname=AgentDown]
  target: {kind: Node}
mode: auto
deadline: 2h
gates: {cooldown: 30m, attempts: {max: 2, per: target, within: 24h}}
ladder:
- name: restart
  steps:
  - restart: {action: cilium.restart_agent, timeout: 20m}
verify: {query: "up == 1", within: 10m, hold: 1m}
"""


def alert(minute, *, node="node-3", name="AgentDown", began=0, resolved=False, **labels):
    return Alert(
        name=name,
        fingerprint=f"{node}{name}".encode().hex()[:16],
        starts_at=NOW + timedelta(minutes=began),
        ends_at=NOW + timedelta(minutes=minute) if resolved else None,
        status=AlertStatus.RESOLVED if resolved else AlertStatus.FIRING,
        labels={"alertname": name, "node": node, **labels} if node else {"alertname": name, **labels},
    )


def delivery(minute, *alerts, truncated=0):
    return Delivery(
        id=f"{minute:06d}", received_at=NOW + timedelta(minutes=minute), receiver="r", group_key="", status="firing",
        truncated=truncated, alerts=alerts,
    )  # fmt: skip


def library(*texts):
    return Library(tuple(load_playbook(text, actions=actions(), gates=gates()) for text in texts))


@pytest.fixture
def replay():
    def replay_(*deliveries, text=PLAYBOOK, mode=Mode.AUTO, **limits):
        test = Backtest(library(text), limits=Limits(**limits), mode_of=lambda _: mode)
        for one in deliveries:
            test.take(one)
        return test.result()

    return replay_


def test_an_episode_that_would_run_names_what_could_not_be_judged(replay):
    found = replay(delivery(0, alert(0)), delivery(5, alert(5)), delivery(9, alert(9, resolved=True)))
    (one,) = found.items
    assert (one.decision, one.playbook, one.target.key, one.actions, one.refused_by) == (
        "run", "agent", "Node/node-3", ("cilium.restart_agent",), ()
    )  # fmt: skip
    assert one.at == NOW, "a repeat is a duplicate and changes nothing"
    assert {"protected", "not_firing", "paused", "crash_looping"} <= set(one.unjudged)
    assert not {"cooldown", "attempts_exhausted", "storm", "breaker_open", "rate_limited"} & set(one.unjudged)
    assert (found.deliveries, found.alerts, found.decisions, found.assumed) == (3, 3, {"run": 1}, ASSUMED)


def test_the_next_episode_is_refused_by_cooldown_and_after_it_by_attempts(replay):
    found = replay(
        delivery(0, alert(0)),
        delivery(5, alert(5, resolved=True)),
        delivery(20, alert(20, began=20)),
        delivery(25, alert(25, began=20, resolved=True)),
        delivery(60, alert(60, began=60)),
        delivery(65, alert(65, began=60, resolved=True)),
        delivery(120, alert(120, began=120)),
    )
    assert [(one.decision, one.refused_by) for one in found.items] == [
        ("run", ()), ("refused", ("cooldown",)), ("run", ()), ("refused", ("attempts_exhausted", "recurrence"))
    ]  # fmt: skip
    assert "last" in found.items[1].detail or "cooldown" in found.items[1].detail
    assert found.gates == {"attempts_exhausted": 1, "cooldown": 1, "recurrence": 1}


def test_a_refusal_is_asked_again_when_the_alert_comes_again(replay):
    first, again = alert(0), alert(20, began=20)
    found = replay(delivery(0, first), delivery(5, alert(5, resolved=True)), delivery(20, again), delivery(40, again))
    assert [one.decision for one in found.items] == ["run", "run"]


def test_a_run_works_until_its_deadline_and_has_then_failed(replay):
    found = replay(delivery(0, alert(0)), delivery(30, alert(30, began=30)), delivery(180, alert(180, began=180)))
    assert [(one.decision, "target_busy" in one.refused_by) for one in found.items] == [("run", False), ("refused", True), ("run", False)]


def test_a_storm_is_seen_as_the_daemon_would(replay):
    burst = [alert(0, node=f"node-{number}") for number in range(5)]
    found = replay(delivery(0, *burst), storm=Storm(episodes=5))
    assert {one.refused_by for one in found.items} == {("storm",)}


def test_runs_at_once_are_bounded(replay):
    found = replay(delivery(0, alert(0, node="a"), alert(0, node="b")), concurrent_disruptive=1)
    assert [(one.decision, "concurrency" in one.refused_by) for one in found.items] == [("run", False), ("refused", True)]


def test_what_a_window_held_is_decided_after_it(replay):
    window = Window.model_validate({"from": "09:00", "to": "11:00"})
    held = replay(delivery(0, alert(0)), maintenance=(window,))
    assert [one.decision for one in held.items] == ["held"]
    later = replay(delivery(0, alert(0)), delivery(90, alert(90, node="node-9", name="Other")), maintenance=(window,))
    assert [(one.name, one.decision) for one in later.items] == [("AgentDown", "run"), ("Other", "unmatched")]
    over = replay(
        delivery(0, alert(0)), delivery(30, alert(30, resolved=True)), delivery(90, alert(90, name="Other")), maintenance=(window,)
    )
    assert [(one.name, one.decision) for one in over.items] == [("AgentDown", "held"), ("Other", "unmatched")]


@pytest.mark.parametrize(
    ("one", "decision", "reason"),
    [
        (delivery(0, alert(0, name="Other")), "unmatched", "unmatched"),
        (delivery(0, alert(0, node="")), "refused", "target_missing"),
        (delivery(0, alert(0), truncated=2), "held", "truncated"),
        (delivery(0, alert(0, resolved=True)), "resolved", "resolved"),
    ],
)
def test_what_comes_to_no_gate(replay, one, decision, reason):
    (found,) = replay(one).items
    assert (found.decision, found.reason) == (decision, reason)


def test_modes(replay):
    (asks,) = replay(delivery(0, alert(0)), mode=Mode.SUGGEST).items
    assert (asks.decision, asks.asks) == ("run", True)
    (observes,) = replay(delivery(0, alert(0)), mode=Mode.OBSERVE).items
    assert (observes.decision, observes.refused_by) == ("refused", ("observe_only",))


def test_the_difference_of_two_revisions(replay):
    recorded = [
        delivery(0, alert(0)),
        delivery(5, alert(5, resolved=True)),
        delivery(20, alert(20, began=20)),
        delivery(21, alert(21, name="Other", node="node-9")),
    ]
    before = replay(*recorded)
    assert differences(before, replay(*recorded, text=PLAYBOOK.replace("Restart the agent", "Other words"))) == ()
    (one,) = differences(before, replay(*recorded, text=PLAYBOOK.replace("cooldown: 30m", "cooldown: 10m")))
    assert (one.before.decision, one.before.refused_by, one.after.decision) == ("refused", ("cooldown",), "run")
    otherwise = differences(
        before, replay(*recorded, text=PLAYBOOK.replace("  steps:\n", "  steps:\n  - settle: {action: wait, for: 1s}\n"))
    )
    assert [one.after.actions for one in otherwise] == [("wait", "cilium.restart_agent")] * 2
