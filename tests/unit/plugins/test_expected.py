"""In CI a skipped test of a real part is a failure; elsewhere it is a skip."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SKIPS = """
import pytest

@pytest.mark.postgres
def test_it():
    pytest.skip("no server")

@pytest.mark.alertmanager
def test_other():
    pytest.skip("not expected, so it may skip")
"""


@pytest.mark.parametrize(("expected", "status", "words"), [("postgres", 1, "1 failed, 1 skipped"), ("", 0, "2 skipped")])
def test_a_skip_of_what_was_expected_fails(root, tmp_path, expected, status, words):
    (tmp_path / "test_it.py").write_text(SKIPS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  postgres: x\n  alertmanager: x\n")
    env = {**os.environ, "REMEDIATOR_EXPECT": expected, "PYTHONPATH": str(root / "tests")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "plugins.expected", "-p", "no:randomly", "-c", "pytest.ini", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout
    assert words in done.stdout
