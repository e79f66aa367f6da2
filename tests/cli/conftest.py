"""A small stand-in for the daemon's API in a thread, and a way to call the CLI in this process or as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from remediator.cli import cli
from remediator.model import Run, encode, from_json

NOW = datetime(2026, 1, 5, 10, 30, 0, tzinfo=UTC)
RUN_ID = "01ke6sjv780000000000000001"

ALERT = {
    "name": "CiliumAgentDown",
    "fingerprint": "00f1a2b3c4d5e6f7",
    "starts_at": "2026-01-05T09:58:00Z",
    "ends_at": None,
    "status": "firing",
    "labels": {"alertname": "CiliumAgentDown", "node": "node-3"},
    "annotations": {},
    "generator_url": "",
}
GATES = [
    {"gate": "paused", "allowed": True, "reason": None, "detail": "", "at": "2026-01-05T10:00:01Z"},
    {"gate": "cooldown", "allowed": True, "reason": None, "detail": "", "at": "2026-01-05T10:00:01Z"},
]
REFUSING = [
    {"gate": "paused", "allowed": False, "reason": "paused", "detail": "by ana: switch upgrade", "at": "2026-01-05T10:00:01Z"},
    {"gate": "cooldown", "allowed": True, "reason": None, "detail": "", "at": "2026-01-05T10:00:01Z"},
    {"gate": "target_busy", "allowed": False, "reason": "target_busy", "detail": "run x is open", "at": "2026-01-05T10:00:01Z"},
]
CHANGE = {
    "id": "01ke6sjv780000000000000009",
    "run": RUN_ID,
    "step": "restart",
    "action": "cilium.restart_agent",
    "verb": "delete",
    "resource": {"kind": "Pod", "name": "cilium-x7k2p", "namespace": "kube-system", "uid": "11aa"},
    "before": {"metadata": {"uid": "11aa"}},
    "after": {"metadata": {"uid": "22bb"}},
    "request_id": "r-1",
    "state": "kept",
    "detail": "",
    "dry_run": False,
    "at": "2026-01-05T10:00:02Z",
    "ended_at": "2026-01-05T10:00:03Z",
}
STEP = {
    "name": "restart",
    "action": "cilium.restart_agent",
    "rung": 0,
    "index": 0,
    "state": "succeeded",
    "started_at": "2026-01-05T10:00:01Z",
    "ended_at": "2026-01-05T10:00:31Z",
    "attempts": 1,
    "outcome": "Pod cilium-9qwzt is ready on node-3.",
    "detail": "",
    "changes": [CHANGE],
    "evidence": [],
}
PROOF = {
    "started_at": "2026-01-05T10:00:31Z",
    "deadline": "2026-01-05T10:10:31Z",
    "hold_seconds": 60.0,
    "held_since": "2026-01-05T10:00:37Z",
    "healed": True,
    "checks": 14,
    "last": "1 sample: 1",
    "ended_at": "2026-01-05T10:01:37Z",
}


def a_run(**more):
    """A run in the API's shape, with every field that the model has by now."""
    return json.loads(encode(from_json(json.dumps(_run(**more)), Run)))


def _run(**more):
    return {
        "id": RUN_ID,
        "playbook": "cilium-agent-down",
        "revision": "0123456789ab",
        "trigger": {"kind": "alert", "by": "", "reason": ""},
        "dry_run": False,
        "alert": ALERT,
        "delivery": "01ke6sjt800000000000000002",
        "target": {"kind": "Node", "name": "node-3", "namespace": "", "uid": "7b1f"},
        "parameters": {},
        "state": "healed",
        "reason": "healed",
        "detail": "",
        "rung": 0,
        "started_at": "2026-01-05T10:00:01Z",
        "ended_at": "2026-01-05T10:01:37Z",
        "deadline": "2026-01-05T10:30:01Z",
        "disruptive": True,
        "gates": GATES,
        "steps": [STEP],
        "verification": PROOF,
        "cancel": "",
        **more,
    }


def looks():
    """One run as its stream shows it: begun, its step begun, its step done, proving, ended."""
    running = {**STEP, "state": "running", "ended_at": None, "outcome": "", "changes": []}
    fresh = {"state": "running", "reason": None, "ended_at": None, "verification": None}
    proving = {**PROOF, "healed": None, "ended_at": None}
    return [
        a_run(**fresh, steps=[{**running, "state": "pending", "started_at": None}]),
        a_run(**fresh, steps=[running]),
        a_run(**fresh, steps=[{**running, "changes": [{**CHANGE, "state": "intended", "ended_at": None}]}]),
        a_run(**fresh, steps=[STEP]),
        a_run(**{**fresh, "state": "verifying", "verification": {**proving, "held_since": None}}),
        a_run(**{**fresh, "state": "verifying", "verification": proving}),
        a_run(),
    ]


