"""Stands between the daemon and a Kubernetes API, simulated or real, so that a test can stop a call at a chosen point.

Everything is passed on unchanged. ``hold`` sets a trap for one request: it is kept back before it reaches the API, or its answer is,
until the test lets it go. A request that is held belongs to the network: it goes on even if the daemon that sent it is dead by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    import ssl

_OWN = ("connection", "keep-alive", "transfer-encoding", "content-length", "host")
"""Headers of one connection, not of the message."""


@dataclass(frozen=True)
class Sent:
    """A call that left the daemon and was meant to change the cluster."""

    method: str
    path: str
    audit_id: str
    dry_run: bool
    body: Any


@dataclass(eq=False)
class Trap:
    """One request that is stopped. ``reached`` is set when it is there."""

    method: str
    path: str
    when: Literal["before", "after"]
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: bool = False

    def fits(self, request: web.Request) -> bool:
        return not self.reached.is_set() and request.method == self.method and bool(re.search(self.path, request.path_qs))

    def release(self) -> None:
        """Let it go on."""
        self.released.set()

    def drop(self) -> None:
        """Cut the connection instead."""
        self.dropped = True
        self.released.set()


class Between:
    """The man in the middle. ``tls``: how to trust an API that is behind https."""

    def __init__(self, behind: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.sent: list[Sent] = []
        self.url = ""
        self._behind = behind
        self._tls = tls
        self._traps: list[Trap] = []

    async def __aenter__(self) -> Self:
        # No time-out: a watch lasts, and when a call is too late is for the daemon to say.
        connector = aiohttp.TCPConnector(ssl=self._tls or True, limit=0)
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=connector, timeout=aiohttp.ClientTimeout())
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for trap in self._traps:
            trap.drop()
        await self._runner.cleanup()
        await self._session.close()

    def hold(self, method: str, path: str, when: Literal["before", "after"] = "before") -> Trap:
        """Stop the next request that fits (``path`` is searched for in path and query)."""
        trap = Trap(method, path, when)
        self._traps.append(trap)
        return trap

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if request.method in ("POST", "PUT", "PATCH", "DELETE") and not _asks(request.path):
            audit_id, dry_run = request.headers.get("Audit-ID", ""), "dryRun" in request.query
            self.sent.append(Sent(request.method, request.path, audit_id, dry_run, json.loads(raw) if raw else None))
        trap = next((trap for trap in self._traps if trap.fits(request)), None)
        if trap is not None and trap.when == "before" and not await _let_go(trap):
            return _cut(request)
        answer = await self._passed_on(request, raw)
        if trap is not None and trap.when == "after" and not await _let_go(trap):
            return _cut(request)
        return answer

    async def _passed_on(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        async with self._session.request(request.method, self._behind + request.path_qs, data=raw or None, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
            if request.query.get("watch"):
                return await _streamed(request, answer, kept)
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


async def _streamed(request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]) -> web.StreamResponse:
    """A watch goes on as it comes; it ends when either side does."""
    stream = web.StreamResponse(status=answer.status, headers=headers)
    await stream.prepare(request)
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async for chunk in answer.content.iter_any():
            await stream.write(chunk)
    return stream


def _asks(path: str) -> bool:
    """Whether a write is none: the gates ask for our rights, and try whether a lease could be written."""
    return path.endswith("reviews") or "/kube-node-lease/" in path


async def _let_go(trap: Trap) -> bool:
    trap.reached.set()
    await trap.released.wait()
    return not trap.dropped


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)
