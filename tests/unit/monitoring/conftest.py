"""A scripted HTTP server in place of Prometheus and Alertmanager."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Fake:
    """Answers every request in the same way until told otherwise, and remembers the requests."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.url = ""
        self.held = asyncio.Event()
        self.waiting = 0
        self.by_query: Callable[[str], Any] | None = None
        """Answers by the PromQL asked, where one test needs several answers."""
        self._body: bytes = b""
        self._status = 200
        self._headers: dict[str, str] = {}
        self._manner = "answer"

    def json(self, thing: Any, status: int = 200) -> None:
        self.text(json.dumps(thing), status)

    def text(self, body: str | bytes, status: int = 200, **headers: str) -> None:
        self._body = body.encode() if isinstance(body, str) else body
        self._status, self._headers, self._manner = status, headers, "answer"

    def vector(self, *samples: tuple[dict[str, str], str], at: float = 1_767_607_200.0) -> None:
        result = [{"metric": labels, "value": [at, value]} for labels, value in samples]
        self.json({"status": "success", "data": {"resultType": "vector", "result": result}})

    def manner(self, how: str) -> None:
        """``hang``: no answer before the test ends; ``drip``: a byte now and then for ever; ``cut``: the connection breaks."""
        self._manner = how

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.seen.append(request)
        if self.by_query is not None:
            return web.json_response({"status": "success", "data": self.by_query(request.query["query"])})
        match self._manner:
            case "hang":
                self.waiting += 1
                await self.held.wait()
                return web.Response()
            case "drip":
                return await self._drip(request)
            case "cut":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case _:
                return web.Response(body=self._body, status=self._status, headers=self._headers)

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        while not self.held.is_set():
            await response.write(b" ")
            await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.abort()
        return response


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    fake = Fake()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", fake.handle)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        yield fake
        fake.held.set()
