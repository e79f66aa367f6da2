"""The tests of the shipped playbooks, by the command that people call. All of them take a minute, so most are played with the long ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from remediator.playbook import shipped

SAMPLE = ("restart-agent", "shift-bgp-away")
NAMES = [file.stem for file in sorted((shipped() / "tests").glob("*.yaml"))]


def passes(name):
    path = shipped() / "tests" / f"{name}.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "remediator", "test", str(path), "--jobs", "1"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample(name):
    passes(name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in SAMPLE])
def test_all_others(name):
    passes(name)
