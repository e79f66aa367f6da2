"""The simulated Alertmanager beside the real one: the same alerts, the same API answers, the same webhook payloads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from remediator.clock import SystemClock, iso
from remediator.sim import Simulation
from remediator.sim.alerting import Receiver

pytestmark = pytest.mark.alertmanager
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
ALERTS = [
    {
        "labels": {"alertname": "CiliumAgentDown", "node": "node-3", "severity": "critical", "job": "cilium-agent"},
        "annotations": {"summary": "down", "description": 'with "quotes" and ünïcode'},
        "generatorURL": "http://prometheus.test/graph",
    },
    {"labels": {"alertname": "CiliumAgentDown", "node": "node-4", "severity": "critical", "job": "cilium-agent"}},
    {"labels": {"alertname": "CiliumAgentDown", "node": "node-4", "severity": "warning"}, "annotations": {"summary": "down"}},
]


@pytest.fixture
async def hooks():
    """Two webhooks: one for the simulated one, one for the real one."""
    queues = {"simulated": asyncio.Queue(), "real": asyncio.Queue()}

    async def handle(request):
        queues[request.match_info["who"]].put_nowait((await request.json(), request.headers.get("Authorization"), request.content_type))
        return web.Response()

    app = web.Application()
    app.router.add_post("/{who}", handle)
    async with TestServer(app) as server:
        yield str(server.make_url("/")), queues


def _with_times(alerts, ends):
    return [{**alert, "startsAt": iso(START), "endsAt": iso(ends)} for alert in alerts]


def _comparable(payload):
    alerts = sorted(payload["alerts"], key=lambda a: sorted(a["labels"].items()))
    return {**payload, "alerts": alerts, "externalURL": ""}


async def _next(queue):
    return await asyncio.wait_for(queue.get(), 20)


async def test_the_same_alerts_become_the_same_payloads(alertmanager, hooks):
    base, queues = hooks
    real = await asyncio.to_thread(alertmanager, f"{base}real", token="secret", group_wait="300ms", group_interval="1s")
    async with Simulation(clock=SystemClock(), nodes=1) as sim, ClientSession() as session:
        times = {"group_wait": timedelta(milliseconds=300), "group_interval": timedelta(seconds=1)}
        sim.add_receiver(Receiver(f"{base}simulated", token="secret", **times))
        for ends in (datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC)):
            for url in (sim.alertmanager_url, real.url):
                async with session.post(f"{url}/api/v2/alerts", json=_with_times(ALERTS, ends)) as answer:
                    assert answer.status == 200
            simulated, truly = [await _next(queues[who]) for who in ("simulated", "real")]
            assert simulated[1:] == truly[1:] == ("Bearer secret", "application/json")
            assert _comparable(simulated[0]) == _comparable(truly[0])


async def test_the_api_shows_the_same(alertmanager):
    real = await asyncio.to_thread(alertmanager)
    async with Simulation(clock=SystemClock(), nodes=1) as sim, ClientSession() as session:
        sim.add_receiver(Receiver("http://127.0.0.1:9/", group_wait=timedelta(hours=1)))
        ends = datetime.now(UTC) + timedelta(hours=1)
        silence = {
            "matchers": [{"name": "node", "value": "node-4", "isRegex": False, "isEqual": True}],
            "startsAt": iso(datetime.now(UTC)),
            "endsAt": iso(ends),
            "createdBy": "test",
            "comment": "test",
        }
        for url in (sim.alertmanager_url, real.url):
            async with session.post(f"{url}/api/v2/alerts", json=_with_times(ALERTS, ends)) as answer:
                assert answer.status == 200
            async with session.post(f"{url}/api/v2/silences", json=silence) as answer:
                assert answer.status == 200

        async def seen(url, query):
            async with session.get(f"{url}/api/v2/alerts", params=query) as answer:
                assert answer.status == 200
                found = await answer.json()
            for alert in found:
                alert.pop("updatedAt")
                alert["status"]["silencedBy"] = len(alert["status"]["silencedBy"])
                alert["status"].pop("mutedBy", None)  # newer than 0.25
            return sorted(found, key=lambda a: sorted(a["labels"].items()))

        async with asyncio.timeout(20):
            while True:
                if [a["status"]["state"] for a in await seen(real.url, {})] == ["active", "suppressed", "suppressed"]:
                    break
                await asyncio.sleep(0.05)
        queries = (
            {},
            {"silenced": "false"},
            {"active": "false"},
            {"filter": 'node="node-3"'},
            {"filter": 'node=~"node-[34]"'},
            {"filter": "job!="},
        )
        for query in queries:
            simulated, truly = await seen(sim.alertmanager_url, query), await seen(real.url, query)
            assert len(simulated) == len(truly), query
            for one, other in zip(simulated, truly, strict=True):
                assert one == other, query


@pytest.mark.parametrize(
    "body",
    ["[]", "{}", "no", '[{"labels": {}}]', '[{"labels": {"": "x"}}]', '[{"labels": {"a": 1}}]', '[{"labels": {"a-b": "x"}}]', "[{}]"],
)
async def test_the_same_bodies_are_refused(alertmanager, body):
    real = await asyncio.to_thread(alertmanager)
    async with Simulation(clock=SystemClock(), nodes=1) as sim, ClientSession() as session:
        codes = []
        for url in (sim.alertmanager_url, real.url):
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{url}/api/v2/alerts", data=body, headers=headers) as answer:
                codes.append(answer.status)
        assert codes[0] == codes[1] or {*codes} == {400, 422}
