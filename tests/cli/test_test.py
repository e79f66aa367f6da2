"""``test``: what is printed where, the exit code, the report and the snapshot. One test each is played for real."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
import yaml

from remediator.playbook import shipped

PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: look, summary: Look}
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
"""
TESTS = """\
apiVersion: remediator.dev/v1
kind: PlaybookTest
playbooks: [look.yaml]
tests:
- name: looks
  when:
  - {at: 0s, run: {playbook: look, target: Node/node-1}}
  - {at: 1s, cordon: node-2}
  then:
    runs: [{state: STATE}]
    cluster:
    - {kind: Node, fields: metadata.name=node-2, holds: 'objects.exists(o, o.spec.unschedulable)'}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "look.yaml").write_text(PLAYBOOK)
    return tmp_path


def test_one_that_passes(call, folder):
    (folder / "look.test.yaml").write_text(TESTS.replace("STATE", "done"))
    result = call("test", ".", "--junit", "report.xml")
    assert (result.exit_code, result.stderr) == (0, "1 test, 0 failed.\n")
    assert result.stdout.startswith("ok    look.test.yaml:5  looks  (")
    assert ET.fromstring((folder / "report.xml").read_bytes()).get("failures") == "0"


def test_one_that_fails_says_what_it_expected_and_tells_the_story(call, folder):
    (folder / "look.test.yaml").write_text(TESTS.replace("STATE", "healed").replace("exists(o, o", "exists(o, !o"))
    result = call("test", "look.test.yaml", "--junit", "report.xml")
    assert result.exit_code == 1
    assert "runs[0].state: expected healed, got done" in result.stdout
    assert "cluster[0]: objects.exists(o, !o.spec.unschedulable)\n        is false; found node-2" in result.stdout
    assert "of look on Node/node-1: done" in result.stdout
    failure = ET.fromstring((folder / "report.xml").read_bytes()).find(".//failure")
    assert failure.get("message") == "runs[0].state: expected healed, got done"


def test_a_snapshot_makes_it_pass(call, folder):
    path = folder / "look.test.yaml"
    path.write_text(TESTS.replace("STATE", "healed"))
    assert call("test", "look.test.yaml", "--snapshot").exit_code == 0
    then = yaml.safe_load(path.read_text())["tests"][0]["then"]
    assert then["runs"] == [{"playbook": "look", "target": "Node/node-1", "state": "done", "steps": {"look": "succeeded"}}]
    assert then["cluster"], "what a person wrote stays"
    result = call("test", "look.test.yaml", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (0, True)


def test_a_file_that_cannot_be_read_is_a_problem_with_its_place(call, folder):
    (folder / "look.test.yaml").write_text(TESTS.replace("STATE", "heald"))
    result = call("test", "look.test.yaml", "--junit", "report.xml")
    assert (result.exit_code, result.stderr) == (1, "0 tests, 0 failed, 1 problem in files.\n")
    assert result.stdout.startswith('look.test.yaml:10:13: tests[0].then.runs[0].state: "heald" is no state')
    assert "heald" in (folder / "report.xml").read_text()
    assert 'look.test.yaml:10:13: tests[0].then.runs[0].state: "heald"' in call("check", ".").stdout


def test_what_is_given_cannot_be(call, folder):
    (folder / "look.test.yaml").write_text(TESTS.replace("STATE", "done").replace("  when:", "  given: {own_node: node-9}\n  when:"))
    result = call("test", "look.test.yaml")
    assert result.exit_code == 1
    assert "given: there is no node node-9; there are node-1" in result.stdout


def test_sessions_that_are_not_there_can_neither_fail_nor_return(call, folder):
    sessions = """
  - {at: 2s, session_fails: {router: 192.0.2.1}}
  - {at: 2s, session_returns: {node: node-3, router: 10.25.150.1}}
"""
    text = TESTS.replace("STATE", "done").replace("cordon: node-2}\n", "cordon: node-2}" + sessions)
    (folder / "look.test.yaml").write_text(text)
    result = call("test", "look.test.yaml")
    assert result.exit_code == 1
    assert "when[2] could not happen: there is no router 192.0.2.1; there are 10.25.150.1" in result.stdout
    assert "when[3] could not happen: the session of node-3 with 10.25.150.1 has not failed" in result.stdout


def test_no_test_of_that_name_is_a_usage_error(call):
    result = call("test", shipped() / "tests", "--name", "no test is called that")
    assert (result.exit_code, result.stderr) == (2, "No test has such a name.\n")


JOBS = """\
apiVersion: remediator.dev/v1
kind: PlaybookTest
playbooks: [check.yaml]
tests:
- name: it fails
  when:
  - {at: 0s, jobs_end: {named: remediator-check-*, exit_code: 2, log: [no route]}}
  - {at: 1s, run: {playbook: check, target: Node/node-1}}
  then:
    runs: [{state: failed, reason: step_failed, says: BackoffLimitExceeded}]
    calls: [create Job/apps/remediator-check-*]
    changes_left: []
- name: somebody cancels it
  when:
  - {at: 0s, jobs_end: {after: never}}
  - {at: 1s, run: {playbook: check, target: Node/node-1}}
  - {after_call: create Job/*, delay: 10s, cancel: {}}
  then:
    runs: [{state: cancelled}]
    calls: [create Job/apps/*, delete Job/apps/*]
    changes_left: []
    cluster: [{kind: Job, holds: size(objects) == 0}]
"""


@pytest.mark.long
def test_how_jobs_end(call, folder):
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}},
    }
    (folder / "jobs").mkdir()
    (folder / "jobs" / "check.yaml").write_text(json.dumps(job))
    step = "{check: {action: job.run, template: jobs/check.yaml, namespace: apps, timeout: 5m}}"
    text = PLAYBOOK.replace("name: look, summary", "name: check, summary")
    (folder / "check.yaml").write_text(text.partition("  steps")[0].partition("- {name")[0] + f"- {{name: look, steps: [{step}]}}\n")
    (folder / "look.yaml").unlink()
    (folder / "check.test.yaml").write_text(JOBS)
    result = call("test", ".")
    assert (result.exit_code, result.stderr) == (0, "2 tests, 0 failed.\n"), result.stdout
