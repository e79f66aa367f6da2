"""What a maintenance window held is decided again when it ends: by itself, once, with all gates, also after a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest

from remediator.clock import iso
from remediator.episodes import Episodes
from remediator.errors import JournalError
from remediator.gates import Limits
from remediator.model import Mode
from remediator.reasons import Reason
from remediator.windows import Window


@pytest.fixture
def maintenance(stage):
    """For the next two hours."""
    now = stage.world.clock.now()
    window = Window.model_validate({"since": now - timedelta(hours=1), "until": now + timedelta(hours=2)})
    stage.world.limits = Limits(maintenance=(window,))


@pytest.fixture
async def held(line, maintenance, symptom, text):
    """An alert that the window held, and the decision on it."""
    line.load(text())
    await line.start()
    alert = line.outside.fire()
    (decision,) = await line.decided(await line.deliver(alert))
    assert (decision.decision, decision.reason) == ("held", Reason.MAINTENANCE)
    return alert


async def second(line, alert):
    """The decision that follows the held one."""

    async def look():
        page = await line.journal.decisions(fingerprint=alert["fingerprint"])
        return page.items[0] if len(page.items) > 1 else None

    return await line.until(look, "a second decision")


async def test_when_the_window_ends_it_runs_without_being_delivered_again(line, held, symptom, later):
    symptom.cured = lambda _: True
    watching = line.world.feed.listen()
    later(hours=3)
    decision = await second(line, held)
    assert decision.decision == "run"
    while (await watching.get()).kind != "episode":
        pass  # whoever watches hears that alerts stand otherwise now
    run = await line.ended(decision.run)
    assert (run.state, run.trigger.reason, run.alert.fingerprint) == ("healed", "Symptom", held["fingerprint"])
    (episode,) = (await line.journal.episodes(open_only=False, fingerprint=held["fingerprint"])).items
    assert (episode.run, episode.deliveries) == (run.id, 1)


async def test_also_if_the_window_ends_while_no_daemon_is_there(line, held, symptom, later):
    symptom.cured = lambda _: True
    await line.stop()
    later(hours=3)
    await line.restart()
    assert (await second(line, held)).decision == "run"


async def test_it_stays_held_as_long_as_the_window_is_open(line, held):
    await line.world.clock.sleep(timedelta(minutes=1))
    page = await line.journal.decisions(fingerprint=held["fingerprint"])
    assert [decision.decision for decision in page.items] == ["held"]


async def test_one_that_resolved_meanwhile_is_left_alone(line, held, later):
    await line.decided(await line.deliver(line.outside.resolve(held)))
    later(hours=3)
    await line.world.clock.sleep(timedelta(minutes=1))
    page = await line.journal.decisions(fingerprint=held["fingerprint"])
    assert [decision.decision for decision in page.items] == ["resolved", "held"]


async def test_one_that_alertmanager_does_not_hold_any_more_is_refused(line, held, later):
    line.outside.resolve(held)
    later(hours=3)
    decision = await second(line, held)
    assert (decision.decision, decision.reason) == ("refused", Reason.NOT_FIRING)


async def test_whatever_else_refuses_during_maintenance_is_asked_again_too(deciding, maintenance, outside, text, later):
    deciding.load(text())
    deciding.world.mode_of = lambda _: Mode.OBSERVE
    (decision,) = await deciding.decide(alert := outside.fire())
    assert (decision.decision, decision.reason) == ("held", Reason.MAINTENANCE)
    later(hours=3)
    assert await deciding.decider.held() == 1
    assert (await deciding.episode(alert)).reason is Reason.OBSERVE_ONLY
    assert not deciding.decider.holds


async def test_what_was_kept_without_anybody_knowing_is_not_decided_twice(deciding, maintenance, outside, text, later, symptom):
    """The commit took place and its answer was lost: memory still holds what the disk decided."""
    deciding.load(text())
    await deciding.decide(alert := outside.fire())
    stale = await deciding.episode(alert)
    later(hours=3)
    assert await deciding.decider.held() == 1
    (run,) = deciding.decider.runs_to_begin()
    deciding.decider._episodes = Episodes([stale])
    assert await deciding.decider.held() == 1
    assert [again.id for again in deciding.decider.runs_to_begin()] == [run.id], "it is in doubt whether it began"
    assert not deciding.decider.holds
    assert len((await deciding.world.journal.runs()).items) == 1


async def test_a_delivery_that_the_journal_no_longer_has_is_given_up(deciding, maintenance, outside, text, later, monkeypatch):
    deciding.load(text())
    await deciding.decide(outside.fire())
    later(hours=3)

    async def gone(_):
        return None

    monkeypatch.setattr(deciding.world.journal, "delivery", gone)
    assert await deciding.decider.held() == 1
    assert not deciding.decider.holds


class TestWhatGatesCannotBeAskedAbout:
    """In the window its target cannot be read or is away, or its notification was cut: that is held too."""

    async def decided_afterwards(self, deciding, alert):
        assert deciding.decider.holds
        assert await deciding.decider.held() == 1
        assert not deciding.decider.holds
        return (await deciding.world.journal.decisions(fingerprint=alert["fingerprint"])).items[0]

    @pytest.mark.parametrize("held_before", [False, True])
    async def test_an_api_server_that_restarts(self, deciding, maintenance, outside, text, later, held_before):
        deciding.load(text())
        alert = outside.fire()
        if held_before:
            await deciding.decide(alert)
        fault = deciding.stage.cluster.fail(path="^/api", status=503, count=None)
        (decision,) = await deciding.decide(alert)
        assert (decision.decision, decision.reason, decision.playbook) == ("held", Reason.MAINTENANCE, "remedy")
        assert decision.detail.startswith("maintenance: since ")
        assert "; unreadable: " in decision.detail
        deciding.stage.cluster.faults.remove(fault)
        later(hours=3)
        assert (await self.decided_afterwards(deciding, alert)).decision == "run"

    async def test_a_node_that_is_installed_anew(self, deciding, maintenance, outside, text, later):
        deciding.load(text())
        (decision,) = await deciding.decide(alert := outside.fire(node="node-9"))
        assert (decision.decision, decision.reason) == ("held", Reason.MAINTENANCE)
        assert "; target_missing: " in decision.detail
        later(hours=3)
        after = await self.decided_afterwards(deciding, alert)
        assert (after.decision, after.reason) == ("refused", Reason.TARGET_MISSING)

    @pytest.mark.parametrize("held_before", [False, True])
    async def test_a_cut_notification_which_nothing_is_done_about_afterwards_either(
        self, deciding, maintenance, outside, text, later, held_before
    ):
        deciding.load(text())
        alert = outside.fire()
        if held_before:
            await deciding.decide(alert)
        (decision,) = await deciding.decide(alert, truncated=3)
        assert (decision.decision, decision.reason) == ("held", Reason.MAINTENANCE)
        assert "; truncated: Alertmanager cut off 3 alerts" in decision.detail
        later(hours=3)
        after = await self.decided_afterwards(deciding, alert)
        assert (after.decision, after.reason) == ("held", Reason.TRUNCATED)

    async def test_a_whole_notification_after_a_cut_one(self, deciding, maintenance, outside, text, later):
        deciding.load(text())
        await deciding.decide(alert := outside.fire(), truncated=3)
        await deciding.decide(alert)
        later(hours=3)
        assert (await self.decided_afterwards(deciding, alert)).decision == "run"

    async def test_match_says_so_too(self, house, text, stage):
        house.put("remedy.yaml", text())
        now = stage.world.clock.now()
        await house.start(mode="auto", maintenance=[{"since": iso(now - timedelta(hours=1)), "until": iso(now + timedelta(hours=2))}])
        labels = {"alertname": "Symptom", "node": "node-9"}
        _, found = await house.http("POST", "/api/v1/match", {"labels": labels}, token="read")
        assert (found["decision"], found["reason"]) == ("held", "maintenance")
        assert "target_missing" in found["detail"]


class TestMany:
    """The end of a window decides on what may be thousands, as a storm of webhooks would: in slices, and others have their turn between."""

    MANY = 150

    @pytest.fixture
    async def many(self, deciding, maintenance, outside, text):
        deciding.load(text())
        alerts = [outside.fire(node=f"node-{number % 5 + 1}", pod=str(number)) for number in range(self.MANY)]
        assert {decision.decision for decision in await deciding.decide(*alerts)} == {"held"}
        assert deciding.decider.holds
        return alerts

    @staticmethod
    def counted(monkeypatch, thing, name):
        asked, real = [], getattr(thing, name)

        async def count(*args, **named):
            asked.append(args)
            return await real(*args, **named)

        monkeypatch.setattr(thing, name, count)
        return asked

    async def test_a_slice_asks_once_and_reads_its_delivery_once(self, deciding, many, later, monkeypatch):
        deciding.world.limits = Limits(concurrent_runs=0)
        asked = self.counted(monkeypatch, deciding.world.alertmanager, "active")
        read = self.counted(monkeypatch, deciding.world.journal, "delivery")
        slices = []
        while count := await deciding.decider.held():
            slices.append(count)
        assert sum(slices) == self.MANY
        assert 1 < len(slices) < self.MANY / 4, slices
        assert (len(asked), len(read)) == (len(slices), len(slices))
        assert not deciding.decider.holds
        page = await deciding.world.journal.episodes(open_only=False, limit=2 * self.MANY)
        assert {(one.decision, one.deliveries) for one in page.items} == {("refused", 1)}

    async def test_a_run_begins_before_the_others_are_decided(self, deciding, many, later):
        later(hours=3)
        assert await deciding.decider.held() == 1
        assert len(deciding.decider.runs_to_begin()) == 1
        assert deciding.decider.holds == self.MANY - 1

    async def test_whoever_waits_is_decided_on_between_two_slices(self, deciding, many, outside, later):
        later(hours=3)
        first = asyncio.create_task(deciding.decider.held())
        await asyncio.sleep(0)
        other = asyncio.create_task(deciding.decide(outside.fire("Other")))
        while not other.done():
            await first
            first = asyncio.create_task(deciding.decider.held())
            deciding.decider.runs_to_begin()
        await first
        assert [decision.decision for decision in await other] == ["unmatched"]
        assert deciding.decider.holds

    async def test_one_that_cannot_be_kept_keeps_no_other_waiting(self, deciding, many, later, monkeypatch):
        """And the pipeline does not try it over and over: it comes last, and once at each look."""
        deciding.world.limits = Limits(concurrent_runs=0)
        decide, sick = deciding.world.journal.decide, many[0]["fingerprint"]

        async def refuses(delivery, decisions, **named):
            if any(decision.alert is not None and decision.alert.fingerprint == sick for decision in decisions):
                raise JournalError("such a record cannot be kept")
            await decide(delivery, decisions, **named)

        monkeypatch.setattr(deciding.world.journal, "decide", refuses)
        decided = 0
        while decided < self.MANY:
            decided += await deciding.decider.held()
        assert deciding.decider.holds == 1

    async def test_one_on_which_nothing_can_be_read_keeps_no_other_waiting(self, deciding, many, later, monkeypatch):
        deciding.world.limits = Limits(concurrent_runs=0)
        decisions, sick = deciding.world.journal.decisions, many[0]["fingerprint"]

        async def broken(**filters):
            if filters["fingerprint"] == sick:
                raise JournalError("such a record cannot be read")
            return await decisions(**filters)

        monkeypatch.setattr(deciding.world.journal, "decisions", broken)
        for _ in range(self.MANY):
            if deciding.decider.holds == 1:
                break
            with suppress(JournalError):
                await deciding.decider.held()
        assert deciding.decider.holds == 1

    async def test_by_the_whole_pipeline(self, line, maintenance, text, later, symptom):
        """Of twenty on two nodes one is acted on; an alert that comes meanwhile is decided on."""
        symptom.cured = lambda _: True
        line.load(text(gates={"cooldown": "1h"}))
        await line.start()
        alerts = [line.outside.fire(node=f"node-{number % 2 + 1}", pod=str(number)) for number in range(20)]
        assert {one.decision for one in await line.decided(await line.deliver(*alerts))} == {"held"}
        later(hours=3)
        (other,) = await line.decided(await line.deliver(line.outside.fire("Other")))
        assert other.decision == "unmatched"

        async def all_decided():
            return not line.pipeline.decider.holds

        await line.until(all_decided, "all are decided")
        page = await line.journal.episodes(open_only=False, limit=100)
        kinds = Counter(str(one.decision) for one in page.items if one.name == "Symptom")
        assert kinds["run"] >= 1
        assert kinds["run"] + kinds["refused"] == 20
