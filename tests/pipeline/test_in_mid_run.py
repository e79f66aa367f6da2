"""What happens while a run is under way: gates are asked again before anything disruptive, people cancel and pause, alerts resolve."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from remediator.drain import evictor
from remediator.kube import kinds
from remediator.model import Mode, Pause

CORDON = {"cordon": {"action": "node.cordon"}}
WAIT = {"settle": {"action": "wait", "for": "50m", "timeout": "55m"}}
RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}
FAILS = {"look": {"action": "prometheus.query", "query": "symptom == 7", "expect": "some"}}


@pytest.fixture
def cordoned(stage):
    return lambda node="node-3": bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))


@pytest.fixture
def waits(line, stage, symptom, text, gate):
    """A run before it would restart the agent of node-3; ``line.gate.set()`` lets it go on."""

    async def begin(*before, wait=gate, **more):
        stage.cluster.kill_agent("node-3")
        symptom.cured = stage.cluster.agent_works
        line.load(text(steps=[*before, wait, RESTART], gates={"cooldown": "1s"}, **more))
        await line.start()
        line.alert = line.outside.fire()
        run = await line.run_of(line.alert)
        await line.step_begins(run, next(iter(wait)))
        return run

    return begin


async def goes_on(line, run):
    line.gate.set()
    return await line.ended(run)


def deletes(stage):
    return [w for w in stage.cluster.writes() if w.verb == "delete" and w.resource == "pods"]


def refusing(run):
    return {verdict.gate: verdict.reason for verdict in run.gates if not verdict.allowed}


async def annotate(line, **annotations):
    await line.world.kube.patch(kinds.NODE, "node-3", {"metadata": {"annotations": annotations}}, type="merge")


class TestGatesAgain:
    async def test_all_allow_and_the_agent_is_restarted(self, line, stage, waits):
        run = await goes_on(line, await waits())
        assert (run.state, run.reason) == ("healed", "healed"), run.detail
        assert len(deletes(stage)) == 1
        assert refusing(run) == {}
        assert all(verdict.at > run.started_at for verdict in run.gates), "they were judged anew, on facts of that moment"

    async def test_a_node_marked_as_protected_meanwhile(self, line, stage, waits):
        run = await waits()
        await annotate(line, **{"remediator.dev/protected": "true"})
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "protected")
        assert refusing(done) == {"protected": "protected"}
        assert [str(step.state) for step in done.steps] == ["succeeded", "skipped"]
        assert deletes(stage) == []

    async def test_a_node_marked_as_paused_meanwhile(self, line, stage, waits):
        run = await waits()
        await annotate(line, **{"remediator.dev/pause": "somebody works here"})
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "paused")
        assert "somebody works here" in done.detail
        assert deletes(stage) == []

    async def test_an_alert_that_resolved_meanwhile(self, line, stage, waits):
        run = await waits()
        line.outside.resolve(line.alert)
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "resolved_meanwhile")
        assert refusing(done) == {"not_firing": "not_firing"}
        assert deletes(stage) == []

    async def test_an_alertmanager_that_cannot_be_asked_any_more(self, line, stage, waits):
        run = await waits()
        stage.cluster.fail(path="^/alertmanager", status=500, count=None)
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "unreadable")
        assert deletes(stage) == []

    async def test_a_mode_that_was_lowered_meanwhile(self, line, stage, waits):
        run = await waits()
        line.world.mode_of = lambda _: Mode.OBSERVE
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "observe_only")
        assert deletes(stage) == []

    async def test_another_node_of_the_same_name(self, line, stage, waits):
        run = await waits()
        node = stage.cluster.get("Node", "node-3")
        await line.world.kube.delete(kinds.NODE, "node-3")
        node["metadata"] = {"name": "node-3", "labels": node["metadata"]["labels"]}
        stage.cluster.create({**node, "apiVersion": "v1", "kind": "Node"})
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "target_changed"), done.detail
        assert deletes(stage) == []

    async def test_a_refusal_of_a_later_rung_is_not_healed_with_its_gates(self, line, stage, symptom, text, gate):
        stage.cluster.kill_agent("node-3")
        verify = {"query": 'symptom{node="${target.name}"} == 0', "within": "6s", "hold": "2s", "every": "2s"}
        line.load(text(ladder=[[gate], [RESTART]], verify=verify, gates={"cooldown": "1s"}))
        await line.start()
        run = await line.run_of(line.outside.fire())
        await line.step_begins(run, "gate")
        await annotate(line, **{"remediator.dev/protected": "true"})
        done = await goes_on(line, run)
        assert (done.state, done.reason, done.rung) == ("not_healed", "protected", 1)
        assert refusing(done) == {"protected": "protected"}
        assert deletes(stage) == []

    async def test_a_refusal_puts_back_what_was_done_before_it(self, line, stage, waits, cordoned):
        run = await waits(CORDON, on_failure="undo")
        assert cordoned()
        await annotate(line, **{"remediator.dev/protected": "true"})
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "protected")
        assert not cordoned()


class TestPausesOfPeople:
    async def pause(self, line, **what):
        now = line.world.clock.now()
        await line.journal.add_pause(Pause(id="p", reason="stop it", by="anna", at=now, **what))

    @pytest.mark.parametrize("what", [{}, {"playbook": "remedy"}, {"target": "Node/node-3"}], ids=["all", "playbook", "target"])
    async def test_stops_the_run_where_it_waits(self, line, stage, waits, what):
        run = await waits(wait=WAIT)
        await self.pause(line, **what)
        done = await line.ended(run)
        assert (done.state, done.reason) == ("failed", "paused")
        assert "paused by anna: stop it" in done.detail
        assert deletes(stage) == []

    async def test_of_something_else_does_not(self, line, waits):
        run = await waits()
        await self.pause(line, target="Node/node-4")
        assert (await goes_on(line, run)).state == "healed"

    async def test_between_the_decision_and_the_first_step(self, line, stage, symptom, text):
        line.load(text(steps=[RESTART], gates={"cooldown": "1s"}))
        await line.start()
        begin, begun = line.pipeline.begin, asyncio.Event()
        line.pipeline.begin = lambda runs: begun.wait() if runs and not begun.is_set() else begin(runs)
        delivery = await line.deliver(line.outside.fire())
        (decision,) = await line.decided(delivery)
        await self.pause(line)
        begun.set()
        line.pipeline.begin = begin
        await line.pipeline.begin([await line.journal.run(decision.run)])
        done = await line.ended(decision.run)
        assert (done.state, done.reason) == ("cancelled", "paused")
        assert deletes(stage) == []


class TestCancel:
    async def test_in_a_step_that_waits(self, line, stage, waits):
        run = await waits(wait=WAIT)
        before = line.world.clock.now()
        await cancelled(line, run)
        done = await line.ended(run)
        assert (done.state, done.reason, done.detail) == ("cancelled", "cancelled_by", "anna: no")
        assert done.ended_at - before < timedelta(minutes=20)
        assert [str(step.state) for step in done.steps] == ["skipped", "pending"]
        assert deletes(stage) == []

    async def test_puts_back_what_was_done_where_the_playbook_says_so(self, line, waits, cordoned):
        run = await waits(CORDON, wait=WAIT, on_failure="undo")
        await cancelled(line, run)
        done = await line.ended(run)
        assert (done.state, done.reason) == ("cancelled", "cancelled_by")
        assert "anna: no" in done.detail
        assert not cordoned()

    async def test_during_the_verification(self, line, symptom, text):
        line.load(text(verify={"query": "symptom == 0", "within": "30m", "hold": "10m", "every": "5m"}))
        await line.start()
        run = await line.run_of(line.outside.fire())
        await line.when(run, lambda r: r.verification is not None and r.verification.checks == 1)
        await cancelled(line, run)
        done = await line.ended(run)
        assert (done.state, done.reason, done.detail) == ("cancelled", "cancelled_by", "anna: no")

    async def test_is_heeded_before_a_step_that_waits_for_nothing(self, line, symptom, text, gate):
        """Evidence alone would go on to the end: it neither waits nor changes anything."""
        look = {"action": "prometheus.query", "query": "up"}
        line.load(text(steps=[gate, {"second": look}, {"third": look}], verify=None))
        await line.start()
        run = await line.run_of(line.outside.fire())
        await line.step_begins(run, "gate")
        await cancelled(line, run)
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "cancelled_by")
        assert [str(step.state) for step in done.steps] == ["succeeded", "skipped", "pending"]

    async def test_survives_a_restart(self, line, waits):
        run = await waits(wait=WAIT)
        await line.stop()
        stored = await line.journal.run(run)
        from remediator.model import evolve

        await line.journal.save_run(evolve(stored, cancel="anna: no"))
        await line.restart()
        done = await line.ended(run)
        assert (done.state, done.reason, done.detail) == ("cancelled", "cancelled_by", "anna: no")

    async def test_the_target_is_free_again_afterwards(self, line, waits):
        run = await waits(wait=WAIT)
        await cancelled(line, run)
        await line.ended(run)
        await line.world.clock.sleep(timedelta(seconds=2))
        assert await line.run_of(line.outside.fire(pod="another episode"))


async def cancelled(line, run):
    """As ``Operations.cancel`` does; that is tested with the other operations."""
    from remediator.model import evolve

    stored = await line.journal.run(run)
    await line.journal.save_run(evolve(stored, cancel="anna: no"))
    line.world.signals.cancel(run)


class TestResolvedInMidRun:
    """What disturbs nothing is finished; what would disturb is not begun any more. Then ``on_resolved``."""

    @pytest.mark.parametrize(
        ("on_resolved", "on_failure", "stays"), [("undo", "keep", False), ("keep", "keep", True), ("keep", "undo", False)]
    )
    async def test_half_done_work_goes_or_stays_as_the_playbook_says(self, line, stage, waits, cordoned, on_resolved, on_failure, stays):
        run = await waits(CORDON, on_resolved=on_resolved, on_failure=on_failure)
        assert cordoned()
        line.outside.resolve(line.alert)  # no notification of it has come in yet: Alertmanager is asked
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("cancelled", "resolved_meanwhile"), done.detail
        assert [str(step.state) for step in done.steps] == ["succeeded" if stays else "undone", "succeeded", "skipped"]
        assert cordoned() is stays
        assert deletes(stage) == []
        assert (done.undoing_at is None) is stays

    async def test_steps_that_disturb_nothing_are_finished_and_the_proof_decides(self, line, symptom, text, gate, cordoned):
        symptom.cured = cordoned
        line.load(text(steps=[gate, CORDON]))
        await line.start()
        alert = line.outside.fire()
        run = await line.run_of(alert)
        await line.step_begins(run, "gate")
        line.outside.resolve(alert)
        done = await goes_on(line, run)
        assert (done.state, done.reason) == ("healed", "healed"), done.detail

    async def test_a_later_rung_is_not_begun_either(self, line, stage, symptom, text, gate):
        stage.cluster.kill_agent("node-3")
        verify = {"query": 'symptom{node="${target.name}"} == 0', "within": "6s", "hold": "2s", "every": "2s"}
        line.load(text(ladder=[[gate], [RESTART]], verify=verify, gates={"cooldown": "1s"}))
        await line.start()
        alert = line.outside.fire()
        run = await line.run_of(alert)
        await line.step_begins(run, "gate")
        line.outside.resolve(alert)
        done = await goes_on(line, run)
        assert (done.state, done.reason, done.rung) == ("cancelled", "resolved_meanwhile", 1), done.detail
        assert deletes(stage) == []

    async def test_a_restart_that_was_sent_is_waited_for(self, line, stage, waits):
        """The old pod is gone; to stop now would leave nobody who proves that the new one works."""
        run = await waits()
        line.gate.set()
        await line.when(run, lambda r: any(s.changes for s in r.steps), "the delete")
        line.outside.resolve(line.alert)
        done = await line.ended(run)
        assert (done.state, done.reason) == ("healed", "healed"), done.detail
        assert len(deletes(stage)) == 1


class TestResolvedInMidDrain:
    """A drain that waits for a budget hears of the resolution at once, and not only when it asks the gates again by itself."""

    @pytest.fixture
    async def held(self, line, stage, text, monkeypatch):
        """A drain of a node whose pod no budget lets go, and the alert that led to it."""
        monkeypatch.setattr(evictor, "_JUDGE", timedelta(days=1))
        stage.cluster.hold_budget("whoami", "apps")
        node = next(pod["spec"]["nodeName"] for pod in stage.cluster.objects("Pod", "apps") if pod["spec"].get("nodeName"))
        drain = {"drain": {"action": "node.drain", "timeout": "5h"}}
        line.load(text(steps=[drain], on_resolved="undo", gates={"cooldown": "1s"}, deadline="6h"))
        await line.start()
        alert = line.outside.fire(node=node)
        run = await line.run_of(alert)
        await line.when(run, lambda r: "blocked_by_pdb" in r.steps[0].detail, "the budget")
        return alert, run, node

    async def test_it_stops_and_its_cordon_goes_back(self, line, held, cordoned):
        alert, run, node = held
        assert cordoned(node)
        await line.decided(await line.deliver(line.outside.resolve(alert)))
        done = await line.ended(run)
        assert (done.state, done.reason) == ("cancelled", "resolved_meanwhile"), done.detail
        assert not cordoned(node)
        assert (await line.journal.changes(left_behind=True)).items == ()

    async def test_a_resolution_that_alertmanager_does_not_confirm_stops_nothing(self, line, held, cordoned):
        """One peer posted it; the one that is asked still holds the alert as firing, so the drain goes on."""
        alert, run, node = held
        over = line.outside.resolve(alert)
        line.outside.fire(node=node, since=datetime.fromisoformat(alert["startsAt"]))
        await line.decided(await line.deliver(over))
        await line.until(lambda: asked_again(line, run), "the gates to be asked again")
        stored = await line.journal.run(run)
        assert stored.state == "running"
        assert cordoned(node)
        await cancelled(line, run)
        await line.ended(run)


async def asked_again(line, run):
    stored = await line.journal.run(run)
    return all(verdict.at > stored.steps[0].changes[0].at for verdict in stored.gates)


class TestResolved:
    """``on_resolved: undo``: the cordon goes when the alert does."""

    @pytest.mark.parametrize("on_resolved", ["undo", "keep"])
    async def test_after_the_end(self, line, symptom, text, cordoned, on_resolved):
        symptom.cured = cordoned
        line.load(text(steps=[CORDON], on_resolved=on_resolved))
        await line.start()
        alert = line.outside.fire()
        done = await line.ended(await line.run_of(alert))
        assert (done.state, cordoned()) == ("healed", True)
        await line.decided(await line.deliver(line.outside.resolve(alert)))
        if on_resolved == "keep":
            await line.stop()
            assert cordoned()
            return
        after = await line.when(done.id, lambda r: r.steps[0].state == "undone", "the undo")
        assert not cordoned()
        assert (after.state, after.ended_at) == ("healed", done.ended_at)
        assert (await line.journal.changes(left_behind=True)).items == ()

    async def test_before_the_end(self, line, symptom, text, gate, cordoned):
        symptom.cured = cordoned
        line.load(text(steps=[CORDON, gate], on_resolved="undo"))
        await line.start()
        alert = line.outside.fire()
        run = await line.run_of(alert)
        await line.step_begins(run, "gate")
        await line.decided(await line.deliver(line.outside.resolve(alert)))
        assert cordoned()
        line.gate.set()
        done = await line.when(run, lambda r: not r.state.open and r.steps[0].state == "undone")
        assert done.state == "healed"
        assert not cordoned()

    async def test_before_the_end_of_a_run_that_did_not_heal(self, line, symptom, text, gate, cordoned):
        line.load(text(steps=[CORDON, gate, FAILS], on_resolved="undo", on_failure="keep"))
        await line.start()
        alert = line.outside.fire()
        run = await line.run_of(alert)
        await line.step_begins(run, "gate")
        await line.decided(await line.deliver(line.outside.resolve(alert)))
        line.gate.set()
        done = await line.when(run, lambda r: not r.state.open and r.steps[0].state == "undone")
        assert done.state == "failed"
        assert not cordoned()

    async def test_an_undo_that_could_not_is_tried_again_on_the_next_occasion(self, line, stage, symptom, text, cordoned):
        symptom.cured = cordoned
        line.load(text(steps=[CORDON], on_resolved="undo"))
        await line.start()
        alert = line.outside.fire()
        run = (await line.ended(await line.run_of(alert))).id
        fault = stage.cluster.fail(verb="patch", path="/nodes/node-3", status=403, count=None)
        over = line.outside.resolve(alert)
        await line.decided(await line.deliver(over))

        async def tried():
            entries = await line.journal.entries(ref=run, kind="undo")
            return [e.data["outcome"] for e in entries if "outcome" in e.data]

        (words,) = await line.until(tried, "the first try to undo")
        assert "could not be undone" in words
        assert cordoned()
        stage.cluster.faults.remove(fault)
        await line.decided(await line.deliver(over))
        await line.when(run, lambda r: r.steps[0].state == "undone", "the second try")
        assert not cordoned()

    async def test_of_another_episode_changes_nothing(self, line, symptom, text, cordoned):
        symptom.cured = cordoned
        line.load(text(steps=[CORDON], on_resolved="undo"))
        await line.start()
        await line.ended(await line.run_of(line.outside.fire()))
        other = line.outside.fire(pod="another")
        await line.decided(await line.deliver(line.outside.resolve(other)))
        await line.stop()
        assert cordoned()

    async def test_that_a_restart_swallowed_is_caught_up_with(self, line, symptom, text, cordoned):
        """Killed between the decision that the episode is over and the undo that follows from it."""
        symptom.cured = cordoned
        line.load(text(steps=[CORDON], on_resolved="undo"))
        await line.start()
        alert = line.outside.fire()
        run = (await line.ended(await line.run_of(alert))).id

        async def killed(_run):
            await asyncio.Event().wait()

        line.pipeline.undo = killed
        await line.decided(await line.deliver(line.outside.resolve(alert)))
        await line.stop()
        assert cordoned()
        await line.restart()
        await line.when(run, lambda r: r.steps[0].state == "undone")
        assert not cordoned()


async def test_the_lease_on_the_node_is_held_by_the_run_and_given_back_at_its_end(line, stage, waits):
    await line.world.kube.create(kinds.NAMESPACE, {"metadata": {"name": "medik8s-leases"}})
    run = await waits()
    assert stage.cluster.objects("Lease", "medik8s-leases") == [], "what disturbs nothing takes none"
    ended = await goes_on(line, run)
    assert ended.state == "healed"

    async def given_back():
        (lease,) = stage.cluster.objects("Lease", "medik8s-leases")
        return "holderIdentity" not in lease["spec"]

    await line.until(given_back, "the lease is given back")
    assert not line.world.leases.holds(run)
