"""Runs that people have to allow, through HTTP and the whole daemon: asked, answered, expired, overtaken; at first and in mid-run."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from remediator import carry
from remediator.kube import kinds
from remediator.model import PREVIEW, Mode

CORDON = {"cordon": {"action": "node.cordon"}}
RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}
LOOK = {"look": {"action": "kube.get", "kind": "Node", "name": "${target.name}"}}
ASK = {"ask": {"action": "approve", "message": "It did not help. Cordon it?"}}
SETTLE = {"settle": {"action": "wait", "for": "${parameters.pause}"}}
PARAMETERS = {"pause": {"type": "duration", "default": "1s"}}
SHORT = {"query": 'symptom{node="${target.name}"} == 0', "within": "6s", "hold": "2s", "every": "2s"}


def body_of(*alerts):
    return json.dumps({"version": "4", "status": "firing", "receiver": "r", "groupKey": "g", "alerts": list(alerts)}).encode()


def cordoned(house, node="node-3"):
    return bool(house.stage.cluster.get("Node", node)["spec"].get("unschedulable"))


@pytest.fixture
def asking(house, symptom, text):
    """A house whose playbook ``remedy`` cordons, once people say yes; ``await asking()`` gives the run that waits."""
    symptom.cured = lambda node: cordoned(house, node)

    async def begin(*, steps=(SETTLE, CORDON), settings=None, mode="suggest", **more):
        parameters = PARAMETERS if SETTLE in steps else {}
        house.put("remedy.yaml", text(steps=list(steps), mode=mode, parameters=parameters, **more))
        await house.start(mode="auto", **(settings or {}))
        return await fires(house)

    return begin


async def fires(house, **labels):
    house.alert = house.outside.fire(**labels)
    return await waits(house, await run_of(house, house.alert))


async def decision_of(house, *alerts):
    delivery = await house.operations.receive(body_of(*alerts), sender="10.0.0.7")

    async def decided():
        stored = await house.journal.delivery(delivery.id)
        return stored is not None and stored.decided_at is not None

    await house.until(decided, "the decision")
    (decision,) = (await house.journal.decisions(delivery=delivery.id)).items
    return decision


async def run_of(house, alert):
    decision = await decision_of(house, alert)
    assert decision.decision == "run", decision
    return decision.run


async def state_of(house, run, state):
    async def there():
        stored = await house.journal.run(run)
        return stored if stored.state == state else None

    return await house.until(there, f"run {run} is {state}")


async def waits(house, run):
    """The run once it waits and its plan is written down."""

    async def there():
        stored = await house.journal.run(run)
        return stored if stored.state == "awaiting_approval" and any(s.evidence for s in stored.steps) else None

    return await house.until(there, "the run waits")


async def say(house, run, verb, status=200, **who):
    got, answer = await house.http("POST", f"/api/v1/runs/{run}/{verb}", {"by": "anna", **who})
    assert got == status, answer
    return answer


def refusing(run):
    return {verdict.gate: verdict.reason for verdict in run.gates if not verdict.allowed}


class TestAsking:
    async def test_the_run_waits_with_its_plan_and_every_verdict(self, asking, house):
        run = await asking()
        assert (run.state, run.rung) == ("awaiting_approval", 0)
        (asked,) = run.approvals
        assert (asked.question, asked.state, asked.people, asked.step) == ("May remedy act on Node/node-3?", "waiting", 1, None)
        assert asked.expires_at - asked.asked_at == timedelta(hours=4)
        assert len(run.gates) >= 8
        assert refusing(run) == {}
        settle, cordon = run.steps
        assert settle.parameters == {"for": "1s"}
        assert [(seen.name, seen.data) for seen in cordon.evidence] == [(PREVIEW, ["first call: patch Node/node-3"])]
        assert house.stage.writes() == []
        assert not cordoned(house)

    @pytest.mark.parametrize(
        ("lasting", "told"),
        [
            ("20m", "then two probe intervals later"),
            ("2m", "Prometheus is not asked whether peers reach node-3 again: with the new agent's start it takes"),
        ],
    )
    async def test_a_restart_whose_proof_takes_minutes_is_told_at_once_and_whether_the_step_has_them(self, asking, lasting, told):
        restart = {"action": "cilium.restart_agent", "ready_for": "2s", "timeout": lasting}
        run = await asking(steps=[{"restart": restart}], gates={"cooldown": "1s"})
        ((name, lines),) = [(seen.name, seen.data) for seen in run.steps[0].evidence]
        assert name == PREVIEW
        assert any(line.startswith(told) for line in lines), lines

    async def test_where_nothing_is_changed_nobody_is_asked(self, house, text):
        """Evidence is kept and people are told without anybody's yes."""
        house.put("remedy.yaml", text(steps=[LOOK], verify=None, mode="suggest"))
        await house.start(mode="auto")
        done = await house.ended(await run_of(house, house.outside.fire()))
        assert (done.state, done.approvals) == ("done", ())
        assert next(v.detail for v in done.gates if v.gate == "observe_only") == "mode suggest: nothing is changed, so nobody is asked"

    @pytest.mark.parametrize("more", [{"approval": {"people": 1}}, {"steps": [LOOK, CORDON]}])
    async def test_they_are_where_a_playbook_says_how_or_a_later_step_changes_something(self, house, symptom, text, more):
        house.put("remedy.yaml", text(**{"steps": [LOOK], "mode": "suggest", **more}))
        await house.start(mode="auto")
        run = await house.journal.run(await run_of(house, house.outside.fire()))
        assert (run.state, len(run.approvals)) == ("awaiting_approval", 1)

    async def test_an_action_says_its_own_plan_and_sends_not_even_a_dry_call(self, asking, house):
        run = await asking(steps=[RESTART], gates={"cooldown": "1s"})
        (seen,) = run.steps[0].evidence
        assert any("cilium" in line for line in seen.data), seen.data
        assert run.steps[0].state == "pending"
        assert run.steps[0].changes == ()
        tried = ("leases.coordination.k8s.io", "events.events.k8s.io")  # by a gate, as a dry run; that the run began
        asked = [
            r
            for r in house.stage.cluster.request_log
            if r.verb not in ("get", "list", "watch") and r.resource not in tried and not r.path.endswith("reviews")
        ]
        assert asked == []

    async def test_the_queue_stands_in_lists_and_in_the_status(self, asking, house):
        run = await asking()
        _, page = await house.http("GET", "/api/v1/runs?state=awaiting_approval", token="read")
        assert [item["id"] for item in page["items"]] == [run.id]
        _, status = await house.http("GET", "/api/v1/status", token="read")
        (waiting,) = status["waiting"]
        assert (waiting["run"], waiting["playbook"], waiting["target"], waiting["missing"]) == (run.id, "remedy", "Node/node-3", 1)
        _, shown = await house.http("GET", f"/api/v1/runs/{run.id}", token="read")
        assert shown["approvals"][0]["question"] == "May remedy act on Node/node-3?"

        async def counted():
            _, metrics = await house.http("GET", "/metrics", token="read")
            return 'remediator_runs_awaiting_approval{playbook="remedy"} 1.0' in metrics

        await house.until(counted, "the metric")

    async def test_it_holds_nothing_up_and_people_are_asked_once_for_a_target(self, asking, house, text):
        first = await asking(settings={"limits": {"concurrent_runs": 1, "concurrent_disruptive": 1}})
        again = await decision_of(house, house.outside.fire(pod="another episode"))
        assert (again.decision, again.reason) == ("refused", "target_busy")
        assert (await fires(house, node="node-2")).target.name == "node-2"
        status, by_hand = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
        assert status == 201, by_hand
        await house.ended(by_hand["id"])
        assert (await house.journal.run(first.id)).state == "awaiting_approval"