QUESTION = {
    "step": None,
    "question": "May cilium-agent-down act on Node/node-3?",
    "people": 2,
    "asked_at": "2026-01-05T10:00:01Z",
    "expires_at": "2026-01-05T14:00:01Z",
    "state": "waiting",
    "answers": [{"by": "ana@laptop", "at": "2026-01-05T10:10:00Z", "approved": True, "reason": "the node is idle"}],
}


def a_waiting_run(**more):
    """One that waits for people before its beginning, with its plan."""
    pending = {"state": "pending", "started_at": None, "ended_at": None, "outcome": "", "changes": [], "attempts": 0}
    plan = ["delete Pod/kube-system/cilium-x7k2p", "wait until the new agent is ready for 30s"]
    seen = [{"name": "preview", "at": "2026-01-05T10:00:02Z", "data": plan}]
    restart = {**STEP, **pending, "parameters": {"ready_for": "30s"}, "evidence": seen}
    look = {**STEP, **pending, "name": "look", "action": "prometheus.query", "index": 1, "parameters": {"query": "up"}}
    fresh = {"state": "awaiting_approval", "reason": None, "ended_at": None, "verification": None, "steps": [restart, look]}
    return a_run(**{**fresh, "approvals": [QUESTION], **more})


class FakeApi:
    """Answers what it is told to answer, and remembers what it was asked."""

    def __init__(self):
        self.answers, self.asked, self.streams = {}, [], {}
        self.states = []
        """Of each request, the values of ``state``, which may come several times."""
        self.url = ""

    def answer(self, method, path, data=None, *, status=200, raw=None):
        self.answers[method, path] = (status, raw if raw is not None else json.dumps(data))

    def page(self, path, *items, after=None):
        self.answer("GET", path, {"items": list(items), "next": after})

    def refuse(self, method, route, status, title, detail, **more):
        self.answer(method, route, {"title": title, "detail": detail, "status": status, **more}, status=status)

    def stream(self, path, *attempts):
        """What each connection to ``path`` sends before it is closed; the last one repeats."""
        self.streams[path] = list(attempts)

    async def handle(self, request):
        body = await request.read()
        self.asked.append((request.method, request.path, dict(request.query), request.headers.get("Authorization"), body))
        self.states.append(request.query.getall("state", []))
        if request.path in self.streams:
            return await self._stream(request)
        status, text = self.answers.get((request.method, request.path), (404, '{"title": "Not found", "detail": "no such route"}'))
        kind = "application/json" if status < 400 else "application/problem+json"
        return web.Response(status=status, text=text, content_type=kind)

    async def _stream(self, request):
        attempts = self.streams[request.path]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n\n")
        for run in attempts.pop(0) if len(attempts) > 1 else attempts[0]:
            await response.write(f"event: run\nid: 1\ndata: {json.dumps(run)}\n\n".encode())
        return response

    @property
    def body(self):
        """The JSON of the last request."""
        return json.loads(self.asked[-1][4])


@pytest.fixture
def api():
    fake = FakeApi()
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", fake.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield fake
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def still(monkeypatch):
    """Ages count to 2026-01-05 10:30:00."""
    monkeypatch.setattr("remediator.cli.output.now", lambda: NOW)
    monkeypatch.setattr("remediator.cli.views.now", lambda: NOW)
    monkeypatch.setattr("remediator.cli.status.now", lambda: NOW)


@pytest.fixture
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("REMEDIATOR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def call(environment):
    """Call the CLI in this process: ``call("runs", "list")`` gives a result with exit_code, stdout and stderr."""

    def run(*args, env=None, stdin=None):
        return CliRunner().invoke(cli, [str(arg) for arg in args], env=env, input=stdin, prog_name="remediator")

    return run


@pytest.fixture
def ask(call, api):
    """``call`` with the stand-in's address."""

    def run(*args, **more):
        return call(*args, "--server", api.url, **more)

    return run


@pytest.fixture
def process(environment):
    """Call the CLI as a process of its own."""

    def run(*args, env=None, stdin=b""):
        return subprocess.run(
            [sys.executable, "-m", "remediator", *map(str, args)],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            env={**{k: v for k, v in os.environ.items() if not k.startswith("REMEDIATOR_")}, **(env or {})},
        )

    return run


@pytest.fixture
def golden(request):
    """Compare with tests/cli/golden/NAME.txt; GOLDEN=write makes the files anew, for a person to read in the diff."""

    def compare(text, name=None):
        name = name or request.node.name.removeprefix("test_")
        path = Path(__file__).parent / "golden" / f"{name}.txt"
        if os.environ.get("GOLDEN") == "write":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def runs():
    """Runs in the API's shape: ``runs.one(state=...)``, ``runs.looks()``, and the pieces they are made of."""

    class Runs:
        id, one, looks, waiting = RUN_ID, staticmethod(a_run), staticmethod(looks), staticmethod(a_waiting_run)
        question = QUESTION
        alert, gates, refusing, change, step, proof = ALERT, GATES, REFUSING, CHANGE, STEP, PROOF

    return Runs
