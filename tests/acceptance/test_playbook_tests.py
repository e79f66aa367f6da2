"""The tests of the shipped playbooks, by the command that people call. All of them take a minute, so most are played with the long ones.

The sample is a process, as with people. The others are called in this one.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from click.testing import CliRunner
from standins.forks import run

from remediator.cli import cli
from remediator.playbook import shipped
from remediator.testing import house

SAMPLE = ("restart-agent", "shift-bgp-away")
NAMES = [file.stem for file in sorted((shipped() / "tests").glob("*.yaml"))]


def command(name):
    return ["test", str(shipped() / "tests" / f"{name}.yaml"), "--jobs", "1"]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample(name):
    done = run("remediator.cli:main", *command(name), seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_how_long_a_fact_may_take_is_the_rehearsals_own(monkeypatch):
    monkeypatch.setattr(house, "_PATIENCE", timedelta(microseconds=1))
    done = CliRunner().invoke(cli, command("restart-agent"))
    assert "could not be read: no answer within 1e-06 s" in done.output


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in SAMPLE])
def test_all_others(name):
    done = CliRunner().invoke(cli, command(name))
    assert done.exit_code == 0, done.output
