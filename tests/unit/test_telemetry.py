"""What libraries log goes the way of our own log: without secrets, tracebacks included."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog

from remediator import telemetry
from remediator.journal import Redactor

SECRET = "q8Zr2Lw0Xk5Vt7Bn"


@pytest.fixture
def logged(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(telemetry, "_given", {"stream": stream, "json": True})
    telemetry.configure_logging(redact=Redactor([SECRET]).data)
    yield stream
    monkeypatch.undo()
    telemetry.configure_logging()


def test_a_library_that_logs_a_secret(logged):
    error = ConnectionError(f"postgresql://u:{SECRET}@db")
    logging.getLogger("library").error("could not connect with %s", SECRET, exc_info=error)
    said = logged.getvalue()
    assert "could not connect with <redacted>" in said
    assert "ConnectionError" in said
    assert SECRET not in said


async def test_each_line_of_the_log_bears_the_id_of_its_request(logged):
    async def answer(request):
        telemetry.REQUEST.set(request)
        await asyncio.sleep(0)
        structlog.get_logger().info("answered")

    await asyncio.gather(asyncio.create_task(answer("a")), asyncio.create_task(answer("b")))
    structlog.get_logger().info("nobody asked")
    assert [json.loads(line).get("request_id") for line in logged.getvalue().splitlines()] == ["a", "b", None]


def test_a_tally_is_told_whenever_somebody_reads():
    metrics = telemetry.Metrics()
    tallies = [metrics.tally(metrics.alerts_received.labels(status)) for status in ("firing", "resolved")]

    def read():
        return [metrics.registry.get_sample_value("remediator_alerts_received_total", {"status": s}) for s in ("firing", "resolved")]

    assert read() == [0, 0]
    tallies[0].add(3)
    tallies[0].add()
    assert read() == [4, 0]
    assert read() == [4, 0], "reading counts nothing"
    tallies[1].add(2)
    tallies[0].add()
    assert b'remediator_alerts_received_total{status="firing"} 5.0' in metrics.written()[0]
    assert read() == [5, 2]


def test_a_tally_loses_and_doubles_nothing_while_several_read():
    metrics = telemetry.Metrics()
    tally = metrics.tally(metrics.alerts_truncated)
    with ThreadPoolExecutor(4) as readers:
        reads = [readers.submit(metrics.written) for _ in range(100)]
        for _ in range(50_000):
            tally.add()
        for read in reads:
            read.result()
    assert metrics.registry.get_sample_value("remediator_alerts_truncated_total") == 50_000


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("as_json", [True, False])
def test_what_strangers_wrote_moves_no_cursor_in_the_log(monkeypatch, as_json):
    evil, out = "\x1b[2J\u202e\x07", _Terminal()
    monkeypatch.setattr(telemetry, "_given", {"stream": out, "json": as_json})
    telemetry.configure_logging()
    try:
        structlog.get_logger().info("refused", detail=evil, by=[evil])
        logging.getLogger("library").warning("said %s", evil)
    finally:
        monkeypatch.undo()
        telemetry.configure_logging()
    assert not set(out.getvalue()) & {"\u202e", "\x07"}
    assert "\x1b[2J" not in out.getvalue()
    assert out.getvalue().count("\\u202e") == 3
