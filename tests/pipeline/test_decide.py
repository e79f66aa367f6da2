"""One decision per alert per delivery: duplicates, resolved, truncated, unmatched, refused, and what comes together in one delivery."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from remediator.model import Pause, RunState, evolve
from remediator.telemetry import METRICS


@pytest.fixture
def remedy(deciding, text):
    deciding.load(text())
    return deciding


def kinds(decisions):
    return [(str(d.decision), str(d.reason) if d.reason else "") for d in decisions]


async def end(world, run, state=RunState.DONE):
    """As if the run had gone its way."""
    stored = await world.journal.run(run)
    await world.journal.save_run(evolve(stored, state=state, ended_at=world.clock.now()))


async def test_an_alert_that_fires_leads_to_a_run_with_every_gate_on_record(remedy, outside):
    alert = outside.fire()
    (decision,) = await remedy.decide(alert)
    assert decision.decision == "run"
    assert decision.playbook == "remedy"
    assert (decision.target.key, decision.alert.fingerprint) == ("Node/node-3", alert["fingerprint"])
    assert len({verdict.gate for verdict in decision.gates}) >= 8
    assert all(verdict.allowed for verdict in decision.gates)
    (run,) = remedy.runs
    assert run.id == decision.run
    stored = await remedy.world.journal.run(run.id)
    assert stored.state == "running"
    assert (stored.gates, stored.delivery, stored.trigger.kind) == (decision.gates, decision.delivery, "alert")
    assert stored.target.uid == remedy.stage.cluster.get("Node", "node-3")["metadata"]["uid"]
    assert await remedy.world.journal.revision(run.revision) == remedy.world.library.playbooks[0].text


class TestDuplicates:
    async def test_the_same_delivery_again(self, remedy, outside):
        alert = outside.fire()
        (first,) = await remedy.decide(alert)
        (second,) = await remedy.decide(alert)
        assert (second.decision, second.reason, second.run) == ("duplicate", "duplicate", first.run)
        assert remedy.runs == []
        assert (await remedy.episode(alert)).deliveries == 2

    async def test_the_same_alert_twice_in_one_delivery(self, remedy, outside):
        alert = outside.fire()
        decisions = await remedy.decide(alert, alert)
        assert kinds(decisions) == [("run", ""), ("duplicate", "duplicate")]
        assert len(remedy.runs) == 1

    @pytest.mark.parametrize("state", [RunState.HEALED, RunState.NOT_HEALED, RunState.FAILED, RunState.CANCELLED, RunState.UNKNOWN])
    async def test_after_its_run_ended_too(self, remedy, outside, state):
        alert = outside.fire()
        (first,) = await remedy.decide(alert)
        await end(remedy.world, first.run, state)
        (second,) = await remedy.decide(alert)
        assert (second.decision, second.run) == ("duplicate", first.run)

    async def test_after_a_restart_too(self, remedy, outside):
        alert = outside.fire()
        (first,) = await remedy.decide(alert)
        await remedy.restart()
        (second,) = await remedy.decide(alert)
        assert (second.decision, second.run) == ("duplicate", first.run)

    async def test_another_start_is_another_episode(self, remedy, outside):
        alert = outside.fire()
        (first,) = await remedy.decide(alert)
        await end(remedy.world, first.run)
        await remedy.decide(outside.resolve(alert))
        await remedy.world.clock.sleep(timedelta(seconds=1))
        again = outside.fire()
        assert again["fingerprint"] == alert["fingerprint"]
        (second,) = await remedy.decide(again)
        assert second.decision == "run"
        assert second.run != first.run

    async def test_a_start_written_with_other_digits_is_the_same_episode(self, remedy, outside):
        """One peer writes nanoseconds, Alertmanager's API milliseconds, another zone is the same moment."""
        since = remedy.world.clock.now().replace(microsecond=123_456)
        alert = outside.fire(since=since)
        (first,) = await remedy.decide(alert)
        local = since.astimezone(tz=__import__("datetime").timezone(timedelta(hours=2))).isoformat()
        for spelling in (since.strftime("%Y-%m-%dT%H:%M:%S.123Z"), since.strftime("%Y-%m-%dT%H:%M:%S.123456789Z"), local):
            (again,) = await remedy.decide({**alert, "startsAt": spelling})
            assert (again.decision, again.run) == ("duplicate", first.run), spelling


