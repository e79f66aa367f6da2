"""An answer written in one piece is, byte by byte, the one that aiohttp writes, and keeps or closes the connection as that does."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web

from remediator.server.whole import Whole

BODY = '{"delivery":"01","alerts":10,"name":"Zürich"}'.encode()
HEADERS = {"Content-Type": "application/json", "Server": "remediator", "X-Request-ID": "abc"}
LAST = "GET /{kind}/200 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
DATE = re.compile(rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n")


@pytest.fixture
async def told():
    """Sends requests as they stand here, and gives all that is answered until the connection is closed. Whether ``Whole`` wrote each."""
    written = []

    async def answer(request):
        make = {"whole": Whole, "plain": web.Response}[request.match_info["kind"]]
        made = make(status=int(request.match_info["status"]), body=BODY, headers=HEADERS)
        written.append(made)
        return made

    app = web.Application()
    app.router.add_route("*", "/{kind}/{status}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    async def tell(kind, requests):
        reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        writer.write("".join(requests).replace("{kind}", kind).encode())
        answered = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answered, [isinstance(made, Whole) and made._written for made in written]

    yield tell
    await runner.cleanup()


@pytest.mark.parametrize(
    ("requests", "in_one_piece"),
    [
        (["GET /{kind}/200 HTTP/1.1\r\nHost: x\r\n\r\n", LAST], [True, False]),
        (["GET /{kind}/200 HTTP/1.1\r\nHost: x\r\n\r\n"] * 3 + [LAST], [True, True, True, False]),
        (["POST /{kind}/200 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", LAST], [True, False]),
        (["HEAD /{kind}/200 HTTP/1.1\r\nHost: x\r\n\r\n", LAST], [False, False]),
        (["GET /{kind}/404 HTTP/1.1\r\nHost: x\r\n\r\n", LAST], [False, False]),
        (["GET /{kind}/200 HTTP/1.0\r\nHost: x\r\n\r\n"], [False]),
        (["GET /{kind}/200 HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", LAST], [False, False]),
    ],
)
async def test_it_is_what_aiohttp_writes(told, requests, in_one_piece):
    whole, written = await told("whole", requests)
    assert written == in_one_piece
    plain, _ = await told("plain", requests)
    assert DATE.search(whole)
    assert DATE.sub(b"", whole) == DATE.sub(b"", plain)
    assert len(DATE.findall(whole)) == len(in_one_piece)
