"""A wheel of this clone, installed into an empty virtual environment elsewhere, plays the demo with the shipped playbooks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_an_installed_wheel_plays_the_demo(root, tmp_path):
    def run(*command, **options):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, check=False, **options)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, root)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", root / "requirements.lock")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("REMEDIATOR_", "PYTHON"))}
    said = run(tmp_path / "venv" / "bin" / "remediator", "demo", "--once", cwd=elsewhere, env=clean)
    assert "healed" in said
    listed = run(python, "-c", "from remediator.playbook import shipped; print(shipped())", cwd=elsewhere, env=clean)
    assert str(tmp_path) in listed
