"""What libraries log goes the way of our own log: without secrets, tracebacks included."""

from __future__ import annotations

import io
import logging

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


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("json", [True, False])
def test_what_strangers_wrote_moves_no_cursor_in_the_log(monkeypatch, json):
    evil, out = "\x1b[2J\u202e\x07", _Terminal()
    monkeypatch.setattr(telemetry, "_given", {"stream": out, "json": json})
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
