"""A daemon's API of one route, whose answers each test writes itself."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.client import Client


@pytest.fixture
async def serving():
    """``url = await serving(handler)``: everything is answered by ``handler``."""
    servers = []

    async def serve(handler):
        async def handle(request):
            return await handler(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return str(server.make_url("")).rstrip("/")

    yield serve
    for server in servers:
        await server.close()


@pytest.fixture
async def connect(serving):
    """``client = await connect(handler, ...)``"""
    clients = []

    async def make(handler, **more):
        client = Client(await serving(handler), **more)
        clients.append(client)
        return await client.__aenter__()

    yield make
    for client in clients:
        await client.close()
