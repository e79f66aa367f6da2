"""The journal fails at the worst moment: nothing is lost, nothing is decided twice, and the others do not wait."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator import pipeline
from remediator.engine import EngineError
from remediator.errors import JournalError, JournalUnavailable
from remediator.model import RunState


class Flaky:
    """A journal whose next calls of one method fail, before or after they took effect."""

    def __init__(self, journal):
        self._journal = journal
        self._plans = {}
        self.failed = []

    def fail(self, method, *, error=JournalUnavailable, landed=False, times=1, skip=0, only=None):
        self._plans[method] = {"error": error, "landed": landed, "times": times, "skip": skip, "only": only or (lambda *_, **__: True)}

    def __getattr__(self, name):
        real = getattr(self._journal, name)
        if name not in self._plans:
            return real

        async def call(*args, **kwargs):
            plan = self._plans[name]
            if not plan["times"] or not plan["only"](*args, **kwargs):
                return await real(*args, **kwargs)
            if plan["skip"]:
                plan["skip"] -= 1
                return await real(*args, **kwargs)
            plan["times"] -= 1
            if plan["landed"]:
                await real(*args, **kwargs)
            self.failed.append(name)
            raise plan["error"]("as the test wants it")

        return call


@pytest.fixture
def flaky(line):
    """The pipeline's journal; the line itself goes on to look at the real one."""
    line.world.journal = Flaky(line.world.journal)
    return line.world.journal


async def healed(line, run):
    done = await line.ended(run)
    assert done.state is RunState.HEALED, done.detail
    return done


@pytest.mark.parametrize("landed", [False, True])
async def test_a_decision_that_could_not_be_confirmed_is_one_run(line, flaky, symptom, text, landed):
    symptom.set("node-3", False)
    line.load(text())
    await line.start()
    flaky.fail("decide", landed=landed)
    alert = line.outside.fire()
    (decision,) = await line.decided(await line.deliver(alert))
    assert flaky.failed == ["decide"]
    assert decision.decision == "run"
    await healed(line, decision.run)
    (again,) = await line.decided(await line.deliver(alert))
    assert (again.decision, again.run) == ("duplicate", decision.run)
    assert len((await line.journal.runs()).items) == 1


@pytest.mark.parametrize("landed", [False, True])
async def test_what_was_decided_of_a_delivery_before_it_failed_stands_and_is_done(line, flaky, symptom, text, landed):
    """The first alert's run is on disk, then the journal fails for the second."""
    for node in ("node-1", "node-2"):
        symptom.set(node, False)
    line.load(text())
    await line.start()
    flaky.fail("decide", landed=landed, skip=1)
    delivery = await line.deliver(line.outside.fire(node="node-1"), line.outside.fire(node="node-2"), line.outside.fire("Other"))
    decisions = await line.decided(delivery)
    assert sorted(d.decision for d in decisions) == ["run", "run", "unmatched"]
    for decision in decisions:
        if decision.run:
            await healed(line, decision.run)


async def test_an_alert_that_is_in_a_delivery_twice_has_two_decisions_after_a_failure_too(line, flaky, symptom, text):
    symptom.set("node-3", False)
    line.load(text())
    await line.start()
    flaky.fail("decide", skip=1)
    alert = line.outside.fire()
    decisions = await line.decided(await line.deliver(alert, alert))
    assert sorted(d.decision for d in decisions) == ["duplicate", "run"]


@pytest.mark.parametrize("method", ["decide", "keep_revision"])
async def test_one_record_that_the_journal_refuses_does_not_stop_the_others(line, flaky, symptom, text, method):
    symptom.set("node-1", False)
    line.load(text())
    await line.start()
    flaky.fail(method, error=JournalError)
    poison = await line.deliver(line.outside.fire(node="node-2"), line.outside.fire("Other"))
    run = await line.run_of(line.outside.fire(node="node-1"))
    await healed(line, run)
    stored = await line.journal.delivery(poison.id)
    if method == "decide":
        assert stored.decided_at is None
        await line.restart()
        decisions = await line.decided(poison)
        assert sorted(d.decision for d in decisions) == ["run", "unmatched"]
    else:
        decisions = await line.decided(poison)
        assert sorted((d.decision, d.reason) for d in decisions) == [("refused", "unreadable"), ("unmatched", "unmatched")]