class TestYes:
    async def test_by_the_api_with_who_and_why(self, asking, house):
        run = await asking()
        answer = await say(house, run.id, "approve", reason="looked at it")
        assert answer["state"] == "running"
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("healed", "healed"), done.detail
        (said,) = done.approvals[0].answers
        assert (said.by, said.reason, said.approved) == ("anna", "looked at it", True)
        assert done.approvals[0].state == "approved"
        assert min(verdict.at for verdict in done.gates) > said.at, "every gate was asked again"
        assert done.deadline - said.at == timedelta(hours=1), "the time that people took is not the run's"
        story = await house.operations.why(run.id)
        assert any("approved by anna: looked at it" in line for line in story.lines)

    @pytest.mark.parametrize("verb", ["approve", "reject"])
    async def test_takes_the_write_token(self, asking, house, verb):
        run = await asking()
        path = f"/api/v1/runs/{run.id}/{verb}"
        for token, status in (("read", 403), ("webhook", 403), ("nonsense", 401)):
            got, _ = await house.http("POST", path, {"by": "anna"}, token=token)
            assert got == status
        assert (await house.journal.run(run.id)).approvals[0].answers == ()

    async def test_twice_or_to_an_ended_run_or_to_none(self, asking, house):
        run = await asking()
        await say(house, run.id, "approve", reason="go")
        assert "approved by anna: go" in (await say(house, run.id, "approve", 409, by="berta"))["detail"]
        await house.ended(run.id)
        problem = await say(house, run.id, "approve", 409)
        assert problem["state"] == "healed"
        assert "has ended: healed (approved by anna: go); it does not wait" in problem["detail"]
        assert "healed" in (await say(house, run.id, "reject", 409))["detail"]
        assert 'no run "nothing"' in (await say(house, "nothing", "approve", 404))["detail"]
        assert 'no run "nothing"' in (await say(house, "nothing", "reject", 404))["detail"]

    @pytest.mark.long
    async def test_a_run_that_never_asked(self, asking, house, text):
        house.put("other.yaml", text("other", alert="Other", steps=[{"settle": {"action": "wait", "for": "50m", "timeout": "55m"}}]))
        await asking()
        decision = await decision_of(house, house.outside.fire("Other", node="node-2"))
        assert "is running; it does not wait" in (await say(house, decision.run, "approve", 409))["detail"]

    @pytest.mark.parametrize(
        ("turned", "reason"),
        [
            ("protected", "protected"),
            ("pause", "paused"),
            pytest.param("mark", "paused", marks=pytest.mark.long),
            pytest.param("resolved", "resolved_meanwhile", marks=pytest.mark.long),
            pytest.param("unreadable", "unreadable", marks=pytest.mark.long),
        ],
    )
    async def test_a_gate_that_turned_red_meanwhile_refuses(self, asking, house, turned, reason):
        run = await asking()
        match turned:
            case "protected" | "mark":
                name = "remediator.dev/protected" if turned == "protected" else "remediator.dev/pause"
                await annotate(house, **{name: "true"})
            case "pause":
                await house.http("PUT", "/api/v1/pause", {"reason": "exam", "by": "berta"})
            case "resolved":
                house.outside.resolve(house.alert)  # and its notification is lost
            case _:
                house.stage.cluster.fail(path="^/alertmanager", status=500, count=None)
        await say(house, run.id, "approve")
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("cancelled", reason)
        assert next(iter(refusing(done).values())) == ("not_firing" if turned == "resolved" else reason)
        assert [str(step.state) for step in done.steps] == ["pending", "pending"]
        assert not cordoned(house)

    async def test_a_mode_that_was_lowered_meanwhile(self, asking, house):
        run = await asking()
        house.daemon.world.mode_of = lambda _: Mode.OBSERVE
        await say(house, run.id, "approve")
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("cancelled", "observe_only")


