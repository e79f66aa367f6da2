"""Manual runs, interventions, pauses, match and reload."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from remediator.breaker import Backlog
from remediator.errors import UsageError
from remediator.model import Decision, DecisionKind, Pause, RunState, Verdict
from remediator.reasons import Reason
from remediator.server import ManualRequest, MatchRequest, PauseRequest, ReloadReport
from remediator.server.service import BreakerRequest, PruneRequest

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
ASK = {"playbook": "restart-agent", "target": "Node/node-2"}


class TestTrigger:
    async def test_a_run_that_begins_is_created(self, api, service, run):
        service.journal.the_runs["run-1"] = run()
        asked = {**ASK, "parameters": {"ready_for": "30s"}, "dry_run": True, "by": "ada", "reason": "drill"}
        response = await api("POST", "/api/v1/runs", json=asked)
        assert response.status == 201
        assert response.headers["Location"] == "/api/v1/runs/run-1"
        assert (await response.json())["id"] == "run-1"
        assert service.calls == [("trigger", ManualRequest(**asked))]

    async def test_who_asks_is_the_peer_if_nobody_says(self, api, service, run):
        service.journal.the_runs["run-1"] = run()
        await api("POST", "/api/v1/runs", json=ASK)
        assert service.calls[0][1].by == "api, 127.0.0.1"

    async def test_a_refusal_shows_every_gate(self, api, service):
        gates = (
            Verdict(gate="paused", allowed=False, reason=Reason.PAUSED, detail="by ada", at=NOW),
            Verdict(gate="cooldown", allowed=True, at=NOW),
        )
        service.decided = Decision(id="d", at=NOW, decision=DecisionKind.REFUSED, reason=Reason.PAUSED, gates=gates)
        problem = await api.problem("POST", "/api/v1/runs", 409, json=ASK)
        assert problem["reason"] == "paused"
        assert problem["detail"] == "A person paused everything, this playbook or this target."
        assert [(gate["gate"], gate["allowed"]) for gate in problem["gates"]] == [("paused", False), ("cooldown", True)]

    async def test_what_makes_no_sense_is_a_400(self, api, service):
        service.fails = UsageError('there is no playbook "restart-agnet"; did you mean "restart-agent"?')
        assert "did you mean" in (await api.problem("POST", "/api/v1/runs", 400, json=ASK))["detail"]

    @pytest.mark.parametrize(
        ("asked", "path", "words"),
        [
            ({**ASK, "dryrun": True}, "dryrun", 'did you mean "dry_run"?'),
            ({"playbook": "p"}, "target", "is required"),
            ({**ASK, "dry_run": "true"}, "dry_run", "expected true or false, got a string"),
            ({**ASK, "parameters": {"a": 1}}, "parameters.a", "expected a string"),
            ([], "", "expected an object"),
        ],
    )
    async def test_a_misspelt_request_starts_nothing(self, api, service, asked, path, words):
        problem = await api.problem("POST", "/api/v1/runs", 400, json=asked)
        assert problem["path"] == path
        assert words in problem["detail"]
        assert not service.calls

    async def test_a_key_given_twice_starts_nothing(self, api, service):
        text = json.dumps({**ASK, "dry_run": True})[:-1] + ', "dry_run": false}'
        assert (await api.problem("POST", "/api/v1/runs", 400, data=text.encode()))["path"] == "dry_run"
        assert not service.calls

    async def test_a_request_is_small(self, api):
        await api.problem("POST", "/api/v1/runs", 413, json={**ASK, "reason": "x" * 300_000})


class TestInterventions:
    @pytest.mark.parametrize("verb", ["cancel", "undo"])
    async def test_an_open_run(self, api, service, run, verb):
        service.journal.the_runs["run-1"] = run()
        response = await api("POST", f"/api/v1/runs/run-1/{verb}", json={"by": "ada", "reason": "wrong node"})
        assert response.status == 200
        assert (await response.json())["id"] == "run-1"
        assert service.calls == [(verb, ("run-1", "ada", "wrong node"))]

    async def test_the_body_may_be_empty(self, api, service, run):
        service.journal.the_runs["run-1"] = run()
        assert (await api("POST", "/api/v1/runs/run-1/cancel")).status == 200
        assert service.calls == [("cancel", ("run-1", "api, 127.0.0.1", ""))]

    @pytest.mark.parametrize("verb", ["cancel", "undo"])
    async def test_a_state_that_does_not_allow_it_is_a_conflict(self, api, service, run, verb):
        service.journal.the_runs["run-1"] = run(state=RunState.HEALED)
        problem = await api.problem("POST", f"/api/v1/runs/run-1/{verb}", 409)
        assert problem["state"] == "healed"
        assert "has ended" in problem["detail"]

    @pytest.mark.parametrize("verb", ["cancel", "undo", "approve", "reject"])
    async def test_an_unknown_run_is_a_404(self, api, service, verb):
        await api.problem("POST", f"/api/v1/runs/nope/{verb}", 404)
        assert not service.calls

    @pytest.mark.parametrize(("asked", "named"), [({"by": "ada", "reason": "go"}, True), ({}, False), ({"by": " "}, False)])
    async def test_a_yes_tells_whether_somebody_gave_a_name(self, api, service, run, asked, named):
        service.journal.the_runs["run-1"] = run(state=RunState.AWAITING_APPROVAL)
        assert (await api("POST", "/api/v1/runs/run-1/approve", json=asked)).status == 200
        assert service.calls == [("approve", ("run-1", asked.get("by") or "api, 127.0.0.1", asked.get("reason", ""), named))]

    async def test_a_no(self, api, service, run):
        service.journal.the_runs["run-1"] = run(state=RunState.AWAITING_APPROVAL)
        response = await api("POST", "/api/v1/runs/run-1/reject", json={"by": "ada", "reason": "false alarm"})
        assert (await response.json())["state"] == "cancelled"
        assert service.calls == [("reject", ("run-1", "ada", "false alarm"))]

    @pytest.mark.parametrize("verb", ["approve", "reject"])
    async def test_an_answer_that_nobody_waits_for_is_a_conflict(self, api, service, run, verb):
        service.journal.the_runs["run-1"] = run()
        service.fails = UsageError("run run-1 is running; it does not wait for an approval")
        problem = await api.problem("POST", f"/api/v1/runs/run-1/{verb}", 409)
        assert (problem["state"], "does not wait" in problem["detail"]) == ("running", True)

    async def test_a_demoted_playbook_is_reinstated(self, api, service):
        path = "/api/v1/playbooks/cilium-agent-down/reinstate"
        response = await api("POST", path, json={"by": "ada", "reason": "fixed"})
        assert (await response.json())["runs"] == ["r1", "r2"]
        assert service.calls == [("reinstate", ("cilium-agent-down", "ada", "fixed"))]
        service.fails = UsageError("playbook cilium-agent-down is not demoted")
        assert "is not demoted" in (await api.problem("POST", path, 409))["detail"]
        await api.problem("POST", "/api/v1/playbooks/nope/reinstate", 404)


class TestPrune:
    async def test_what_may_go_is_said_or_left_to_the_settings(self, api, service):
        response = await api("POST", "/api/v1/journal/prune", json={"seconds": 3e6, "keep": 5, "by": "ada"})
        assert await response.json() == {"through": 7, "removed": {"run": 2}, "more": False, "slices": 3, "longest": 0.02}
        assert service.calls == [("prune", PruneRequest(seconds=3e6, keep=5, by="ada"))]

    @pytest.mark.parametrize("asked", [{"seconds": -1}, {"keep": -1}, {"days": 40}])
    async def test_what_makes_no_sense_is_a_400(self, api, service, asked):
        await api.problem("POST", "/api/v1/journal/prune", 400, json=asked)
        assert not service.calls

    async def test_a_broken_chain_is_a_409(self, api):
        problem = await api.problem("POST", "/api/v1/journal/prune", 409, json={"keep": 13})
        assert problem["detail"] == "the log is not whole"


class TestBreaker:
    async def test_how_it_stands(self, api):
        found = await api.get("/api/v1/breaker")
        assert (found["open"], found["most_failures"], found["reset"]) == (False, 5, None)

    async def test_reset(self, api, service):
        response = await api("POST", "/api/v1/breaker/reset", json={"backlog": "skip", "reason": "a switch", "by": "ada"})
        assert (await response.json())["backlog"] == "skip"
        assert service.calls == [("reset_breaker", BreakerRequest(backlog=Backlog.SKIP, reason="a switch", by="ada"))]

    @pytest.mark.parametrize("asked", [{}, {"backlog": "keep"}, {"backlog": "skip", "reasn": "x"}])
    async def test_whoever_resets_must_say_what_becomes_of_the_backlog(self, api, service, asked):
        await api.problem("POST", "/api/v1/breaker/reset", 400, json=asked)
        assert not service.calls

    async def test_a_closed_one_is_a_409(self, api, service):
        service.fails = UsageError("No breaker is open.")
        problem = await api.problem("POST", "/api/v1/breaker/reset", 409, json={"backlog": "resume"})
        assert problem["detail"] == "No breaker is open."


class TestPause:
    async def test_pause(self, api, service):
        response = await api("PUT", "/api/v1/pause", json={"target": "Node/node-2", "reason": "night", "by": "ada", "seconds": 60})
        assert (await response.json())["target"] == "Node/node-2"
        assert service.calls == [("pause", PauseRequest(target="Node/node-2", reason="night", by="ada", seconds=60.0))]

    @pytest.mark.parametrize(
        ("asked", "path"),
        [
            ({}, "reason"),
            ({"reason": ""}, "reason"),
            ({"reason": "x", "seconds": 0}, "seconds"),
            ({"reason": "x", "seconds": 1e10}, "seconds"),
        ],
    )
    async def test_a_pause_needs_a_reason_and_a_sane_time(self, api, service, asked, path):
        assert (await api.problem("PUT", "/api/v1/pause", 400, json=asked))["path"] == path
        assert not service.calls

    async def test_pauses_in_force_are_asked_for_now(self, api, service):
        service.journal.the_pauses = [Pause(id="p", reason="night", by="ada", at=NOW)]
        page = await api.get("/api/v1/pause")
        assert page["next"] is None
        assert page["items"][0]["reason"] == "night"
        assert service.journal.asked["pauses"] == {"now": NOW}

    async def test_resume(self, api, service):
        response = await api("DELETE", "/api/v1/pause?playbook=p&by=ada")
        assert await response.json() == {"ended": 2}
        assert service.calls == [("resume", {"playbook": "p", "target": None, "by": "ada"})]


class TestMatch:
    async def test_the_report_comes_back(self, api, service):
        response = await api("POST", "/api/v1/match", token="read", json={"labels": {"a": "b"}, "at": "2026-01-05T10:00:00Z"})
        report = await response.json()
        assert report["decision"] == "unmatched"
        assert report["nearest"][0]["failed"] == ['severity="critical" (severity is "warning")']
        assert service.calls == [("match", MatchRequest(labels={"a": "b"}, at=NOW))]

    async def test_a_naive_time_is_refused(self, api):
        asked = {"labels": {}, "at": "2026-01-05T10:00:00"}
        assert (await api.problem("POST", "/api/v1/match", 400, json=asked))["path"] == "at"


class TestReload:
    async def test_accepted(self, api):
        response = await api("POST", "/-/reload")
        assert (await response.json())["playbooks"] == 1

    async def test_refused_with_every_problem(self, api, service):
        service.report = ReloadReport(ok=False, problems=("a.yaml:1:2: wrong", "b.yaml:3:4: worse"), playbooks=1, at=NOW)
        problem = await api.problem("POST", "/-/reload", 422)
        assert problem["problems"] == ["a.yaml:1:2: wrong", "b.yaml:3:4: worse"]
        assert "b.yaml:3:4: worse" in problem["detail"]
