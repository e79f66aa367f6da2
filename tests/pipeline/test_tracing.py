"""A whole daemon: one trace a run, that begins with the webhook's own, and whose id is in the log and in exemplars."""

from __future__ import annotations

import json
import sys

import aiohttp
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from remediator.errors import UsageError
from remediator.telemetry import METRICS
from remediator.tracing import Tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
CORDON = {"cordon": {"action": "node.cordon"}}


async def posted(house, alert, **headers):
    """A webhook call; its status."""
    async with aiohttp.ClientSession() as session:
        return (await posted_by(session, house, alert, **headers))[0]


async def posted_by(session, house, alert, **headers):
    """A webhook call of a client that keeps its connection; its status and what it was answered."""
    payload = {"version": "4", "receiver": "r", "status": "firing", "groupKey": "g", "alerts": [alert]}
    headers["Authorization"] = f"Bearer {house.TOKENS['webhook']}"
    url = f"{house.daemon.url}/api/v1/alerts"
    async with session.post(url, data=json.dumps(payload).encode(), headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.fixture
async def traced(house, text, symptom):
    symptom.cured = lambda _: True
    house.put("remedy.yaml", text(steps=[CORDON], gates={"cooldown": "1s"}))
    await house.start()
    house.memory = InMemorySpanExporter()
    house.daemon.world.tracing = Tracing(house.memory, at_once=True)
    return house


async def the_run(house):
    async def over():
        runs = (await house.journal.runs()).items
        return runs[0] if runs and not runs[0].state.open else None

    return await house.until(over, "the run's end")


async def test_a_run_is_in_the_trace_of_the_webhook(traced, outside):
    assert await posted(traced, outside.fire(), traceparent=PARENT) == 200
    run = await the_run(traced)
    assert (run.state, run.trace) == ("healed", PARENT)
    assert (await traced.journal.delivery(run.delivery)).trace == PARENT

    async def whole():
        return {"delivery", "decision", "cordon", "patch Node", "verification", "run remedy"} == {
            s.name for s in traced.memory.get_finished_spans()
        }

    await traced.until(whole, "the trace")
    spans = {span.name: span for span in traced.memory.get_finished_spans()}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    assert spans["run remedy"].start_time <= min(span.start_time for span in spans.values())
    assert spans["patch Node"].parent.span_id == spans["cordon"].context.span_id
    assert {event.name for event in spans["decision"].events} == {verdict.gate for verdict in run.gates}
    lines = [json.loads(line) for line in traced.log.getvalue().splitlines()]
    told = {line["event"] for line in lines if line.get("run") == run.id and line.get("trace_id") == TRACE}
    assert {"decided", "step begins", "step ended", "run ended"} <= told
    exposed = METRICS.written(OPENMETRICS)[0].decode()
    assert f'# {{run="{run.id}",trace_id="{TRACE}"}}' in exposed


async def test_what_comes_after_it_on_the_same_connection_is_in_no_trace(traced, outside):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        _, first = await posted_by(session, traced, outside.fire(), traceparent=PARENT)
        _, second = await posted_by(session, traced, outside.fire())
    assert (await traced.journal.delivery(first["delivery"])).trace == PARENT
    assert (await traced.journal.delivery(second["delivery"])).trace == ""


async def test_without_one_it_is_a_trace_of_its_own_and_what_is_none_is_left_out(traced, outside):
    assert await posted(traced, outside.fire(), traceparent="00-nonsense") == 200
    run = await the_run(traced)
    assert run.trace == ""
    (trace,) = {f"{span.context.trace_id:032x}" for span in traced.memory.get_finished_spans()}
    assert trace == traced.daemon.world.tracing.trace_id(run) != TRACE


async def test_a_person_s_request_may_have_one_too_and_the_next_delivery_has_none_of_it(traced, outside):
    headers = {"Authorization": f"Bearer {traced.TOKENS['write']}", "traceparent": PARENT}
    body = {"playbook": "remedy", "target": "Node/node-3", "reason": "to see"}
    async with aiohttp.ClientSession() as session, session.post(f"{traced.daemon.url}/api/v1/runs", json=body, headers=headers) as answer:
        assert (await answer.json())["trace"] == PARENT
    await the_run(traced)
    await posted(traced, outside.fire(node="node-1"))

    async def second():
        return len((await traced.journal.runs()).items) == 2

    await traced.until(second, "the second run")
    assert sorted(run.trace for run in (await traced.journal.runs()).items) == ["", PARENT]


async def test_an_endpoint_without_the_extra_stops_the_start_with_words(house, text, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    house.put("remedy.yaml", text())
    with pytest.raises(UsageError, match="OpenTelemetry is not installed"):
        await house.start(tracing={"endpoint": "http://127.0.0.1:4318"})