class TestNo:
    async def test_with_its_reason(self, asking, house):
        run = await asking()
        answer = await say(house, run.id, "reject", reason="false alarm")
        assert (answer["state"], answer["reason"]) == ("cancelled", "rejected")
        done = await house.ended(run.id)
        assert (done.state, done.reason, done.detail) == ("cancelled", "rejected", "rejected by anna: false alarm")
        assert not cordoned(house)
        assert house.stage.writes() == []
        repeat = await decision_of(house, house.alert)
        assert (repeat.decision, repeat.run) == ("duplicate", run.id), "nobody is asked again about the same firing"

    async def test_nobody_in_time(self, asking, house, later):
        run = await asking(approval={"expires": "30m"}, deadline="10m")
        assert run.approvals[0].expires_at - run.approvals[0].asked_at == timedelta(minutes=30)
        later(minutes=20)
        assert (await waits(house, run.id)).deadline < house.stage.world.clock.now(), "what bounds the wait is the question's own time"
        later(minutes=10)
        problem = await say(house, run.id, "approve", 409)
        assert "expired" in problem["detail"]
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("expired", "approval_expired")
        assert "nobody answered until" in done.detail
        assert done.approvals[0].ended_at >= run.approvals[0].expires_at
        assert not cordoned(house)

    @pytest.mark.long
    async def test_the_settings_say_how_long(self, asking, house, later):
        run = await asking(settings={"approval": {"expires": "10m", "people": 2}})
        (asked,) = run.approvals
        assert (asked.expires_at - asked.asked_at, asked.people) == (timedelta(minutes=10), 2)

    async def test_it_expires_while_the_daemon_is_down(self, asking, house, later):
        run = await asking()
        await house.stop()
        later(hours=4)
        await house.start(mode="auto")
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("expired", "approval_expired")

    async def test_the_alert_resolves_meanwhile(self, asking, house):
        run = await asking()
        await decision_of(house, house.outside.resolve(house.alert))
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("cancelled", "resolved_meanwhile")
        assert done.approvals[0].state == "withdrawn"
        assert "has ended: cancelled (withdrawn before" in (await say(house, run.id, "approve", 409))["detail"]
        assert not cordoned(house)

    @pytest.mark.long
    async def test_cancelled_meanwhile(self, asking, house):
        run = await asking()
        await say(house, run.id, "cancel", reason="by hand")
        done = await house.ended(run.id)
        assert (done.state, done.reason, done.detail) == ("cancelled", "cancelled_by", "anna: by hand")

    async def test_what_nobody_approved_counts_as_no_attempt_and_stands_in_nobodys_way(self, asking, house):
        run = await asking(gates={"cooldown": "1h", "attempts": {"max": 1, "within": "6h"}})
        await say(house, run.id, "reject")
        again = await decision_of(house, house.outside.fire(pod="another episode"))
        assert (again.decision, again.reason) == ("refused", "cooldown"), "people are not asked again at once"
        assert [v.gate for v in again.gates if not v.allowed] == ["cooldown"]
        status, by_hand = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
        assert status == 201, by_hand


