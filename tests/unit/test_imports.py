"""What a daemon does not import although it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module, util

import pytest
from standins import old_journal

from remediator.imports import without

SERVE = """
import sys, uvloop
from remediator.cli import main

def run(daemon):
    daemon.close()
    print([name for name in ("rich", "pygments") if name in sys.modules], "structlog" in sys.modules)
    return 0

uvloop.run = run
sys.argv = ["remediator", "serve", "--config", "settings.yaml"]
main()
"""
OPEN = """
import asyncio, sys
from remediator.clock import SystemClock
from remediator.imports import without
with without("rich"):
    from remediator.journal import Journal

async def main():
    journal = await Journal.open("sqlite:///journal.db", clock=SystemClock())
    await journal.close()

asyncio.run(main())
print([name for name in ("rich", "pygments") if name in sys.modules], "alembic.command" in sys.modules)
"""


@pytest.mark.parametrize(("code", "old", "told"), [(SERVE, False, "[] True"), (OPEN, False, "[] False"), (OPEN, True, "[] True")])
def test_a_daemon_imports_nothing_that_colours_texts(code, old, told, tmp_path):
    """Nor Alembic, unless an older release made the journal."""
    if old:
        old_journal.begin(f"sqlite:///{tmp_path}/journal.db")
    assert util.find_spec("rich")
    assert util.find_spec("pygments")
    (tmp_path / "settings.yaml").write_text(
        "{apiVersion: remediator.dev/v1, kind: Settings, server: {listen: '127.0.0.1:0', insecure: true}}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == told, done.stderr


def test_what_is_hidden_is_back_afterwards_and_what_was_imported_before_stays(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without("this", "json"):
        with pytest.raises(ModuleNotFoundError):
            import_module("this")
        import_module("json")
    assert "this" not in sys.modules
    assert util.find_spec("this")