class TestResolved:
    async def test_it_starts_nothing_and_closes_the_episode(self, remedy, outside):
        alert = outside.fire()
        await remedy.decide(alert)
        assert (await remedy.episode(alert)).resolved_at is None
        (decision,) = await remedy.decide(outside.resolve(alert))
        assert kinds([decision]) == [("resolved", "resolved")]
        assert remedy.runs == []
        assert (await remedy.episode(alert)).resolved_at is not None
        assert (await remedy.world.journal.episodes(open_only=True)).items == ()

    async def test_of_an_episode_never_heard_of(self, remedy, outside):
        alert = outside.resolve(outside.fire())
        (decision,) = await remedy.decide(alert)
        assert decision.decision == "resolved"
        assert (await remedy.episode(alert)).resolved_at is not None

    async def test_a_late_firing_of_it_is_refused(self, remedy, outside):
        """The other peer's notification of the same episode comes after it was over."""
        alert = outside.fire()
        remedy.world.mode_of = lambda _: "observe"
        await remedy.decide(alert)
        await remedy.decide(outside.resolve(alert))
        remedy.world.mode_of = lambda playbook: playbook.mode
        (late,) = await remedy.decide(alert)
        assert kinds([late]) == [("refused", "not_firing")]
        assert (await remedy.episode(alert)).resolved_at is not None

    async def test_a_late_firing_after_a_run_is_a_duplicate(self, remedy, outside):
        alert = outside.fire()
        (first,) = await remedy.decide(alert)
        await remedy.decide(outside.resolve(alert))
        (late,) = await remedy.decide(alert)
        assert (late.decision, late.run) == ("duplicate", first.run)
        assert (await remedy.episode(alert)).resolved_at is not None

    async def test_one_that_alertmanager_holds_for_active_after_all_is_open_again(self, remedy, outside):
        """Prometheus was cut off, so the alert ended by time-out; then it came back with the start that it had."""
        alert = outside.fire()
        (decision,) = await remedy.decide({**alert, "status": "resolved", "endsAt": alert["startsAt"]})
        assert decision.decision == "resolved"
        (again,) = await remedy.decide(alert)
        assert again.decision == "run"
        assert (await remedy.episode(alert)).resolved_at is None

    async def test_mixed_with_firing_ones_each_is_decided_by_itself(self, remedy, outside):
        """The group's status is firing, and commonLabels name what is only one alert's: neither counts."""
        over, fires = outside.fire(node="node-2"), outside.fire(node="node-4")
        decisions = await remedy.decide(outside.resolve(over), fires, commonLabels={"node": "node-1", "alertname": "Other"})
        assert kinds(decisions) == [("resolved", "resolved"), ("run", "")]
        assert decisions[1].target.name == "node-4"

    @pytest.mark.parametrize("group", ["resolved", "firing"])
    async def test_the_status_of_the_group_is_ignored(self, remedy, outside, group):
        (decision,) = await remedy.decide(outside.fire(), status=group)
        assert decision.decision == "run"
        (decision,) = await remedy.decide(outside.resolve(outside.fire(node="node-1")), status=group)
        assert decision.decision == "resolved"


class TestTruncated:
    async def test_held_then_decided_by_a_whole_delivery(self, remedy, outside):
        alert = outside.fire()
        (held,) = await remedy.decide(alert, truncated=3)
        assert kinds([held]) == [("held", "truncated")]
        assert "3 alerts" in held.detail
        assert remedy.runs == []
        (whole,) = await remedy.decide(alert)
        assert whole.decision == "run"

    async def test_what_needs_no_count_is_decided_all_the_same(self, remedy, outside):
        known, over, new = outside.fire(node="node-1"), outside.fire(node="node-2"), outside.fire(node="node-4")
        await remedy.decide(known)
        decisions = await remedy.decide(known, outside.resolve(over), new, truncated=1)
        assert [kind for kind, _ in kinds(decisions)] == ["duplicate", "resolved", "held"]

    async def test_nothing_outside_is_asked_for_it(self, remedy, outside):
        before = len(remedy.stage.cluster.request_log)
        await remedy.decide(outside.fire(), truncated=1)
        assert len(remedy.stage.cluster.request_log) == before


