"""Fixtures of every test: real parts come from tests/plugins, each of which skips with a reason where its part is absent."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where bytecode is not kept, every process that a test starts compiles all of remediator first: most of what its start costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Reading the system's authorities takes a tenth of what a simulated cluster costs a test. Whoever speaks TLS here brings its own.
ssl.SSLContext.load_default_certs = lambda *_: None  # type: ignore[method-assign,assignment,misc]
# How long one example takes says how busy the machine is, not whether the code is right.
settings.register_profile("remediator", deadline=None)
settings.load_profile("remediator")
ROOT = Path(__file__).parent.parent

# A shell starts what runs in its background with interrupts ignored, and processes of tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = sorted(f"plugins.{path.stem}" for path in (ROOT / "tests" / "plugins").glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(autouse=True)
def _logs_are_nobodys() -> Iterator[None]:
    """A daemon built in a test sends all logs of the process its own way; the next test must not find them there."""
    yield
    if "structlog" in sys.modules:
        sys.modules["structlog"].reset_defaults()
