"""A connection that makes no request, or takes no answer, is not held for ever; and there are no more of them than a ceiling."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import time

import pytest
import uvloop
from aiohttp import web

from remediator.server import connections
from remediator.server.connections import Connections

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\n"
BIG = WHOLE.replace(b"/ ", b"/big ", 1)
LARGE = 10_000_000
SHORT = 0.3
LONG = 30.0


def on_both_loops(test):
    """The daemon's loop is uvloop, that of tests and tools the standard library's; their transports differ."""

    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
    def wrapped(run, **given):
        run(test(**given))

    own = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("run", *inspect.signature(test).parameters)]
    wrapped.__signature__ = inspect.Signature(own)
    return wrapped


class Port:
    """A server with these limits, and bare connections to it."""

    def __init__(self, **limits):
        self.limits = limits
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()

    async def _answer(self, request):
        self.asked.set()
        if request.path == "/slow":
            await self.gate.wait()
        if request.path == "/big":
            return web.Response(body=b"x" * 50_000_000)
        if request.path == "/large":
            return web.Response(body=b"x" * LARGE)
        await request.read()
        return web.Response(text="here")

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self.runner.setup()
        self.connections = Connections(self.runner.server, **self.limits)
        self.listening = await asyncio.get_running_loop().create_server(self.connections, "127.0.0.1", 0)
        self.address = self.listening.sockets[0].getsockname()
        self.writers = []
        return self

    async def __aexit__(self, *_):
        self.gate.set()
        for writer in self.writers:
            writer.close()
        self.listening.close()
        await self.runner.cleanup()

    async def open(self, data=b"", *, buffer=None):
        line = socket.socket()
        line.setblocking(False)
        if buffer is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(line, self.address)
        reader, writer = await asyncio.open_connection(sock=line)
        self.writers.append(writer)
        writer.write(data)
        return reader, writer

    async def settled(self, count):
        """Until so many are open."""
        for _ in range(1000):
            if len(self.connections) == count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(self.connections)} are open, not {count}")


async def ended(reader, seconds=10.0):
    """Everything until the server closes."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), seconds)
    return b""


async def answered(reader):
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    await asyncio.wait_for(reader.readexactly(4), 10)
    return head.split(b"\r\n")[0]


@pytest.mark.parametrize("data", [b"", BEGUN, b"\r\n", b"G"])
@on_both_loops
async def test_a_head_that_never_ends_has_an_end(data):
    async with Port(head_seconds=SHORT) as port:
        begun = time.monotonic()
        reader, _ = await port.open(data)
        assert await ended(reader) == b""
        assert SHORT * 0.9 < time.monotonic() - begun < 5
        await port.settled(0)


@on_both_loops
async def test_bytes_now_and_then_buy_no_time():
    async with Port(head_seconds=SHORT) as port:
        reader, writer = await port.open(BEGUN)
        begun = time.monotonic()

        async def trickle():
            with contextlib.suppress(ConnectionError):
                for number in range(100):
                    writer.write(b"x-%d: 1\r\n" % number)
                    await asyncio.sleep(SHORT / 10)

        task = asyncio.create_task(trickle())
        await ended(reader)
        assert time.monotonic() - begun < 5
        task.cancel()


@on_both_loops
async def test_a_later_head_has_an_end_too():
    async with Port(head_seconds=SHORT) as port:
        reader, writer = await port.open(WHOLE)
        assert await answered(reader) == b"HTTP/1.1 200 OK"
        writer.write(BEGUN)
        assert await ended(reader) == b""


@on_both_loops
async def test_a_connection_that_is_kept_open_between_requests_stays():
    async with Port(head_seconds=SHORT) as port:
        reader, writer = await port.open(WHOLE)
        assert await answered(reader) == b"HTTP/1.1 200 OK"
        await asyncio.sleep(SHORT * 2)
        writer.write(WHOLE[:10])
        await asyncio.sleep(SHORT / 10)
        writer.write(WHOLE[10:])
        assert await answered(reader) == b"HTTP/1.1 200 OK"
        await asyncio.sleep(SHORT * 2)
        writer.write(WHOLE)
        assert await answered(reader) == b"HTTP/1.1 200 OK"


@on_both_loops
async def test_a_request_may_take_longer_than_its_head():
    async with Port(head_seconds=SHORT) as port:
        slow, _ = await port.open(WHOLE.replace(b"/ ", b"/slow ", 1))
        body, writer = await port.open(BEGUN + b"Content-Length: 2\r\n\r\n1")
        await asyncio.sleep(SHORT * 2)
        port.gate.set()
        writer.write(b"2")
        assert await answered(slow) == b"HTTP/1.1 200 OK"
        assert await answered(body) == b"HTTP/1.1 200 OK"


@on_both_loops
async def test_a_client_that_takes_no_answer_is_let_go():
    async with Port(write_seconds=SHORT) as port:
        mute = socket.socket()
        mute.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(mute, port.address)
        await loop.sock_sendall(mute, BIG)
        await asyncio.wait_for(port.asked.wait(), 10)
        await port.settled(0)
        mute.close()


@on_both_loops
async def test_a_client_that_takes_its_time_gets_all_of_it():
    """What a handler writes at once may take longer than a piece of it."""
    async with Port(write_seconds=0.5) as port:
        reader, writer = await port.open(buffer=128 * 1024)
        writer.write(WHOLE.replace(b"/ ", b"/large ", 1).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        taken, begun = 0, time.monotonic()
        while piece := await asyncio.wait_for(reader.read(256 * 1024), 10):
            taken += len(piece)
            await asyncio.sleep(0.03)
        assert taken > LARGE
        assert time.monotonic() - begun > 1


@on_both_loops
async def test_beyond_the_ceiling_those_go_that_nobody_needs():
    """First what waits for its head, then what is kept open, the longest open first; nothing that is at work."""
    async with Port(most=3, head_seconds=LONG) as port:
        kept, _ = await port.open(WHOLE)
        assert await answered(kept) == b"HTTP/1.1 200 OK"
        slow, _ = await port.open(WHOLE.replace(b"/ ", b"/slow ", 1))
        begun, _ = await port.open(BEGUN)
        await port.settled(3)
        first, _ = await port.open(WHOLE.replace(b"/ ", b"/slow ", 1))
        assert await ended(begun) == b"", "it waited for its head"
        second, _ = await port.open(WHOLE.replace(b"/ ", b"/slow ", 1))
        assert await ended(kept) == b"", "it was kept open between two requests"
        refused, _ = await port.open(WHOLE)
        assert await ended(refused) == b"", "all others are at work"
        assert len(port.connections) == 3
        port.gate.set()
        for reader in (slow, first, second):
            assert await answered(reader) == b"HTTP/1.1 200 OK"
        again, _ = await port.open(WHOLE)
        assert await answered(again) == b"HTTP/1.1 200 OK"


@on_both_loops
async def test_who_opens_connections_without_end_keeps_nobody_out():
    async with Port(most=20, head_seconds=LONG) as port:
        for _ in range(100):
            await port.open(BEGUN)
        reader, _ = await port.open(WHOLE)
        assert await answered(reader) == b"HTTP/1.1 200 OK"
        assert len(port.connections) <= 20


def test_the_limits_are_those_of_the_documentation():
    assert (connections.HEAD_SECONDS, connections.WRITE_SECONDS, connections.MOST) == (15.0, 30.0, 512)
