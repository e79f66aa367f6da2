"""Streams follow what changes, end when there is nothing more to say, and cut off clients that do not keep up."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from remediator.clock import ManualClock
from remediator.model import RunState
from remediator.server import Tokens, build_app

TOKENS_OPEN = Tokens(insecure=True)


class Events:
    """Reads server-sent events."""

    def __init__(self, response):
        self.response = response

    async def line(self) -> str:
        return (await asyncio.wait_for(self.response.content.readline(), 5)).decode()

    async def next(self):
        """The next event's name and data; None at the end of the stream; comments are passed over."""
        name = None
        while line := await self.line():
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                return name, json.loads(line[6:])
        return None


@pytest.fixture
async def follow(api):
    responses = []

    async def start(path, on=api):
        response = await on.client.get(path, headers={"Authorization": "Bearer read-secret"})
        assert response.status == 200
        responses.append(response)
        return Events(response)

    yield start
    for response in responses:
        response.close()


class TestWatch:
    async def test_it_shows_every_state_and_ends_with_the_run(self, api, service, run, follow):
        service.journal.the_runs["run-1"] = run()
        events = await follow("/api/v1/runs/run-1/watch")
        assert events.response.content_type == "text/event-stream"
        for state in (RunState.RUNNING, RunState.VERIFYING, RunState.HEALED):
            service.journal.the_runs["run-1"] = run(state=state)
            service.feed.publish("run", "run-1")
            name, data = await events.next()
            while data["state"] != state:
                name, data = await events.next()
            assert name == "run"
        assert await events.next() is None

    async def test_a_run_that_has_ended_is_shown_once(self, service, run, follow):
        service.journal.the_runs["run-1"] = run(state=RunState.HEALED)
        events = await follow("/api/v1/runs/run-1/watch")
        assert (await events.next())[1]["state"] == "healed"
        assert await events.next() is None

    async def test_a_change_by_another_replica_shows_at_the_next_beat(self, serve, service, run, follow):
        api = await serve(service, beat_seconds=0.01)
        service.journal.the_runs["run-1"] = run()
        events = await follow("/api/v1/runs/run-1/watch", api)
        assert (await events.next())[1]["state"] == "running"
        assert [await events.line() for _ in range(3)] == ["\n", ":\n", "\n"]
        service.journal.the_runs["run-1"] = run(state=RunState.FAILED)
        assert (await events.next())[1]["state"] == "failed"

    async def test_what_did_not_change_is_not_sent_again(self, service, run, follow):
        service.journal.the_runs["run-1"] = run()
        events = await follow("/api/v1/runs/run-1/watch")
        await events.next()
        service.feed.publish("run", "run-1")
        service.feed.publish("run", "other")
        assert [await events.line() for _ in range(3)] == ["\n", ":\n", "\n"]

    async def test_a_client_that_has_gone_is_forgotten(self, serve, service, run, follow):
        api = await serve(service, beat_seconds=0.01, max_streams=1)
        service.journal.the_runs["run-1"] = run()
        events = await follow("/api/v1/runs/run-1/watch", api)
        await events.next()
        busy = await api("GET", "/api/v1/runs/run-1/watch")
        assert (await api.problem_in(busy, 503))["title"] == "Too many streams"
        events.response.close()
        service.journal.the_runs["run-1"] = run(state=RunState.HEALED)
        async with asyncio.timeout(5):
            while (await api("GET", "/api/v1/runs/run-1/watch")).status != 200:  # noqa: ASYNC110 - nothing tells when it was noticed
                await asyncio.sleep(0.01)


class TestEvents:
    async def test_everything_that_changes_is_noticed(self, service, follow):
        events = await follow("/events")
        assert await events.line() == "retry: 500\n", "a browser that was cut off comes back soon"
        service.feed.publish("run", "run-1")
        service.feed.publish("delivery", "d1")
        assert await events.next() == ("run", {"seq": 1, "kind": "run", "ref": "run-1"})
        assert await events.next() == ("delivery", {"seq": 2, "kind": "delivery", "ref": "d1"})

    async def test_it_beats_while_it_is_quiet(self, serve, service, follow):
        events = await follow("/events", await serve(service, beat_seconds=0.01))
        assert [await events.line() for _ in range(6)] == ["retry: 500\n", "\n", ":\n", "\n", ":\n", "\n"]

    async def test_a_listener_that_falls_behind_is_cut_off(self, service, follow):
        events = await follow("/events")
        await events.line()
        for number in range(9):  # one more than the queue holds, before the listener gets a turn
            service.feed.publish("run", f"run-{number}")
        assert await events.next() is None
        assert service.feed.listeners == 0

    async def test_a_client_that_does_not_read_is_cut_off(self, serve, service):
        api = await serve(service, write_seconds=0.05)
        async with api.raw() as (reader, writer):
            writer.transport.pause_reading()
            writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer read-secret\r\n\r\n")
            async with asyncio.timeout(10):
                while not service.feed.listeners:  # noqa: ASYNC110 - nothing tells when a stream has begun
                    await asyncio.sleep(0)
                while service.feed.listeners:
                    service.feed.publish("run", "x" * 100_000)
                    await asyncio.sleep(0.001)
            del reader

    async def test_streams_end_when_the_server_does(self, service, run):
        service.journal.the_runs["run-1"] = run()
        server = TestServer(build_app(service, tokens=TOKENS_OPEN, clock=ManualClock()), access_log=None)
        await server.start_server()
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET /api/v1/runs/run-1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"event: run")
        async with asyncio.timeout(5):
            await server.close()
        assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()


class TestExport:
    async def test_a_line_an_entry_oldest_first(self, api, service):
        service.journal.entries_held = 200  # more than one piece
        response = await api("GET", "/api/v1/journal/export", token="read")
        assert response.content_type == "application/jsonl"
        entries = [json.loads(line) for line in (await response.text()).splitlines()]
        assert [entry["seq"] for entry in entries] == list(range(1, 201))
        assert [entry.get("end") for entry in entries] == [None] * 199 + [200]

    async def test_a_failure_in_the_middle_does_not_look_like_the_end(self, api, service, monkeypatch):
        async def broken():
            async for entry in type(service.journal).export(service.journal):
                yield entry
            raise RuntimeError("the disk is gone")

        service.journal.entries_held = 200
        monkeypatch.setattr(service.journal, "export", broken)
        with pytest.raises(aiohttp.ClientPayloadError):
            await api("GET", "/api/v1/journal/export", token="read")
