"""A way to a server that a test can cut: it refuses, or it swallows everything without a word, until it is mended.

``refuse``: connections end at once, and new ones are refused by the kernel, as where nobody listens. ``swallow``: everything stays open
and nothing gets through, as behind a firewall that drops; what was sent meanwhile arrives once it is mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

HOST = "127.0.0.1"


class Proxy:
    """One way to one port of this machine. ``await open()`` first; ``close()`` in the end."""

    def __init__(self, target: int) -> None:
        self._target = target
        # Bound and never listening: it keeps the port ours while nobody listens there.
        self._place = _bound(0)
        self.port: int = self._place.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._through = asyncio.Event()
        self._through.set()
        self._lines: dict[asyncio.StreamWriter, int] = {}
        """To the server, each with its port on our side."""
        self.on_line: Callable[[int], None] = lambda port: None
        """Told of each new one's port."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def lines(self) -> AbstractSet[int]:
        """Our ports of the connections to the server: by these it knows the sessions that came this way."""
        return set(self._lines.values())

    async def open(self) -> None:
        """Listen, and let everything through."""
        self._through.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port))

    async def refuse(self) -> None:
        """Nobody gets through, and everybody is told."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def swallow(self) -> None:
        """Nobody gets through, and nobody is told."""
        self._through.clear()

    async def close(self) -> None:
        await self.refuse()
        self._place.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            await self._through.wait()
            back, there = await asyncio.open_connection(HOST, self._target)
            self._lines[there] = port = there.get_extra_info("sockname")[1]
            self.on_line(port)
            await asyncio.gather(self._pump(reader, there), self._pump(back, writer))
        except OSError:
            pass  # either side is gone: the other one hears of it below
        except asyncio.CancelledError:
            pass  # cut
        finally:
            for end in (writer, there):
                if end is not None:
                    end.transport.abort()
            if there is not None:
                self._lines.pop(there, None)
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65536):
            await self._through.wait()
            sink.write(chunk)
            await sink.drain()
        await self._through.wait()
        with contextlib.suppress(OSError):
            sink.write_eof()


def _bound(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((HOST, port))
    return one