class TestUnmatched:
    async def test_says_the_nearest_miss(self, deciding, outside, text):
        more = {"when": {"alerts": ['alertname="Symptom"', 'severity="critical"'], "target": {"kind": "Node"}}}
        deciding.load(text("far", alert="Other"), text("near", **more))
        (decision,) = await deciding.decide(outside.fire(severity="warning"))
        assert kinds([decision]) == [("unmatched", "unmatched")]
        assert "near" in decision.detail
        assert "'warning'" in decision.detail
        assert "far" not in decision.detail

    async def test_without_any_playbook_it_says_so(self, deciding, outside):
        (decision,) = await deciding.decide(outside.fire())
        assert (decision.decision, decision.detail) == ("unmatched", "no playbook takes alerts")

    async def test_an_alert_about_ourselves_is_so_whatever_a_playbook_says(self, deciding, outside, text):
        deciding.load(text(alert="RemediatorStuck"))
        (decision,) = await deciding.decide(outside.fire("RemediatorStuck", kind="remediator"))
        assert (decision.decision, decision.run, deciding.runs) == ("unmatched", None, [])
        assert decision.detail == "it is about remediator itself, so no playbook may take it"
        (decision,) = await deciding.decide(outside.fire("RemediatorStuck", kind="node"))
        assert decision.decision == "run"

    async def test_is_decided_again_once_a_playbook_takes_it(self, deciding, outside, text):
        alert = outside.fire()
        await deciding.decide(alert)
        deciding.load(text())
        (decision,) = await deciding.decide(alert)
        assert decision.decision == "run"

    async def test_is_counted(self, deciding, outside):
        before = METRICS.alerts_unmatched._value.get()
        await deciding.decide(outside.fire(), outside.fire(node="node-1"))
        assert METRICS.alerts_unmatched._value.get() == before + 2


class TestRefused:
    async def test_is_decided_again_on_the_next_delivery(self, remedy, outside):
        now = remedy.world.clock.now()
        await remedy.world.journal.add_pause(Pause(id="p", reason="exam", by="anna", at=now))
        alert = outside.fire()
        (refused,) = await remedy.decide(alert)
        assert kinds([refused]) == [("refused", "paused")]
        assert "anna" in refused.detail
        (refused,) = await remedy.decide(alert)
        assert refused.reason == "paused"
        await remedy.world.journal.end_pauses(playbook=None, target=None, by="anna", at=remedy.world.clock.now())
        (allowed,) = await remedy.decide(alert)
        assert allowed.decision == "run"
        assert (await remedy.episode(alert)).decision == "run"

    async def test_every_refusing_gate_is_on_record(self, remedy, outside):
        remedy.world.mode_of = lambda _: "observe"
        await remedy.world.journal.add_pause(Pause(id="p", reason="exam", by="anna", at=remedy.world.clock.now()))
        (refused,) = await remedy.decide(outside.fire(known=False))
        no = {verdict.gate: verdict.reason for verdict in refused.gates if not verdict.allowed}
        assert no == {"paused": "paused", "observe_only": "observe_only", "not_firing": "not_firing"}
        assert all(name in refused.detail for name in no)

    @pytest.mark.parametrize(
        ("labels", "reason", "said"),
        [
            ({"node": "node-99"}, "target_missing", "Node/node-99 does not exist"),
            ({"node": ""}, "target_missing", "no label names a node"),
            ({"node": "../../secrets"}, "target_missing", "not a name"),
            ({"node": "", "instance": "[fd00::77]:9962"}, "target_missing", "fd00::77"),
        ],
    )
    async def test_without_a_target_nothing_is_written_to_the_cluster(self, remedy, outside, labels, reason, said):
        (refused,) = await remedy.decide(outside.fire(**labels))
        assert kinds([refused]) == [("refused", reason)]
        assert said in refused.detail
        assert remedy.stage.cluster.writes() == []

    async def test_cooldown_and_attempts_come_from_the_journal(self, deciding, outside, text):
        deciding.load(text(gates={"cooldown": "30m", "attempts": {"max": 1, "per": "target", "within": "6h"}}))
        (first,) = await deciding.decide(outside.fire())
        await end(deciding.world, first.run)
        await deciding.restart()
        await deciding.world.clock.sleep(timedelta(seconds=1))
        (second,) = await deciding.decide(outside.fire("Symptom", pod="another episode"))
        no = {verdict.gate for verdict in second.gates if not verdict.allowed}
        assert no == {"cooldown", "attempts_exhausted"}