async def annotate(house, **annotations):
    await house.stage.world.kube.patch(kinds.NODE, "node-3", {"metadata": {"annotations": annotations}}, type="merge")


class TestTwoPeople:
    async def test_the_same_person_counts_once(self, asking, house):
        run = await asking(approval={"people": 2})
        answer = await say(house, run.id, "approve", by="anna@laptop", reason="yes")
        assert answer["state"] == "awaiting_approval"
        assert "anna@bastion approved run" in (await say(house, run.id, "approve", 409, by="anna@bastion"))["detail"]
        assert "1 more person must" in (await say(house, run.id, "approve", 409, by="Anna"))["detail"]
        assert "say who you are" in (await say(house, run.id, "approve", 409, by=""))["detail"]
        assert (await say(house, run.id, "approve", by="berta@laptop", reason="me too"))["state"] == "running"
        done = await house.ended(run.id)
        assert done.state == "healed", done.detail
        assert [said.by for said in done.approvals[0].answers] == ["anna@laptop", "berta@laptop"]

    async def test_one_no_is_enough_also_after_a_yes(self, asking, house):
        run = await asking(approval={"people": 2})
        await say(house, run.id, "approve")
        answer = await say(house, run.id, "reject", by="berta", reason="wait for the morning")
        assert (answer["state"], answer["reason"]) == ("cancelled", "rejected")

    async def test_whoever_triggers_it_is_the_first(self, asking, house):
        await asking(approval={"people": 2})
        asked = {"playbook": "remedy", "target": "Node/node-2", "by": "anna", "reason": "drill"}
        status, run = await house.http("POST", "/api/v1/runs", asked)
        assert (status, run["state"]) == (201, "awaiting_approval")
        await say(house, run["id"], "approve", 409, by="anna")
        await say(house, run["id"], "approve", by="berta")
        assert (await house.ended(run["id"])).state == "healed"

    @pytest.mark.long
    async def test_and_alone_where_one_is_enough(self, asking, house):
        await asking()
        _, run = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-2", "by": "anna"})
        assert (run["state"], run["approvals"]) == ("running", [])


