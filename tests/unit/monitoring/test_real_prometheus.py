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
    real = prometheus_server(exporter)
    await asyncio.to_thread(real.wait_for, "latency_seconds")
    prometheus = door(real.url)
    assert timedelta(0) <= await prometheus.age('latency_seconds{target_node="node-3"}') < timedelta(seconds=10)
    await prometheus.require_fresh()
    await prometheus.require_fresh("latency_seconds", "up")
    assert await prometheus.age("nothing_of_that_name") is None
    with pytest.raises(PrometheusStale, match="there is no sample"):
        await prometheus.require_fresh("nothing_of_that_name")


@pytest.mark.long
async def test_a_prometheus_that_no_longer_takes_samples_is_stale(exporter, prometheus_server, door):
    real = prometheus_server(exporter)
    await asyncio.to_thread(real.wait_for, "up == 1")
    real.config.write_text(
        real.config.read_text()
        .replace('"scrape_interval": "1s"', '"scrape_interval": "1h"')
        .replace('"scrape_timeout": "1s"', '"scrape_timeout": "1m"')
    )
    real.reload()
    await asyncio.to_thread(real.wait_for, "time() - timestamp(up) > 2")
    with pytest.raises(PrometheusStale, match=r"newest sample is .* old of up; at most 2s is allowed"):
        await door(real.url, max_age=timedelta(seconds=2)).require_fresh()


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
