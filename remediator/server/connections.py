"""Who may hold a connection, and for how long. In: connections to the port; out: aiohttp's handler for each.

Whoever reaches the port can open connections without a token, and aiohttp waits for ever for a request whose head never ends, and for a
client that takes no answer. So both have an end here, and all connections together a ceiling: beyond it one that nobody needs goes for each
new one, first what waits for its head, then what is kept open between two requests, the longest open first. One with a request under way
goes for no other. The seconds are real ones, as they are about connections.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import structlog
from aiohttp import web

__all__ = ["HEAD_SECONDS", "MOST", "WRITE_SECONDS", "Connections"]

HEAD_SECONDS = 15.0
"""From the connection, or from the first byte of a later request, until the head of the request is whole."""
WRITE_SECONDS = 30.0
"""In which a client takes 64 KiB of what waits for it, or the rest. Streams have an end of their own, which is sooner."""
_PIECE = 64 * 1024
MOST = 512
"""Open at once. Alertmanager, Prometheus and a gateway need some dozens, and 64 may be streams."""

_log = structlog.get_logger(__name__)
_GOES, _WAITS, _KEPT, _WORKS = range(4)


class Connections:
    """What ``loop.create_server`` calls for each connection; ``server`` is aiohttp's, which ends them all when it shuts down."""

    def __init__(
        self, server: web.Server, *, head_seconds: float = HEAD_SECONDS, write_seconds: float = WRITE_SECONDS, most: int = MOST
    ) -> None:
        self.head_seconds, self.write_seconds = head_seconds, write_seconds
        self._server = server
        self._most = most
        self._open: dict[_Connection, None] = {}
        self._crowded = False

    def __call__(self) -> asyncio.Protocol:
        """A handler for a new connection."""
        return _Connection(self, self._server, asyncio.get_running_loop())

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def opened(self, connection: _Connection) -> None:
        """One more; if those are too many, one less."""
        if len(self._open) < self._most:
            self._open[connection] = None
            self._crowded = self._crowded and len(self._open) > self._most // 2
            return
        if not self._crowded:
            self._crowded = True
            _log.warning("too many connections are open; those that nobody needs are closed for new ones", open=len(self._open))
        found = min(self._open, key=_Connection.standing)
        if found.standing() == _WORKS:
            connection.cut()
            return
        del self._open[found]
        self._open[connection] = None
        found.cut()

    def closed(self, connection: _Connection) -> None:
        """One less."""
        self._open.pop(connection, None)


class _Connection(web.RequestHandler):
    """aiohttp's handler of one connection, which gives up on a head or a reader that takes too long."""

    __slots__ = ("_connections", "_head", "_line", "_write")

    def __init__(self, connections: Connections, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        given: dict[str, Any] = {"access_log": None}
        super().__init__(server, loop=loop, **given)
        self._connections = connections
        self._line: asyncio.Transport | None = None
        """Kept when aiohttp closes it, until everything is written, which may be never."""
        self._head: asyncio.TimerHandle | None = None
        self._write: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._line = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._head = self._loop.call_later(self._connections.head_seconds, self.cut)
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        self._connections.closed(self)
        self._heard()
        self._taken()
        self._line = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. What comes between two requests and makes none is the beginning of a head."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._heard()
        elif data and self._head is None and self._idle():
            self._head = self._loop.call_later(self._connections.head_seconds, self.cut)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client does not take what it asked for."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._taken()
        super().resume_writing()

    def standing(self) -> int:
        """How much this connection is needed; the least goes first."""
        if self._line is None or self._line.is_closing():
            return _GOES
        if self._head is not None:
            return _WAITS
        return _KEPT if self._idle() else _WORKS

    def cut(self) -> None:
        """Close it without waiting for what is not written yet."""
        if self._line is not None:
            self._line.abort()
        self.force_close()

    def _idle(self) -> bool:
        """Whether aiohttp waits for a request."""
        return self._waiter is not None and not self._waiter.done()

    def _watch(self) -> None:
        left = self._line.get_write_buffer_size() if self._line is not None else 0
        self._write = self._loop.call_later(self._connections.write_seconds, self._look, left)

    def _look(self, before: int) -> None:
        if self._line is None or before - self._line.get_write_buffer_size() < _PIECE:
            self.cut()
        else:
            self._watch()

    def _heard(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _taken(self) -> None:
        if self._write is not None:
            self._write.cancel()
            self._write = None
