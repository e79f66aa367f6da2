from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer


class Receiver:
    """A webhook that answers as told, one status after the other, the last for ever."""

    def __init__(self):
        self.statuses = [200]
        self.calls = []
        self.news = asyncio.Event()

    async def handle(self, request):
        self.calls.append((request.headers, await request.read()))
        self.news.set()
        status = self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0)
        return web.Response(status=status)


@pytest.fixture
async def receiver():
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", receiver.handle)
    async with TestServer(app) as server:
        receiver.url = str(server.make_url("/hook/s3cr3t-path"))
        yield receiver
