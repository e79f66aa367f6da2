from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest

from remediator.clock import SystemClock
from remediator.monitoring import Prometheus
from remediator.monitoring.errors import PrometheusRefused, PrometheusStale, PrometheusUnreachable, PrometheusUnusable

pytestmark = pytest.mark.prometheus


@pytest.fixture
async def door():
    made = []

    def make(url, *, max_age=timedelta(minutes=2)):
        made.append(Prometheus(url, timeout=timedelta(seconds=10), max_age=max_age, clock=SystemClock()))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_questions_and_answers(exporter, prometheus_server, door):
    exporter.set("latency_seconds", {"target_node": "node-3", "path": 'a "b" \\c ä'}, 0.125)
    exporter.set("latency_seconds", {"target_node": "node-2"}, 0.002)
    exporter.set("broken", {}, math.nan)
    real = prometheus_server(exporter)
    await asyncio.to_thread(real.wait_for, "latency_seconds")
    prometheus = door(real.url)

    (slow,) = await prometheus.query("latency_seconds > 0.1")
    assert slow.labels["target_node"] == "node-3"
    assert slow.labels["path"] == 'a "b" \\c ä'
    assert slow.value == 0.125
    assert abs(slow.at - datetime.now(UTC)) < timedelta(seconds=30)
    assert await prometheus.query("latency_seconds > 1") == []
    (scalar,) = await prometheus.query("scalar(vector(7))")
    assert (scalar.labels, scalar.value) == ({}, 7)
    assert (await prometheus.query("1 / 0"))[0].value == math.inf
    with pytest.raises(PrometheusUnusable, match="NaN"):
        await prometheus.query("broken")
    with pytest.raises(PrometheusUnusable, match="matrix"):
        await prometheus.query("latency_seconds[1m]")
    with pytest.raises(PrometheusUnusable, match="string"):
        await prometheus.query('"7"')
    with pytest.raises(PrometheusRefused, match=r"400 .*parse error"):
        await prometheus.query("latency_seconds >")
    with pytest.raises(PrometheusRefused, match=r"422 .*duplicate series"):
        await prometheus.query('latency_seconds / on (job) group_left () {__name__="latency_seconds"}')


async def test_age_and_freshness(exporter, prometheus_server, door):
    exporter.set("latency_seconds", {"target_node": "node-3"}, 0.125)
    exporter.set("old_seconds", {}, 0.125, at=datetime.now(UTC) - timedelta(minutes=3))
    real = prometheus_server(exporter)
    await asyncio.to_thread(real.wait_for, "latency_seconds")
    prometheus = door(real.url)
    assert await prometheus.query("old_seconds == 0.125"), "the value is there and looks like new"
    assert timedelta(minutes=3) <= await prometheus.age("old_seconds") < timedelta(minutes=4)
    with pytest.raises(PrometheusStale, match=r"newest sample is 3m.* old of old_seconds; at most 2m is allowed"):
        await prometheus.require_fresh("latency_seconds", "old_seconds")
    assert timedelta(0) <= await prometheus.age('latency_seconds{target_node="node-3"}') < timedelta(seconds=10)
    await prometheus.require_fresh()
    await prometheus.require_fresh("latency_seconds", "up")
    assert await prometheus.age("nothing_of_that_name") is None
    with pytest.raises(PrometheusStale, match="there is no sample"):
        await prometheus.require_fresh("nothing_of_that_name")


async def test_a_failed_scrape_takes_its_series_away_and_up_stays_fresh(exporter, prometheus_server, door):
    exporter.set("latency_seconds", {}, 0.125)
    real = prometheus_server(exporter)
    await asyncio.to_thread(real.wait_for, "latency_seconds")
    exporter.failing = True
    await asyncio.to_thread(real.wait_for, "up == 0 unless on () latency_seconds")
    prometheus = door(real.url)
    await prometheus.require_fresh()
    with pytest.raises(PrometheusStale, match="there is no sample"):
        await prometheus.require_fresh("latency_seconds")


async def test_a_rule_makes_an_alert(exporter, prometheus_server, door):
    exporter.set("agent_up", {"node": "node-3"}, 0)
    rule = {"alert": "CiliumAgentDown", "expr": "agent_up == 0", "labels": {"severity": "critical"}}
    real = prometheus_server(exporter, rules=[rule])
    await asyncio.to_thread(real.wait_for, 'ALERTS{alertname="CiliumAgentDown"}')
    (alert,) = await door(real.url).query('ALERTS{alertstate="firing"}')
    assert alert.labels["node"] == "node-3"


async def test_a_dead_prometheus_is_unreachable(exporter, prometheus_server, door):
    real = prometheus_server(exporter)
    real.program.kill()
    with pytest.raises(PrometheusUnreachable):
        await door(real.url).query("up")
