"""``run``: what is asked, what a refusal says, and how --wait ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import yaml

GO = ("run", "restart-agent", "--target", "Node/node-2")


@pytest.fixture
def started(api, runs):
    api.answer("POST", "/api/v1/runs", runs.one(state="running", reason=None, ended_at=None), status=201)
    return runs


@pytest.mark.usefixtures("started")
def test_everything_that_was_said_reaches_the_daemon(ask, api, tmp_path):
    alert = {"labels": {"alertname": "A", "node": "node-2"}, "startsAt": "2026-01-05T10:00:00Z"}
    (tmp_path / "alert.json").write_text(json.dumps({"version": "4", "alerts": [alert]}))
    result = ask(
        *GO,
        *("--set", "ready_for=1m", "--set", "note=a=b", "--label", "severity=critical"),
        *("--alert", tmp_path / "alert.json", "--dry-run", "--reason", "new disk"),
    )
    assert result.exit_code == 0
    asked = api.body
    assert "@" in asked.pop("by")
    assert asked == {
        "playbook": "restart-agent",
        "target": "Node/node-2",
        "parameters": {"ready_for": "1m", "note": "a=b"},
        "labels": {"severity": "critical"},
        "alert": alert,
        "dry_run": True,
        "reason": "new disk",
    }


def test_started(ask, started):
    result = ask(*GO)
    assert (result.exit_code, result.stdout) == (0, f"run {started.id} began, now running\n")
    assert result.stderr == f"Follow it with: remediator runs watch {started.id}\n"


def test_started_as_data(ask, started):
    assert json.loads(ask(*GO, "-o", "json").stdout) == started.one(state="running", reason=None, ended_at=None)
    assert ask(*GO, "-o", "name").stdout == f"{started.id}\n"


def test_refused_by_gates(ask, api, runs, golden):
    api.refuse("POST", "/api/v1/runs", 409, "Refused", "by ana", reason="paused", gates=runs.refusing)
    result = ask(*GO, "--wait")
    assert (result.exit_code, result.stdout) == (4, "")
    golden(result.stderr)


def test_refused_as_data(ask, api, runs):
    api.refuse("POST", "/api/v1/runs", 409, "Refused", "by ana", reason="paused", gates=runs.refusing)
    for form, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        result = ask(*GO, "-o", form)
        assert result.exit_code == 4
        assert load(result.stdout)["gates"] == runs.refusing
        assert "refused by 2 of 3 gates" in result.stderr


def test_refused_without_a_gate(ask, api):
    api.refuse("POST", "/api/v1/runs", 409, "Refused", "no Node is named node-2", reason="target_missing", gates=[])
    result = ask(*GO)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == (
        "error: refused; nothing was started. target_missing: The alert names no target, or one that does not exist."
        " (no Node is named node-2)\n"
    )


def test_refused_with_a_reason_of_a_newer_daemon(ask, api):
    api.refuse("POST", "/api/v1/runs", 409, "Refused", "too hot", reason="overheated")
    assert ask(*GO).stderr == "error: refused; nothing was started. too hot\n"


def test_unknown_playbook(ask, api):
    api.refuse("POST", "/api/v1/runs", 400, "Bad request", 'no playbook is named "restart-agent"')
    result = ask(*GO)
    assert (result.exit_code, result.stderr) == (2, 'error: Bad request: no playbook is named "restart-agent"\n')


def test_wait_shows_steps_on_stderr_and_the_end_on_stdout(ask, api, started, golden):
    api.stream(f"/api/v1/runs/{started.id}/watch", started.looks())
    result = ask(*GO, "--wait")
    assert (result.exit_code, result.stdout) == (0, f"run {started.id} healed\n")
    golden(result.stderr)


def test_wait_as_data_prints_the_ended_run(ask, api, started):
    api.stream(f"/api/v1/runs/{started.id}/watch", started.looks())
    result = ask(*GO, "--wait", "-o", "json")
    assert json.loads(result.stdout) == started.one()
    assert "step 1/1 restart" in result.stderr


def test_wait_exits_by_the_outcome(ask, api, started):
    api.stream(f"/api/v1/runs/{started.id}/watch", [started.one(state="not_healed", reason="still_firing")])
    result = ask(*GO, "--wait")
    assert (result.exit_code, result.stdout) == (1, f"run {started.id} not healed\n")


def test_interrupted_waiting_says_that_the_run_goes_on(api, started):
    api.stream(f"/api/v1/runs/{started.id}/watch", started.looks()[:2])
    command = [sys.executable, "-m", "remediator", *GO, "--wait", "--server", api.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "began" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert f"The run goes on. To stop it: remediator runs cancel {started.id}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--set", "timeout"), '--set "timeout" has to be name=value'),
        (("--set", "=x"), '--set "=x" has to be name=value'),
        (("--set", "a=1", "--set", "a=2"), '--set names "a" twice'),
        (("--label", "x"), '--label "x" has to be name=value'),
        (("--alert", "/nowhere/at/all"), "/nowhere/at/all cannot be read: No such file or directory"),
    ],
)
def test_usage(ask, api, wrong, said):
    result = ask(*GO, *wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert not api.asked


@pytest.mark.parametrize("alerts", [[], ["x"], [{"labels": {"a": 1}}], [{}], 3, {"alerts": []}, [{"labels": {}}, {"labels": {}}]])
def test_alert_files_that_do_not_hold_one_alert(ask, api, alerts):
    result = ask(*GO, "--alert", "-", stdin=json.dumps(alerts))
    assert result.exit_code == 2
    assert "alert" in result.stderr
    assert not api.asked


def test_alert_file_that_is_not_json(ask):
    assert "- is not JSON" in ask(*GO, "--alert", "-", stdin="{").stderr


def test_target_is_needed(call):
    result = call("run", "restart-agent")
    assert result.exit_code == 2
    assert "--target" in result.stderr