class TestInMidRun:
    """``auto`` up to the step ``approve``."""

    @pytest.fixture
    def climbed(self, house, symptom, text):
        symptom.cured = lambda node: cordoned(house, node)

        async def begin(**more):
            ladder = [[SETTLE], [ASK, CORDON]]
            house.put("remedy.yaml", text(ladder=ladder, verify=SHORT, parameters=PARAMETERS, **more))
            await house.start(mode="auto")
            house.alert = house.outside.fire()
            run = await run_of(house, house.alert)
            return await waits(house, run)

        return begin

    async def test_the_second_rung_needs_a_yes(self, climbed, house):
        run = await climbed()
        assert (run.state, run.rung) == ("awaiting_approval", 1)
        (asked,) = run.approvals
        assert (asked.question, asked.step) == ("It did not help. Cordon it?", 1)
        assert [(s.name, s.data) for s in run.steps[2].evidence] == [(PREVIEW, ["first call: patch Node/node-3"])]
        assert not cordoned(house)
        await say(house, run.id, "approve", reason="go on")
        done = await house.ended(run.id)
        assert (done.state, done.rung) == ("healed", 1), done.detail
        assert done.steps[1].outcome == "approved by anna: go on"

    @pytest.mark.long
    async def test_it_keeps_the_target_and_its_place(self, climbed, house):
        run = await climbed()
        status, problem = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
        assert (status, problem["reason"]) == (409, "target_busy")
        assert run.id in problem["detail"]

    async def test_a_no_ends_it(self, climbed, house):
        run = await climbed()
        await say(house, run.id, "reject", reason="no")
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("cancelled", "rejected")
        assert [str(step.state) for step in done.steps] == ["succeeded", "failed", "pending"]
        assert not cordoned(house)

    @pytest.mark.long
    async def test_nobody_in_time(self, climbed, house, later):
        run = await climbed()
        later(hours=4)
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("expired", "approval_expired")
        assert not cordoned(house)

    async def test_a_gate_that_turned_red_meanwhile_refuses(self, climbed, house):
        run = await climbed()
        await annotate(house, **{"remediator.dev/protected": "true"})
        await say(house, run.id, "approve")
        done = await house.ended(run.id)
        assert (done.state, done.reason, done.rung) == ("not_healed", "protected", 1)
        assert not cordoned(house)

    @pytest.mark.long
    async def test_the_alert_resolves_meanwhile(self, climbed, house):
        run = await climbed()
        await decision_of(house, house.outside.resolve(house.alert))
        done = await house.ended(run.id)
        assert (done.state, done.reason) == ("cancelled", "resolved_meanwhile")

    async def test_the_deadline_moves_on_by_the_time_that_people_took(self, climbed, house, later):
        run = await climbed(deadline="10m")
        later(minutes=20)
        await say(house, run.id, "approve")
        done = await house.ended(run.id)
        assert done.state == "healed", done.detail

    async def test_a_restart_goes_on_waiting_and_does_nothing_twice(self, climbed, house):
        run = await climbed()
        await house.stop()
        await house.start(mode="auto")
        again = await waits(house, run.id)
        assert again.approvals == run.approvals
        await say(house, run.id, "approve")
        done = await house.ended(run.id)
        assert done.state == "healed", done.detail
        assert len([write for write in house.stage.cluster.writes() if write.verb == "patch"]) == 1

    @pytest.mark.long
    async def test_a_dry_run_asks_nobody(self, climbed, house, text):
        await climbed()
        _, run = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-2", "dry_run": True})
        done = await house.ended(run["id"])
        assert (done.state, done.approvals) == ("predicted", ())


TAINT = {"mark": {"action": "node.taint", "key": "test/mark", "effect": "NoSchedule"}}