class TestTogether:
    async def test_two_alerts_for_one_node_are_one_run(self, deciding, outside, text):
        deciding.load(text("one", alert="A"), text("two", alert="B"))
        decisions = await deciding.decide(outside.fire("A"), outside.fire("B"))
        assert kinds(decisions) == [("run", ""), ("refused", "target_busy")]
        assert decisions[0].run in decisions[1].detail
        assert len(await deciding.world.journal.open_runs()) == 1

    async def test_two_disruptive_ones_on_two_nodes_are_one_at_a_time(self, deciding, outside, text):
        deciding.load(text(steps=[{"restart": {"action": "cilium.restart_agent"}}], gates={"cooldown": "1s"}))
        decisions = await deciding.decide(outside.fire(node="node-1"), outside.fire(node="node-2"))
        assert kinds(decisions) == [("run", ""), ("refused", "concurrency")]

    async def test_a_fault_of_ours_in_one_alert_does_not_lose_the_others(self, remedy, outside):
        good = remedy.world.mode_of

        def broken_once(playbook):
            remedy.world.mode_of = good
            raise ZeroDivisionError("a bug")

        remedy.world.mode_of = broken_once
        decisions = await remedy.decide(outside.fire(node="node-1"), outside.fire(node="node-2"), outside.fire("Unknown"))
        assert [kind for kind, _ in kinds(decisions)] == ["refused", "run", "unmatched"]
        assert decisions[0].reason == "unreadable"
        assert "ZeroDivisionError" in decisions[0].detail

    async def test_every_delivery_ends_in_one_decision_per_alert(self, deciding, outside, text):
        deciding.load(text())
        fires = [outside.fire(node=f"node-{n}") for n in range(1, 6)]
        alerts = [
            *fires,
            outside.resolve(outside.fire(node="node-1", pod="x")),
            outside.fire("Other"),
            outside.fire(node="node-77"),
            fires[0],
        ]
        delivery = await deciding.stored(*alerts)
        decisions = await deciding.decide_stored(delivery)
        assert Counter(d.alert.fingerprint for d in decisions) == Counter(alert["fingerprint"] for alert in alerts)
        assert [d.alert.fingerprint for d in decisions] == [alert["fingerprint"] for alert in alerts]
        stored = await deciding.world.journal.delivery(delivery.id)
        assert stored.decided_at is not None
        assert (await deciding.world.journal.verify()).ok

    async def test_an_empty_delivery_is_decided_too(self, deciding):
        delivery = await deciding.stored()
        assert await deciding.decide_stored(delivery) == []
        assert (await deciding.world.journal.delivery(delivery.id)).decided_at is not None


async def test_whoever_watches_hears_of_it_once_the_decisions_are_on_disk(line, text):
    line.load(text())
    await line.start()
    watching = line.world.feed.listen()
    delivery = await line.deliver(line.outside.fire("Nobody"))
    for _ in ("kept", "decided"):
        notice = await watching.get()
        assert (notice.kind, notice.ref) == ("delivery", delivery.id)
    assert (await line.journal.delivery(delivery.id)).decided_at is not None
    assert [one.decision for one in (await line.journal.decisions(delivery=delivery.id)).items] == ["unmatched"]
