"""Answers without an end in sight: server-sent events and the journal's export. Each client costs a bounded amount, or is cut off.

A write that the client does not take within ``write_seconds`` ends its stream. Quiet streams get a comment now and then, so that proxies
keep them and a client that has gone is noticed. All streams end when the daemon shuts down.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from aiohttp import web

from remediator.journal import lines_of
from remediator.model import encode
from remediator.server.auth import Scope
from remediator.server.middleware import REQUEST_ID, dress
from remediator.server.problems import RETRY_AFTER, HttpProblem
from remediator.server.records import the_run
from remediator.server.routing import Route

if TYPE_CHECKING:
    from types import TracebackType

    from remediator.server.routing import Call

__all__ = ["OPEN_STREAMS", "ROUTES", "Stream"]

EVENTS = "text/event-stream"
LINES = "application/jsonl"
OPEN_STREAMS = web.AppKey("open_streams", set)
_PIECE = 64 * 1024
_AGAIN = b"retry: 500\n\n"
"""Milliseconds after which a browser that was cut off comes back; by itself it would be three seconds behind."""


class _Slow(Exception):  # noqa: N818 - not an error: the stream ends
    """The client does not take what it is sent."""


class Stream:
    """One stream to one client: an async context manager that ends the response however it is left."""

    def __init__(self, call: Call, media: str) -> None:
        self._call = call
        self._open: set[Stream] = call.request.app[OPEN_STREAMS]
        if len(self._open) >= call.hall.streams:
            raise HttpProblem(503, "Too many streams", f"{len(self._open)} are open already.", headers=RETRY_AFTER)
        self.response = web.StreamResponse(headers={"Content-Type": media, "X-Accel-Buffering": "no"})
        dress(self.response, call.request[REQUEST_ID])

    async def __aenter__(self) -> Self:
        """Send the headers."""
        self._open.add(self)
        await self.response.prepare(self._call.request)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Cut off a client that is too slow; take it as the end if it has gone."""
        self._open.discard(self)
        transport = self._call.request.transport
        if error is not None and transport is not None:
            transport.abort()  # a clean end of the body would say that this was all
        return isinstance(error, _Slow | ConnectionError)

    async def write(self, data: bytes) -> None:
        """Send ``data``; ends the stream if the client does not take it in time."""
        try:
            async with asyncio.timeout(self._call.hall.write_seconds):
                await self.response.write(data)
        except TimeoutError:
            raise _Slow from None

    async def event(self, name: str, data: bytes) -> None:
        """One server-sent event; ``data`` is JSON on one line."""
        await self.write(b"event: %b\ndata: %b\n\n" % (name.encode(), data))

    async def beat(self) -> None:
        """A comment, which readers of events skip."""
        await self.write(b":\n\n")


async def watch(call: Call) -> web.StreamResponse:
    """``GET /api/v1/runs/{id}/watch``: the run whenever it changes; ends when the run ends.

    The run is read again at every beat too, so that changes by another replica show.
    """
    run = await the_run(call)
    feed, journal = call.service.feed, call.service.journal
    async with Stream(call, EVENTS) as stream:
        sent = b""
        while True:
            seen = feed.version(run.id)
            run = await journal.run(run.id) or run
            data = encode(run)
            await (stream.event("run", data) if data != sent else stream.beat())
            sent = data
            if not run.state.open or feed.closed:
                break
            try:
                async with asyncio.timeout(call.hall.beat_seconds):
                    await feed.next_change(run.id, seen)
            except TimeoutError:
                continue
    return stream.response


async def events(call: Call) -> web.StreamResponse:
    """``GET /events``: a notice of everything that changes, to read again what is shown. A listener that falls behind is cut off."""
    feed = call.service.feed
    listener = feed.listen()
    try:
        async with Stream(call, EVENTS) as stream:
            await stream.write(_AGAIN)
            while not listener.dropped:
                try:
                    async with asyncio.timeout(call.hall.beat_seconds):
                        notice = await listener.get()
                except TimeoutError:
                    await stream.beat()
                    continue
                if notice is None:
                    break
                await stream.event(notice.kind, encode(notice))
        return stream.response
    finally:
        feed.leave(listener)


async def export(call: Call) -> web.StreamResponse:
    """``GET /api/v1/journal/export``: every entry, oldest first, one line of JSON each, and a last line that says that it is whole."""
    async with Stream(call, LINES) as stream:
        lines: list[bytes] = []
        size = 0
        async for line in lines_of(call.service.journal.export()):
            lines.append(line)
            size += len(line)
            if size > _PIECE:
                await stream.write(b"".join(lines))
                lines, size = [], 0
        await stream.write(b"".join(lines))
    return stream.response


ROUTES = tuple(
    Route(method="GET", path=path, scope=Scope.READ, handler=handler, summary=summary, media=media, streams=True, browser=path == "/events")
    for path, handler, summary, media in (
        ("/api/v1/runs/{id}/watch", watch, "A run, whenever it changes, until it ends (server-sent events)", EVENTS),
        ("/events", events, "A notice of everything that changes (server-sent events)", EVENTS),
        ("/api/v1/journal/export", export, "The whole journal, a line of JSON an entry", LINES),
    )
)