class TestTwoRuns:
    """Of two that exclude each other the one goes on that began first; the other is refused, and stops nobody."""

    @pytest.fixture
    def two(self, asking, house, gate, gated):
        """Two runs that wait for a yes, on node-2 and node-3, and then, the node cordoned, until the test opens the gate."""

        async def begin(**more):
            second = await asking(steps=[CORDON, gate, TAINT], **{"gates": {"cooldown": "1s"}, **more})
            house.daemon.world.kube = gated(house.daemon.world.kube)
            return await fires(house, node="node-2"), second

        return begin

    @staticmethod
    async def at_work(house, run):
        async def cordons():
            return (await house.journal.run(run)).steps[1].state == "running"

        await house.until(cordons, "the step between")

    async def test_two_yeses_close_together_and_the_first_acts(self, two, house):
        first, second = await two()
        await say(house, first.id, "approve")
        await say(house, second.id, "approve")
        refused = await house.ended(second.id)
        assert (refused.state, refused.reason) == ("cancelled", "concurrency")
        assert "remedy on Node/node-2 is open" in refused.detail
        house.daemon.world.kube.gate.set()
        done = await house.ended(first.id)
        assert (done.state, [str(step.state) for step in done.steps]) == ("healed", ["succeeded"] * 3), done.detail
        assert (cordoned(house, "node-2"), cordoned(house, "node-3")) == (True, False)

    async def test_a_later_yes_does_not_stop_a_run_at_work(self, two, house, monkeypatch):
        """The second one's gates take long, just when the first asks its own once more before its next step."""
        first, second = await two(on_failure="undo")
        judged, may = asyncio.Event(), asyncio.Event()
        judge_again = carry.judge_again

        async def slow(world, playbook, run, step=None):
            if run.id == second.id:
                judged.set()
                await may.wait()
            return await judge_again(world, playbook, run, step)

        monkeypatch.setattr(carry, "judge_again", slow)
        await say(house, first.id, "approve")
        await self.at_work(house, first.id)
        await say(house, second.id, "approve")
        await judged.wait()
        house.daemon.world.kube.gate.set()
        done = await house.ended(first.id)
        assert (done.state, [str(step.state) for step in done.steps]) == ("healed", ["succeeded"] * 3), done.detail
        may.set()
        await house.ended(second.id)

    async def test_an_alert_does_not_stop_one_that_got_its_yes_before(self, two, house, text):
        house.put("other.yaml", text("other", alert="Other", steps=[TAINT], gates={"cooldown": "1s"}))
        first, _ = await two()
        await say(house, first.id, "approve")
        decision = await decision_of(house, house.outside.fire("Other", node="node-4"))
        assert (decision.decision, decision.reason) == ("refused", "concurrency")
        house.daemon.world.kube.gate.set()
        done = await house.ended(first.id)
        assert (done.state, [str(step.state) for step in done.steps]) == ("healed", ["succeeded"] * 3), done.detail

    async def test_one_by_hand_that_began_meanwhile_goes_on(self, two, house):
        """It may begin, since what waits for people holds nothing; the yes comes too late then."""
        first, _ = await two(gates={"attempts": {"max": 1, "within": "6h"}})
        status, by_hand = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-2"})
        assert status == 201, by_hand
        await self.at_work(house, by_hand["id"])
        await say(house, first.id, "approve")
        refused = await house.ended(first.id)
        assert (refused.state, refusing(refused)["target_busy"]) == ("cancelled", "target_busy")
        house.daemon.world.kube.gate.set()
        done = await house.ended(by_hand["id"])
        assert (done.state, [str(step.state) for step in done.steps]) == ("healed", ["succeeded"] * 3), done.detail

    async def test_a_yes_does_not_fall_between_a_decision_and_its_facts(self, house, symptom, text, monkeypatch):
        """Neither disturbs, so neither asks its gates once more: who decides has seen the yes, or the yes finds its run."""
        look = {"steps": [{"look": {"action": "wait", "for": "10m"}}], "gates": {"cooldown": "1s"}, "verify": None}
        house.put("remedy.yaml", text(mode="suggest", **look))
        house.put("other.yaml", text("other", alert="Other", **look))
        await house.start(mode="auto")
        waiting = await state_of(house, await run_of(house, house.outside.fire()), "awaiting_approval")
        asked, may = asyncio.Event(), asyncio.Event()
        decide = house.journal.decide

        async def slow(*args, **named):
            asked.set()
            await may.wait()
            await decide(*args, **named)

        monkeypatch.setattr(house.journal, "decide", slow)
        deciding = asyncio.create_task(decision_of(house, house.outside.fire("Other")))
        await asked.wait()
        saying = asyncio.create_task(say(house, waiting.id, "approve"))
        await house.stage.world.clock.sleep(timedelta(minutes=1))
        may.set()
        decision, _ = await deciding, await saying
        ended = await house.ended(waiting.id)
        assert (decision.decision, ended.state, ended.reason) == ("run", "cancelled", "target_busy")
