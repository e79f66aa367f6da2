"""Simulations on a clock that stands still until told, and a webhook that answers what the test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.clock import ManualClock
from remediator.sim import Simulation


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def sim(clock):
    async with Simulation(clock=clock, seed=1) as sim:
        yield sim


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def seconds(sim):
    """Lets that much simulated time pass."""

    async def pass_by(count):
        await sim.run_for(timedelta(seconds=count))

    return pass_by


@pytest.fixture
def until():
    """Lets real things happen (sockets, processes) until ``look`` is true; bounded."""

    async def until(look):
        async with asyncio.timeout(10):
            while True:
                if look():
                    return
                await asyncio.sleep(0)

    return until


@dataclass
class Hook:
    """A webhook; answers ``answers`` in turn and 200 after that."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request):
        self.got.append(await request.json())
        self.tokens.append(request.headers.get("Authorization", ""))
        self.arrived.set()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def next(self):
        """Wait until something arrives that was not seen before."""
        await asyncio.wait_for(self.arrived.wait(), 10)
        self.arrived.clear()
        return self.got[-1]


@pytest.fixture
async def hook():
    hook = Hook()
    app = web.Application()
    app.router.add_post("/hook", hook.handle)
    async with TestServer(app) as server:
        hook.url = str(server.make_url("/hook"))
        yield hook
