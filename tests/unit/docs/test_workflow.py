"""The GitHub workflow for a repository of playbooks: it is YAML of the right shape, and what it calls exists."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from remediator.cli import cli
from remediator.document import load_text, read_documents


@pytest.fixture(scope="module")
def workflow(root):
    path = root / "deploy" / "github" / "playbooks.yaml"
    (document,) = read_documents(str(path), load_text(path))
    return document.data


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_it_runs_on_pushes_and_pull_requests_with_the_least_rights(workflow):
    assert {"push", "pull_request"} <= workflow["on"].keys()
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())


def test_every_step_is_an_action_with_a_version_or_a_command(workflow):
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1"))


def test_every_command_of_ours_exists_with_its_options(workflow):
    called = [shlex.split(step["run"])[1:] for step in steps(workflow) if step.get("run", "").startswith("remediator ")]
    assert [line[0] for line in called] == ["check", "test"]
    for name, *arguments in called:
        command = cli.get_command(click.Context(cli), name)
        command.make_context(name, list(arguments))  # refuses unknown options


def test_the_report_is_the_one_that_is_kept(workflow):
    (upload,) = [step for step in steps(workflow) if "upload-artifact" in step.get("uses", "")]
    (test,) = [step["run"] for step in steps(workflow) if step.get("name") == "test"]
    assert upload["if"] == "always()"
    assert f"--junit {upload['with']['path']}" in test


def test_the_page_shows_where_it_is(root):
    assert "deploy/github/playbooks.yaml" in (root / "docs" / "testing-playbooks.md").read_text(encoding="utf-8")
