"""A scripted API server: answers what the test tells it to, in order, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.kube import Kube

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Stream:
    """A watch that the test writes to; ``end`` closes it in good order, ``cut`` tears the connection."""

    response: web.StreamResponse
    request: web.Request
    query: dict[str, str]
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, kind: str, thing: dict[str, Any]) -> None:
        await self.raw(json.dumps({"type": kind, "object": thing}).encode() + b"\n")

    async def raw(self, data: bytes) -> None:
        await self.response.write(data)

    def end(self) -> None:
        self.over.set()

    def cut(self) -> None:
        assert self.request.transport is not None
        self.request.transport.abort()
        self.over.set()


class Script:
    """The server. Answers are queued with the methods; ``forever`` is given when the queue is empty."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.queue: deque[Answer] = deque()
        self.forever: Answer | None = None
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.url = ""
        self._over = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.seen.append(Seen(request.method, request.raw_path.partition("?")[0], dict(request.query), dict(request.headers), body))
        answer = self.queue.popleft() if self.queue else self.forever
        assert answer is not None, f"not in the script: {request.method} {request.path_qs}"
        return await answer(request)

    def json(self, thing: Any, status: int = 200, **headers: str) -> None:
        self.text(json.dumps(thing), status, "application/json", **headers)

    def text(self, text: str | bytes, status: int = 200, kind: str = "text/html", **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            body = text.encode() if isinstance(text, str) else text
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(body=body, status=status, content_type=kind, headers=named)

        self.queue.append(answer)

    def status(self, status: int, reason: str = "", message: str = "", causes: tuple[tuple[str, str], ...] = (), **headers: str) -> None:
        self.json(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "code": status,
                "reason": reason,
                "message": message,
                "details": {"causes": [{"reason": r, "message": m} for r, m in causes]},
            },
            status,
            **headers,
        )

    def cut(self) -> None:
        """The connection breaks before anything was answered."""

        async def answer(request: web.Request) -> web.Response:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        self.queue.append(answer)

    def half(self) -> None:
        """The connection breaks in the middle of the body."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"kind": "Po')
            assert request.transport is not None
            request.transport.abort()
            return response

        self.queue.append(answer)

    def hang(self, *, after: bytes | None = None, status: int = 200) -> None:
        """No answer until the test is over; with ``after``, none after these bytes of the body."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=status)
            if after is not None:
                await response.prepare(request)
                await response.write(after)
            await self._over.wait()
            return response

        self.queue.append(answer)

    def slow(self, seconds: float, thing: Any, status: int = 200) -> None:
        async def answer(_: web.Request) -> web.Response:
            await asyncio.sleep(seconds)
            return web.json_response(thing, status=status)

        self.queue.append(answer)

    def stream(self) -> None:
        """A watch; it appears in ``streams`` when the client opened it."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            stream = Stream(response, request, dict(request.query))
            self.streams.put_nowait(stream)
            ending = [asyncio.ensure_future(stream.over.wait()), asyncio.ensure_future(self._over.wait())]
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            for task in ending:
                task.cancel()
            return response

        self.queue.append(answer)

    def stop(self) -> None:
        self._over.set()


class QuickClock:
    """Nobody waits on it; it remembers for how long they would have."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 5, 10, tzinfo=UTC)

    async def sleep(self, duration: timedelta) -> None:
        self.slept.append(duration.total_seconds())
        await asyncio.sleep(0)


@pytest.fixture
async def api() -> AsyncIterator[Script]:
    script = Script()
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{tail:.*}", script.handle)
    async with TestServer(app) as server:
        script.url = str(server.make_url("")).rstrip("/")
        yield script
        script.stop()


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()


@pytest.fixture
async def connect(api: Script, clock: QuickClock) -> AsyncIterator[Callable[..., Awaitable[Kube]]]:
    """Makes doors to the scripted server and closes them."""
    made: list[Kube] = []

    async def make(**settings: Any) -> Kube:
        if "kubeconfig" not in settings:
            settings.setdefault("server", api.url)
        settings.setdefault("clock", clock)
        made.append(await Kube.connect(**settings))
        return made[-1]

    yield make
    for kube in made:
        await kube.close()


@pytest.fixture
async def kube(connect: Callable[..., Awaitable[Kube]]) -> Kube:
    return await connect(timeout=timedelta(seconds=5))


@pytest.fixture
def pod() -> Callable[..., dict[str, Any]]:
    def make(name: str = "a", version: int = 1, uid: str = "", **spec: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
        return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec}

    return make
