"""promtool and amtool on what deploy/ ships: rules that parse, rules that fire for the right reason and no other, a valid routing tree."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
LONG = {"policy-surge"}
"""A day of samples."""


def run(program, *arguments, cwd=PROMETHEUS, package="prometheus"):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package {package})")
    done = subprocess.run([program, *arguments], check=False, cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.prometheus
def test_the_rules_parse():
    assert "SUCCESS" in run("promtool", "check", "rules", "rules.yaml")


@pytest.mark.prometheus
@pytest.mark.parametrize(
    "name",
    [pytest.param(p.stem, marks=[pytest.mark.long] if p.stem in LONG else []) for p in sorted((PROMETHEUS / "tests").glob("*.yaml"))],
)
def test_the_rules_fire_for_the_right_reason(name):
    run("promtool", "test", "rules", f"{name}.yaml", cwd=PROMETHEUS / "tests")
