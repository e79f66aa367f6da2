"""The client of our API: what it sends, what it makes of answers, and what it does when there are none."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediator.client import Client
from remediator.errors import ServerError, ServerRefused, ServerUnreachable, UsageError
from remediator.model import Page, RunState
from remediator.transport import _lines

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
RUN = {
    "id": "r1",
    "playbook": "p",
    "revision": "0",
    "trigger": {"kind": "manual"},
    "target": {"kind": "Node", "name": "n"},
    "state": "running",
    "started_at": "2026-01-05T10:00:00Z",
    "deadline": "2026-01-05T11:00:00Z",
}
ENDED = {**RUN, "state": "healed", "reason": "healed", "ended_at": "2026-01-05T10:01:00Z"}
EMPTY = {"items": [], "next": None}


class Recorder:
    """Answers every request alike and remembers it."""

    def __init__(self, data, status=200):
        self.data, self.status, self.seen = data, status, []

    async def __call__(self, request):
        body = await request.read()
        self.seen.append((request.method, request.raw_path, request.headers.get("Authorization"), json.loads(body) if body else None))
        return web.json_response(self.data, status=self.status)


PAUSE = {"id": "p1", "reason": "x", "by": "ana", "at": "2026-01-05T10:00:00Z"}
CALLS = [
    (lambda c: c.runs(), EMPTY, "GET", "/api/v1/runs", "read", None),
    (
        lambda c: c.runs(state=[RunState.HEALED, RunState.DONE], since=AT, dry_run=False, limit=3),
        EMPTY,
        "GET",
        "/api/v1/runs?state=healed&state=done&since=2026-01-05T10:00:00.000Z&dry_run=false&limit=3",
        "read",
        None,
    ),
    (lambda c: c.run("a/b?c"), RUN, "GET", "/api/v1/runs/a%2Fb%3Fc", "read", None),
    (lambda c: c.trigger({"playbook": "p"}), RUN, "POST", "/api/v1/runs", "write", {"playbook": "p"}),
    (lambda c: c.cancel("r", by="ana", reason="x"), RUN, "POST", "/api/v1/runs/r/cancel", "write", {"by": "ana", "reason": "x"}),
    (lambda c: c.undo("r", by="ana", reason="x"), RUN, "POST", "/api/v1/runs/r/undo", "write", {"by": "ana", "reason": "x"}),
    (lambda c: c.decisions(delivery="d"), EMPTY, "GET", "/api/v1/decisions?delivery=d", "read", None),
    (lambda c: c.deliveries(limit=1, cursor="x y"), EMPTY, "GET", "/api/v1/deliveries?limit=1&cursor=x+y", "read", None),
    (lambda c: c.alerts(every=True), EMPTY, "GET", "/api/v1/alerts?all=true", "read", None),
    (lambda c: c.alerts(), EMPTY, "GET", "/api/v1/alerts", "read", None),
    (lambda c: c.changes(run="r"), EMPTY, "GET", "/api/v1/changes?run=r&left_behind=true", "read", None),
    (lambda c: c.changes(every=True), EMPTY, "GET", "/api/v1/changes", "read", None),
    (lambda c: c.why("x"), {"ref": "x", "kind": "nothing", "lines": []}, "GET", "/api/v1/why?ref=x", "read", None),
    (lambda c: c.send(b'{"a": 1}'), {"delivery": "d", "alerts": 1}, "POST", "/api/v1/alerts", "webhook", {"a": 1}),
    (lambda c: c.playbooks(), EMPTY, "GET", "/api/v1/playbooks", "read", None),
    (lambda c: c.playbook("p"), {"name": "p"}, "GET", "/api/v1/playbooks/p", "read", None),
    (lambda c: c.actions(), EMPTY, "GET", "/api/v1/actions", "read", None),
    (lambda c: c.action("a.b"), {"name": "a.b"}, "GET", "/api/v1/actions/a.b", "read", None),
    (lambda c: c.gates(), EMPTY, "GET", "/api/v1/gates", "read", None),
    (
        lambda c: c.match({"a": "b"}, at=AT),
        {"labels": {"a": "b"}, "decision": "unmatched"},
        "POST",
        "/api/v1/match",
        "read",
        {"labels": {"a": "b"}, "at": "2026-01-05T10:00:00.000Z"},
    ),
    (lambda c: c.pauses(), {"items": [PAUSE], "next": None}, "GET", "/api/v1/pause", "read", None),
    (
        lambda c: c.pause(playbook="p", target=None, reason="x", by="ana", duration=timedelta(minutes=1)),
        PAUSE,
        "PUT",
        "/api/v1/pause",
        "write",
        {"playbook": "p", "target": None, "reason": "x", "by": "ana", "seconds": 60.0},
    ),
    (lambda c: c.resume(playbook="p", target=None, by="ana"), {"ended": 1}, "DELETE", "/api/v1/pause?playbook=p&by=ana", "write", None),
    (lambda c: c.reload(), {"ok": True, "at": "2026-01-05T10:00:00Z"}, "POST", "/-/reload", "write", None),
    (
        lambda c: c.prune(age=timedelta(days=40), keep=5, by="ana"),
        {"through": 7, "removed": {"run": 1}},
        "POST",
        "/api/v1/journal/prune",
        "write",
        {"seconds": 3456000.0, "keep": 5, "by": "ana"},
    ),
    (lambda c: c.verify(), {"ok": True, "entries": 1, "problems": []}, "GET", "/api/v1/journal/verify", "read", None),
    (
        lambda c: c.verify(resume=True, jobs=3),
        {"ok": True, "entries": 1, "problems": []},
        "GET",
        "/api/v1/journal/verify?resume=true&jobs=3",
        "read",
        None,
    ),
]


@pytest.mark.parametrize(("call", "answer", "method", "path", "scope", "body"), CALLS, ids=[f"{c[2]} {c[3]}" for c in CALLS])
async def test_every_call(connect, call, answer, method, path, scope, body):
    handler = Recorder(answer)
    client = await connect(handler, token=lambda wanted: f"{wanted}-token")
    result = await call(client)
    assert result is not None
    assert handler.seen == [(method, path, f"Bearer {scope}-token", body)]


async def test_one_token_for_all_or_none(connect):
    handler = Recorder(EMPTY)
    await (await connect(handler, token="secret")).runs()
    await (await connect(handler)).runs()
    await (await connect(handler, token=lambda scope: None)).runs()
    assert [seen[2] for seen in handler.seen] == ["Bearer secret", None, None]


async def test_unknown_fields_of_a_newer_daemon_are_left_alone(connect):
    client = await connect(Recorder({"items": [{**RUN, "mood": "good"}], "next": "c", "total": 1}))
    page = await client.runs()
    assert isinstance(page, Page)
    assert (page.items[0].id, page.next) == ("r1", "c")


async def test_a_refusal_keeps_the_whole_problem(connect):
    problem = {"title": "Refused", "detail": "by ana", "status": 409, "gates": [{"gate": "paused"}]}
    client = await connect(Recorder(problem, 409))
    with pytest.raises(ServerRefused, match="Refused: by ana") as caught:
        await client.trigger({})
    assert (caught.value.status, caught.value.problem) == (409, problem)


async def test_no_answer_in_time(connect):
    held = asyncio.Event()

    async def hang(request):
        await held.wait()
        return web.json_response(EMPTY)

    client = await connect(hang, timeout=0.05)
    with pytest.raises(ServerUnreachable, match="no answer in time"):
        await client.runs()
    held.set()


async def test_answer_that_breaks_off(connect):
    async def half(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"items": ')
        request.transport.abort()
        return response

    client = await connect(half)
    with pytest.raises(ServerUnreachable, match="broke off"):
        await client.runs()


async def test_export_that_breaks_off_says_so_after_the_whole_lines(connect):
    async def half(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"seq":1}\n{"seq":')
        request.transport.abort()
        return response

    client = await connect(half)
    lines = client.export()
    assert await anext(lines) == b'{"seq":1}\n'
    with pytest.raises(ServerUnreachable, match="broke off"):
        await anext(lines)


async def test_export_of_long_lines(connect):
    text = b"x" * 400_000 + b"\n" + b"y" * 10

    async def whole(request):
        return web.Response(body=text)

    client = await connect(whole)
    assert b"".join([line async for line in client.export()]) == text


def stream(*pieces):
    async def handler(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return handler


def event(run):
    return f"event: run\ndata: {json.dumps(run)}\n\n".encode()


async def test_watch_ends_when_the_run_does_and_skips_what_is_not_new(connect):
    big = {**ENDED, "detail": "x" * 300_000}
    client = await connect(stream(b":\n\n", event(RUN), b":\n\n", event(RUN), event(big)))
    states = [run.state async for run in client.watch("r1")]
    assert states == ["running", "healed"]


async def test_watch_reads_what_the_format_allows(connect):
    head, tail = json.dumps(ENDED, indent=1).split("\n", 1)
    lines = "\r\n".join(f"data:{line}" for line in [head, *tail.split("\n")])
    client = await connect(stream(b": hi\r\n\r\nretry: 5\r\nid: 7\r\n", lines[:20].encode(), lines[20:].encode(), b"\r\n\r\n"))
    assert [run.id async for run in client.watch("r1")] == ["r1"]


async def test_watch_connects_again(connect, monkeypatch):
    monkeypatch.setattr("remediator.client._PAUSE", 0.001)
    answers = [stream(event(RUN)), stream(), stream(event(RUN), event(ENDED))]

    async def handler(request):
        return await answers.pop(0)(request)

    client = await connect(handler)
    assert [run.state async for run in client.watch("r1")] == ["running", "healed"]
    assert answers == []


async def test_watch_of_a_run_that_does_not_exist(connect):
    client = await connect(Recorder({"title": "Not found", "detail": "no run"}, 404))
    with pytest.raises(ServerRefused, match="Not found"):
        await anext(client.watch("r1"))


async def test_watch_of_nonsense(connect):
    client = await connect(stream(b"data: hello\n\n"))
    with pytest.raises(ServerRefused, match="cannot be understood"):
        await anext(client.watch("r1"))


async def test_watch_gives_up_when_the_daemon_stays_away(connect, monkeypatch):
    monkeypatch.setattr("remediator.client._PAUSE", 0.001)
    monkeypatch.setattr("remediator.client._PATIENCE", 0.05)
    answers = [stream(event(RUN))]

    async def handler(request):
        if answers:
            return await answers.pop(0)(request)
        request.transport.abort()
        return web.Response()

    client = await connect(handler)
    with pytest.raises(ServerUnreachable):
        [run async for run in client.watch("r1")]


async def test_nobody_there():
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ServerUnreachable, match=r"no answer from http://127.0.0.1:1: Connection refused"):
            await client.status()
        with pytest.raises(ServerUnreachable):
            await anext(client.watch("r1"))


@pytest.mark.parametrize("server", ["127.0.0.1:8080", "", "unix:///x"])
def test_addresses_need_a_scheme(server):
    with pytest.raises(UsageError, match="http://"):
        Client(server)


async def test_a_path_before_the_api(serving):
    handler = Recorder(EMPTY)
    async with Client(await serving(handler) + "/behind/proxy/") as client:
        await client.runs()
    assert handler.seen[0][1] == "/behind/proxy/api/v1/runs"


async def test_close_again_is_fine():
    client = Client("http://127.0.0.1:1")
    await client.close()
    async with client:
        pass
    await client.close()


class Chunked:
    """A response body in given pieces."""

    def __init__(self, pieces):
        self.content = self
        self._pieces = pieces

    async def iter_any(self):
        for piece in self._pieces:
            yield piece


@given(st.lists(st.binary()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_are_the_same_however_they_arrive(pieces):
    async def read():
        return [line async for line in _lines(Chunked(pieces), "x")]

    lines = asyncio.run(read())
    assert b"".join(lines) == b"".join(pieces)
    assert all(line.endswith(b"\n") for line in lines[:-1])
    assert all(line.count(b"\n") <= 1 for line in lines)


def test_errors_are_server_errors():
    assert issubclass(ServerRefused, ServerError)
    assert issubclass(ServerUnreachable, ServerError)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_watch_waits_for_a_daemon_that_starts_again(connect, monkeypatch, status):
    monkeypatch.setattr("remediator.client._PAUSE", 0.001)
    answers = [stream(event(RUN)), Recorder({"title": "Not ready"}, status), stream(event(ENDED))]

    async def handler(request):
        return await answers.pop(0)(request)

    client = await connect(handler)
    assert [run.state async for run in client.watch("r1")] == ["running", "healed"]


async def test_watch_ends_when_the_daemon_says_no(connect, monkeypatch):
    monkeypatch.setattr("remediator.client._PAUSE", 0.001)
    answers = [stream(event(RUN)), Recorder({"title": "Unauthorized"}, 401)]

    async def handler(request):
        return await answers.pop(0)(request)

    client = await connect(handler)
    with pytest.raises(ServerRefused, match="Unauthorized"):
        [run async for run in client.watch("r1")]