async def test_what_cannot_be_decided_does_not_keep_the_rest_on_disk(line, flaky, text):
    """The poisoned delivery stays undecided on disk; reading on from there must not find it again and again."""
    line.load(text())
    await line.start()
    poison = await line.deliver(line.outside.fire(node="node-2"))
    await line.decided(poison)
    flaky.fail("decide", error=JournalError, times=10_000, only=lambda delivery, *_, **__: delivery in bad)
    bad = set()
    inbox = line.pipeline._inbox
    inbox._on_disk = True  # as when more wait than memory holds
    bad.add((await line.deliver(line.outside.fire("Other", pod="poison"))).id)
    good = await line.deliver(line.outside.fire("Other", pod="good"))
    await line.decided(good)

    async def quiet():
        return not inbox._on_disk and line.pipeline.undecided == 0  # which is counted a moment after the decision is on disk

    await line.until(quiet, "the inbox is done with the disk")
    assert len(flaky.failed) <= 2
    later = await line.deliver(line.outside.fire("Other", pod="later"))
    await line.decided(later)


@pytest.mark.parametrize("method", ["undecided_names", "undecided_of", "delivery", "decisions", "episodes"])
async def test_reads_that_fail_are_made_again(line, flaky, text, method):
    line.load(text())
    await line.start()
    inbox = line.pipeline._inbox
    flaky.fail(method, times=2)
    inbox._on_disk = True
    inbox._after_restart = True  # so that each delivery is looked at carefully
    delivery = await line.deliver(line.outside.fire("Other"))
    await line.decided(delivery)
    delivery = await line.deliver(line.outside.fire("Other"))
    await line.decided(delivery)


@pytest.mark.parametrize("error", [EngineError, ZeroDivisionError])
async def test_a_run_that_cannot_be_begun_now_is_begun_later(line, symptom, text, monkeypatch, error):
    symptom.set("node-3", False)
    line.load(text())
    await line.start()
    start, calls = line.world.engine.start, []

    async def fails_twice(run):
        calls.append(run)
        if len(calls) <= 2:
            raise error("as the test wants it")
        await start(run)

    monkeypatch.setattr(line.world.engine, "start", fails_twice)
    run = await line.run_of(line.outside.fire())
    other = await line.deliver(line.outside.fire("Other"))
    await line.decided(other)
    await healed(line, run)


@pytest.mark.parametrize("method", ["run", "revision", "save_run", "save_step", "save_change"])
async def test_a_run_waits_for_the_journal_and_goes_on(line, flaky, stage, symptom, text, method):
    symptom.cured = lambda node: bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))
    line.load(text(steps=[{"cordon": {"action": "node.cordon"}}]))
    await line.start()
    flaky.fail(method, times=2)
    run = await line.run_of(line.outside.fire())
    await healed(line, run)
    assert flaky.failed == [method] * 2
    assert len([w for w in stage.cluster.writes() if w.verb == "patch"]) == 1


async def test_a_delivery_on_which_we_fail_again_and_again_does_not_stop_the_others(line, text):
    line.load(text())
    await line.start()
    decide = line.pipeline.decider.portions
    poison = await line.deliver(line.outside.fire("Other", pod="before"))
    await line.decided(poison)

    async def a_bug(waiting):
        if waiting[0].delivery.id == poison.id:
            raise ZeroDivisionError("a bug")
        return await decide(waiting)

    line.pipeline.decider.portions = a_bug
    poison = await line.deliver(line.outside.fire("Other", pod="poison"))
    behind = [await line.deliver(line.outside.fire("Other", pod=str(number))) for number in range(3)]
    for delivery in behind:
        assert len(await line.decided(delivery)) == 1
    assert (await line.journal.delivery(poison.id)).decided_at is None
    await line.restart()
    assert len(await line.decided(poison)) == 1


async def test_an_old_open_episode_is_known_after_a_restart(line, symptom, text, monkeypatch):
    """However many began since: a repeat of it must not lead to a second run."""
    monkeypatch.setattr(pipeline, "_EPISODES_AT_START", 2)
    symptom.set("node-3", False)
    line.load(text())
    await line.start()
    old = line.outside.fire(since=line.world.clock.now() - timedelta(days=3))
    run = await line.run_of(old)
    await healed(line, run)
    for number in range(5):
        await line.decided(await line.deliver(line.outside.fire("Other", pod=str(number))))
    await line.restart()
    (again,) = await line.decided(await line.deliver(old))
    assert (again.decision, again.run) == ("duplicate", run)
