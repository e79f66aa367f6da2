"""What libraries log goes the way of our own log: without secrets, tracebacks included."""

from __future__ import annotations

import io
import logging

import pytest

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
