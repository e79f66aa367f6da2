"""Lists with filters, single records, and what every answer has."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from remediator.errors import ChainBroken, KubeError, Refused, Unreadable
from remediator.model import DecisionKind, RunState
from remediator.reasons import Reason

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


async def test_a_list_has_items_and_next(api, service, run):
    service.journal.the_runs["run-1"] = run()
    service.journal.next = "abc"
    page = await api.get("/api/v1/runs", token="read")
    assert page["next"] == "abc"
    (item,) = page["items"]
    assert item["target"] == {"kind": "Node", "name": "node-3", "namespace": "", "uid": "u3"}
    assert item["steps"][0]["changes"][0]["resource"]["name"] == "cilium-abc"
    assert item["started_at"] == "2026-01-05T10:00:00Z"
    assert service.journal.asked["runs"] == {}


FILTERS = [
    ("runs", "playbook=p&target=Node/node-3&limit=7&cursor=c", {"playbook": "p", "target": "Node/node-3", "limit": 7, "cursor": "c"}),
    ("runs", "state=healed,running&dry_run=true", {"state": (RunState.HEALED, RunState.RUNNING), "dry_run": True}),
    ("runs", "state=healed&state=running", {"state": (RunState.HEALED, RunState.RUNNING)}),
    ("runs", "state=open&limit=500", {"state": tuple(s for s in RunState if s.open), "limit": 500}),
    ("runs", "since=2h", {"since": datetime(2026, 1, 5, 8, 0, tzinfo=UTC)}),
    ("runs", "since=2026-01-05T10:00:00+02:00", {"since": datetime(2026, 1, 5, 8, 0, tzinfo=UTC)}),
    (
        "decisions",
        "decision=held&delivery=d&fingerprint=f&name=A&run=r",
        {"decision": DecisionKind.HELD, "delivery": "d", "fingerprint": "f", "name": "A", "run": "r"},
    ),
    ("deliveries", "limit=1", {"limit": 1}),
    ("changes", "run=r&left_behind=false", {"run": "r", "left_behind": False}),
]


@pytest.mark.parametrize(("name", "query", "asked"), FILTERS)
async def test_filters_reach_the_journal(api, service, name, query, asked):
    assert (await api.get(f"/api/v1/{name}?{query}"))["items"] is not None
    assert service.journal.asked[name] == asked


@pytest.mark.parametrize(("query", "asked"), [("", {"open_only": True}), ("?all=true&name=A", {"open_only": False, "name": "A"})])
async def test_alerts_are_the_open_episodes_unless_all_are_asked_for(api, service, query, asked):
    (item,) = (await api.get(f"/api/v1/alerts{query}"))["items"]
    assert item["name"] == "A"
    assert service.journal.asked["episodes"] == asked


BAD_QUERIES = [
    ("runs?stat=open", "stat", 'did you mean "state"?'),
    ("runs?xyzzy=1", "xyzzy", "known are state, playbook, target"),
    ("status?limit=1", "limit", "is not a parameter"),
    ("runs?limit=0", "limit", "from 1 to 500"),
    ("runs?limit=501", "limit", "from 1 to 500"),
    ("runs?limit=ten", "limit", "from 1 to 500"),
    ("runs?limit=%EF%BC%91", "limit", "from 1 to 500"),
    ("runs?limit=1&limit=2", "limit", "twice"),
    ("runs?state=heeled", "state", 'did you mean "healed"?'),
    ("runs?state=", "state", "is not a state"),
    ("runs?dry_run=yes", "dry_run", "true or false"),
    ("runs?since=yesterday", "since", "is not a duration"),
    ("runs?since=5", "since", "has no unit"),
    ("runs?since=2026-01-05T10:00:00", "since", "names no time zone"),
    ("runs?playbook=", "playbook", "some text"),
    ("runs?playbook=%00", "playbook", "some text"),
    (f"runs?playbook={'x' * 501}", "playbook", "some text"),
    ("decisions?decision=maybe", "decision", "expected one of run"),
    ("why", "ref", "is required"),
]


@pytest.mark.parametrize(("path", "name", "words"), BAD_QUERIES)
async def test_a_wrong_query_is_named(api, path, name, words):
    problem = await api.problem("GET", f"/api/v1/{path}", 400)
    assert problem["path"] == name
    assert words in problem["detail"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/v1/runs/nope", 'no run "nope"'),
        ("/api/v1/runs/nope/watch", 'no run "nope"'),
        ("/api/v1/deliveries/nope", 'no delivery "nope"'),
        ("/api/v1/decisions/nope", 'no decision "nope"'),
        ("/api/v1/playbooks/nope", 'no playbook "nope"'),
        ("/api/v1/actions/nope", 'no action "nope"'),
        ("/api/v1/nope", "no such route"),
    ],
)
async def test_what_does_not_exist_is_a_404(api, path, words):
    assert words in (await api.problem("GET", path, 404))["detail"]


async def test_single_records(api, service, run, payload):
    service.journal.the_runs["run-1"] = run()
    assert (await api.get("/api/v1/runs/run-1"))["id"] == "run-1"
    delivery = (await (await api.post_alerts(payload)).json())["delivery"]
    assert (await api.get(f"/api/v1/deliveries/{delivery}"))["alerts"][0]["name"] == "CiliumAgentDown"
    assert (await api.get("/api/v1/decisions/decision-1"))["reason"] == "unmatched"


async def test_why_tells_a_story(api, service):
    story = await api.get("/api/v1/why?ref=Node/node-3%20")
    assert story["lines"] == ["The journal knows nothing of it."]
    assert service.calls == [("why", "Node/node-3 ")]


async def test_the_catalogue(api, service):
    (playbook,) = (await api.get("/api/v1/playbooks"))["items"]
    standing = {"mode_in_force": "suggest", "demoted": None}
    assert playbook == {"name": "cilium-agent-down", "mode": "suggest", "revision": "0123456789ab", "gates": {}, **standing}
    shown = await api.get("/api/v1/playbooks/cilium-agent-down")
    assert shown["text"].startswith("apiVersion")
    assert shown["record"]["suggested"]["approved"] == 0
    assert {"gate": "paused", "by": "always", "settings": None} in shown["in_force"]
    assert (await api.get("/api/v1/actions"))["items"][0]["name"] == "wait"
    assert (await api.get("/api/v1/actions/wait"))["summary"] == "Let time pass"
    assert (await api.get("/api/v1/gates"))["items"][0]["name"] == "paused"
    assert (await api.get("/api/v1/status"))["ready_detail"] == "leader"
    assert service.with_records
    assert (await api.get("/api/v1/journal/verify"))["ok"] is True
    assert service.journal.asked["verify"] == {"full": True, "jobs": None}
    assert (await api.get("/api/v1/journal/verify?resume=true&jobs=16"))["ok"] is True
    assert service.journal.asked["verify"] == {"full": False, "jobs": 16}
    assert (await api.problem("GET", "/api/v1/journal/verify?jobs=17", 400))["detail"] == "jobs: expected a whole number from 1 to 16"


async def test_the_report_takes_a_time_and_a_number(api, service):
    (one,) = (await api.get("/api/v1/report/recurrence?since=3d&at_least=3"))["items"]
    assert (one["target"], one["times"], one["healed"], len(one["each"])) == ("Node/n", 3, 3, 3)
    since, least = service.asked_of_recurrence
    assert since is not None
    assert least == 3
    assert (await api.get("/api/v1/report/recurrence?at_least=4"))["items"] == []
    assert "whole number" in (await api.problem("GET", "/api/v1/report/recurrence?at_least=0", 400))["detail"]


async def test_bgp_is_read_when_asked_for(api, service):
    told = await api.get("/api/v1/bgp")
    assert (told["nodes"][0]["name"], told["prefixes"], told["min_speakers"]) == ("node-1", [], 2)
    service.unreachable = True
    assert "connection refused" in (await api.problem("GET", "/api/v1/bgp", 502))["detail"]


async def test_head_answers_as_get_without_a_body(api):
    for path in ("/-/healthy", "/-/ready", "/api/v1/status", "/"):
        response = await api("HEAD", path)
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 0
        assert await response.read() == b""


async def test_the_wrong_method_says_which_are_right(api):
    response = await api("DELETE", "/api/v1/runs")
    problem = await api.problem_in(response, 405)
    assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
    assert "GET" in problem["detail"]


@pytest.mark.parametrize("asked", ["OPTIONS * HTTP/1.1\r\n", "POST /api/v1/alerts HTTP/1.1\r\nExpect: a-miracle\r\nContent-Length: 0\r\n"])
async def test_what_no_route_sees_is_dressed_as_well(api, asked):
    async with api.raw() as (reader, writer):
        writer.write(f"{asked}Host: x\r\nConnection: close\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), 20)).decode()
    assert answer.startswith(("HTTP/1.1 404", "HTTP/1.1 417"))
    assert "\r\nX-Content-Type-Options: nosniff\r\n" in answer
    assert "\r\nX-Request-ID: " in answer
    assert "\r\nServer: remediator\r\n" in answer


async def test_every_answer_has_an_id_and_is_neither_kept_nor_guessed(api):
    for path in ("/-/healthy", "/nope", "/api/v1/status", "/api/v1/journal/export"):
        headers = (await api("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert len(headers["X-Request-ID"]) == 16
        assert headers["Server"] == "remediator"
    sent = await api("GET", "/-/healthy", headers={"X-Request-ID": "from-the-proxy"})
    assert sent.headers["X-Request-ID"] == "from-the-proxy"
    odd = await api("GET", "/-/healthy", headers={"X-Request-ID": "x" * 65})
    assert odd.headers["X-Request-ID"] != "x" * 65


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Refused(Reason.PROTECTED, "it is marked"), 409, "protected"),
        (Unreadable("nodes", "timeout"), 503, "unreadable"),
        (KubeError("the API server does not answer"), 502, None),
        (ChainBroken("entry 3"), 500, None),
        (ZeroDivisionError(), 500, None),
    ],
)
async def test_errors_of_the_service_by_kind(api, service, error, status, reason):
    service.fails = error
    problem = await api.problem("POST", "/api/v1/match", status, json={"labels": {}})
    assert problem.get("reason") == reason


class TestManagement:
    async def test_healthy_and_ready_need_no_token(self, api):
        assert await (await api("GET", "/-/healthy", token=None)).text() == "healthy\n"
        assert await (await api("GET", "/-/ready", token=None)).text() == "ready: leader\n"

    async def test_not_ready_says_why(self, api, service):
        service.is_ready = (False, "the journal is not open yet")
        response = await api("GET", "/-/ready", token=None)
        assert (await api.problem_in(response, 503))["detail"] == "the journal is not open yet"
        assert (await api("HEAD", "/-/ready", token=None)).status == 503
        assert (await api("GET", "/-/healthy", token=None)).status == 200

    async def test_metrics_are_in_the_exposition_format(self, api):
        response = await api("GET", "/metrics?target=x", token=None)
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "\nremediator_webhook_requests_total{" in await response.text()


async def test_the_report_of_effect_takes_a_time_and_a_playbook(api, service, run):
    service.journal.the_runs["run-1"] = run()
    whole, one = (await api.get("/api/v1/report/effect?since=3d&playbook=p"))["items"]
    assert (whole["target"], whole["runs"], one["target"]) == (None, 1, run().target.key)
    since, playbook = service.asked_of_effect
    assert since is not None
    assert playbook == "p"
