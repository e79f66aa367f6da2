from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.monitoring import Alertmanager
from remediator.monitoring.errors import AlertmanagerRefused, AlertmanagerUnreachable

pytestmark = pytest.mark.alertmanager


@pytest.fixture
async def webhook():
    """Where Alertmanager delivers to; ``calls`` has (headers, payload) of each."""
    calls: asyncio.Queue = asyncio.Queue()

    async def receive(request):
        calls.put_nowait((request.headers, await request.json()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", receive)
    async with TestServer(app) as server:
        server.calls = calls
        server.url = str(server.make_url("/hook"))
        yield server


@pytest.fixture
async def door():
    made = []

    def make(url):
        made.append(Alertmanager(url, timeout=timedelta(seconds=10)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_firing_silenced_inhibited_and_resolved(alertmanager, door):
    inhibit = {"source_matchers": ["severity=critical"], "target_matchers": ["severity=warning"], "equal": ["node"]}
    real = alertmanager(inhibit_rules=[inhibit])
    began = datetime.now(UTC) - timedelta(minutes=5)
    real.silence(node="node-2")
    firing = [
        {"alertname": "CiliumAgentDown", "node": "node-3", "severity": "critical"},
        {"alertname": "NodeLatencyWarning", "node": "node-3", "severity": "warning"},
        {"alertname": "CiliumAgentDown", "node": "node-2", "severity": "critical"},
    ]
    real.post(*firing, starts_at=began)
    alerts = door(real.url)
    async with asyncio.timeout(20):
        while not all(  # noqa: ASYNC110 - Alertmanager offers nothing to wait on
            a.muted for a in await alerts.active() if a.labels["node"] == "node-2" or a.labels["severity"] == "warning"
        ):
            await asyncio.sleep(0.05)
    found = {(alert.labels["alertname"], alert.labels["node"]): alert for alert in await alerts.active()}
    assert len(found) == 3
    plain = found["CiliumAgentDown", "node-3"]
    assert (plain.labels, plain.muted) == (firing[0], False)
    assert abs(plain.starts_at - began) < timedelta(milliseconds=1)
    assert len(found["CiliumAgentDown", "node-2"].silenced_by) == 1
    assert found["NodeLatencyWarning", "node-3"].inhibited_by == (plain.fingerprint,)
    real.resolve(*firing[:1], starts_at=began)
    assert {(alert.labels["alertname"], alert.labels["node"]) for alert in await alerts.active()} == set(found) - {
        ("CiliumAgentDown", "node-3")
    }


async def test_the_fingerprint_is_that_of_the_webhook_and_the_start_is_cut_to_milliseconds(alertmanager, door, webhook):
    real = alertmanager(webhook.url, token="s3cret")
    real.post({"alertname": "CiliumAgentDown", "node": "node-3"})
    async with asyncio.timeout(20):
        headers, payload = await webhook.calls.get()
        assert headers["Authorization"] == "Bearer s3cret"
        (alert,) = payload["alerts"]
        (active,) = await door(real.url).active()
        assert active.fingerprint == alert["fingerprint"]
        told = datetime.fromisoformat(alert["startsAt"]).astimezone(UTC)
        assert active.starts_at == told.replace(microsecond=told.microsecond // 1000 * 1000)
        real.resolve({"alertname": "CiliumAgentDown", "node": "node-3"})
        assert (await webhook.calls.get())[1]["status"] == "resolved"
        assert await door(real.url).active() == []


async def test_two_peers_are_one_cluster(alertmanager, door):
    first = alertmanager(cluster=True)
    second = alertmanager(peers=[first])
    first.wait_for_peers(2)
    second.wait_for_peers(2)
    silence = first.silence(node="node-3")
    second.post({"alertname": "CiliumAgentDown", "node": "node-3"})
    alerts = door(second.url)
    async with asyncio.timeout(20):
        while not (found := await alerts.active()) or not found[0].silenced_by:  # noqa: ASYNC110 - Alertmanager offers nothing to wait on
            await asyncio.sleep(0.05)
    assert found[0].silenced_by == (silence,)


async def test_what_is_not_its_api_is_refused_and_a_dead_one_unreachable(alertmanager, door):
    real = alertmanager()
    with pytest.raises(AlertmanagerRefused, match="404"):
        await door(real.url + "/nowhere").active()
    real.stop()
    with pytest.raises(AlertmanagerUnreachable):
        await door(real.url).active()
