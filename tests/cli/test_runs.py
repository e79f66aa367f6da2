"""``runs``: what is asked of the daemon, what is printed, and how it exits."""

from __future__ import annotations

import json

import pytest
import yaml

ENDED = "01ke6sjv780000000000000001"


@pytest.fixture
def listed(api, runs):
    busy = {"state": "verifying", "reason": None, "ended_at": None, "dry_run": True, "alert": None}
    manual = {"kind": "manual", "by": "ana@laptop", "reason": "new disk"}
    api.page(
        "/api/v1/runs",
        runs.one(),
        runs.one(id="01ke6sjv780000000000000000", started_at="2026-01-05T08:00:00Z", trigger=manual, **busy),
        after="abc",
    )


@pytest.mark.usefixtures("listed", "still")
def test_list_table(ask, golden):
    result = ask("runs", "list")
    golden(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "There are more runs; go on with --cursor abc\n")


@pytest.mark.usefixtures("listed", "still")
def test_list_wide(ask, golden):
    golden(ask("runs", "list", "-o", "wide").stdout)


@pytest.mark.usefixtures("listed")
def test_list_json_is_the_answer_of_the_api(ask, api):
    result = ask("runs", "list", "-o", "json")
    assert json.loads(result.stdout) == json.loads(api.answers["GET", "/api/v1/runs"][1])
    assert result.stderr == ""


@pytest.mark.usefixtures("listed")
def test_list_yaml_is_the_answer_of_the_api(ask, api):
    assert yaml.safe_load(ask("runs", "list", "-o", "yaml").stdout) == json.loads(api.answers["GET", "/api/v1/runs"][1])


@pytest.mark.usefixtures("listed")
def test_list_names_are_what_other_commands_take(ask):
    assert ask("runs", "list", "-o", "name").stdout == "01ke6sjv780000000000000001\n01ke6sjv780000000000000000\n"


def test_list_of_nothing(ask, api):
    api.page("/api/v1/runs")
    result = ask("runs", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No runs found.\n")
    assert json.loads(ask("runs", "list", "-o", "json").stdout) == {"items": [], "next": None}
    assert ask("runs", "list", "-o", "name").stdout == ""


def test_list_filters_reach_the_daemon(ask, api):
    api.page("/api/v1/runs")
    ask("runs", "list", "--playbook", "p", "--target", "Node/n", "--since", "2026-01-05T11:00:00+01:00", "--limit", "7", "--cursor", "c")
    assert api.asked[-1][2] == {"playbook": "p", "target": "Node/n", "since": "2026-01-05T10:00:00.000Z", "limit": "7", "cursor": "c"}


@pytest.mark.parametrize("bad", [("--state", "runing"), ("--since", "yesterday"), ("--since", "2026-01-05T10:00:00"), ("--limit", "0")])
def test_list_refuses_bad_filters(ask, api, bad):
    result = ask("runs", "list", *bad)
    assert result.exit_code == 2
    assert bad[1] in result.stderr
    assert not api.asked


def test_show(ask, api, runs, golden, still):
    api.answer("GET", f"/api/v1/runs/{runs.id}", runs.one(parameters={"ready_for": "30s", "n": 3}))
    result = ask("runs", "show", runs.id)
    assert result.exit_code == 0
    golden(result.stdout)


def test_show_refused_and_open(ask, api, runs, golden, still):
    running = {**runs.step, "state": "running", "ended_at": None, "outcome": "", "changes": []}
    run = runs.one(
        state="verifying",
        reason=None,
        ended_at=None,
        dry_run=True,
        gates=runs.refusing,
        steps=[running],
        trigger={"kind": "manual", "by": "ana@laptop", "reason": "test"},
        verification={**runs.proof, "healed": None, "ended_at": None},
        cancel="ben@desk: enough",
        alert=None,
    )
    api.answer("GET", f"/api/v1/runs/{runs.id}", run)
    golden(ask("runs", "show", runs.id, "-o", "wide").stdout)


def test_show_json(ask, api, runs):
    api.answer("GET", f"/api/v1/runs/{runs.id}", runs.one())
    assert json.loads(ask("runs", "show", runs.id, "-o", "json").stdout) == runs.one()


def test_show_what_is_not_there(ask, api):
    api.refuse("GET", "/api/v1/runs/x%2Fy", 404, "Not found", 'There is no run "x/y".')
    api.refuse("GET", "/api/v1/runs/x/y", 404, "Not found", 'There is no run "x/y".')
    result = ask("runs", "show", "x/y")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", 'error: Not found: There is no run "x/y".\n')


def test_watch_says_each_thing_once(ask, api, runs, golden):
    api.stream(f"/api/v1/runs/{runs.id}/watch", runs.looks())
    result = ask("runs", "watch", runs.id)
    assert (result.exit_code, result.stderr) == (0, "")
    golden(result.stdout)


def test_watch_json_is_a_line_a_change(ask, api, runs):
    api.stream(f"/api/v1/runs/{runs.id}/watch", runs.looks())
    lines = ask("runs", "watch", runs.id, "-o", "json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == runs.looks()


def test_watch_yaml_and_name(ask, api, runs):
    api.stream(f"/api/v1/runs/{runs.id}/watch", runs.looks())
    assert list(yaml.safe_load_all(ask("runs", "watch", runs.id, "-o", "yaml").stdout)) == runs.looks()
    assert ask("runs", "watch", runs.id, "-o", "name").stdout == f"{runs.id}\n"


def test_watch_goes_on_after_the_connection_broke(ask, api, runs, monkeypatch):
    monkeypatch.setattr("remediator.client._PAUSE", 0.01)
    looks = runs.looks()
    api.stream(f"/api/v1/runs/{runs.id}/watch", looks[:3], [], looks[2:])
    lines = ask("runs", "watch", runs.id, "-o", "json").stdout.splitlines()
    assert [json.loads(line)["state"] for line in lines] == [look["state"] for look in looks]


def test_watch_gives_up_in_the_end(ask, api, runs, monkeypatch):
    monkeypatch.setattr("remediator.client._PAUSE", 0.01)
    monkeypatch.setattr("remediator.client._PATIENCE", 0.05)
    api.stream(f"/api/v1/runs/{runs.id}/watch", runs.looks()[:2], [])
    result = ask("runs", "watch", runs.id)
    assert result.exit_code == 3
    assert "before the run ended" in result.stderr


@pytest.mark.parametrize(
    ("end", "code"),
    [("healed", 0), ("done", 0), ("predicted", 0), ("not_healed", 1), ("failed", 1), ("cancelled", 1), ("expired", 1), ("unknown", 1)],
)
def test_watch_exits_by_the_outcome(ask, api, runs, end, code):
    api.stream(f"/api/v1/runs/{runs.id}/watch", [runs.one(state=end)])
    assert ask("runs", "watch", runs.id).exit_code == code


def test_watch_of_a_run_that_gates_stopped_before_its_first_step(ask, api, runs):
    pending = {**runs.step, "state": "pending", "started_at": None, "ended_at": None, "changes": []}
    api.stream(f"/api/v1/runs/{runs.id}/watch", [runs.one(state="failed", reason="paused", gates=runs.refusing, steps=[pending])])
    assert ask("runs", "watch", runs.id).exit_code == 4


@pytest.mark.parametrize(("word", "said"), [("cancel", "asked to stop, now running"), ("undo", "asked to undo its changes, now running")])
def test_cancel_and_undo(ask, api, runs, word, said):
    api.answer("POST", f"/api/v1/runs/{runs.id}/{word}", runs.one(state="running"))
    result = ask("runs", word, runs.id, "--reason", "by hand")
    assert (result.exit_code, result.stdout) == (0, f"run {runs.id} {said}\n")
    assert api.body["reason"] == "by hand"
    assert "@" in api.body["by"]


@pytest.mark.parametrize("word", ["cancel", "undo"])
def test_cancel_and_undo_without_a_reason(ask, api, runs, word):
    api.answer("POST", f"/api/v1/runs/{runs.id}/{word}", runs.one(state="running"))
    assert ask("runs", word, runs.id).exit_code == 0
    assert api.body["reason"] == ""


def test_cancel_of_an_ended_run(ask, api, runs):
    api.refuse("POST", f"/api/v1/runs/{runs.id}/cancel", 409, "Conflict", "The run has ended.")
    result = ask("runs", "cancel", runs.id, "--reason", "x")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: Conflict: The run has ended.\n")


def test_show_what_waits_for_people(ask, api, runs, golden, still):
    api.answer("GET", f"/api/v1/runs/{runs.id}", runs.waiting())
    golden(ask("runs", "show", runs.id).stdout)


def test_watch_what_waits_for_people(ask, api, runs, golden):
    said = {"by": "ben@desk", "at": "2026-01-05T10:20:00Z", "approved": False, "reason": "not at night"}
    rejected = {**runs.question, "state": "rejected", "ended_at": said["at"], "answers": [*runs.question["answers"], said]}
    end = {"state": "cancelled", "reason": "rejected", "detail": "rejected by ben@desk: not at night", "ended_at": said["at"]}
    asked = {**runs.question, "answers": []}
    api.stream(
        f"/api/v1/runs/{runs.id}/watch", [runs.waiting(approvals=[asked]), runs.waiting(), runs.waiting(approvals=[rejected], **end)]
    )
    result = ask("runs", "watch", runs.id)
    assert result.exit_code == 1
    golden(result.stdout)


def test_approve(ask, api, runs):
    api.answer("POST", f"/api/v1/runs/{runs.id}/approve", runs.one(state="running", ended_at=None))
    result = ask("runs", "approve", runs.id, "--reason", "looked at it")
    assert (result.exit_code, result.stdout) == (0, f"run {runs.id} approved, now running\n")
    assert result.stderr == f"Follow it with: remediator runs watch {runs.id}\n"
    assert (api.body["reason"], "@" in api.body["by"]) == ("looked at it", True)
    assert ask("runs", "approve", runs.id, "-o", "name").stdout == f"{runs.id}\n"


def test_approve_where_one_more_person_has_to(ask, api, runs):
    api.answer("POST", f"/api/v1/runs/{runs.id}/approve", runs.waiting())
    result = ask("runs", "approve", runs.id)
    assert (result.exit_code, result.stdout) == (0, f"run {runs.id} approved, now awaiting_approval\n")
    assert result.stderr == "It still waits for 1 more person until 2026-01-05 14:00:01 UTC.\n"


def test_reject(ask, api, runs):
    api.answer("POST", f"/api/v1/runs/{runs.id}/reject", runs.one(state="cancelled", reason="rejected"))
    result = ask("runs", "reject", runs.id, "--reason", "false alarm")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"run {runs.id} rejected, now cancelled\n", "")
    assert api.body["reason"] == "false alarm"


@pytest.mark.parametrize("word", ["approve", "reject"])
@pytest.mark.parametrize(
    ("status", "title", "detail"),
    [
        (409, "Conflict", "run x has ended: healed; it does not wait for an approval"),
        (404, "Not found", 'There is no run "x".'),
        (403, "Forbidden", "The token does not open this route; it takes the write token."),
    ],
)
def test_an_answer_that_is_not_taken(ask, api, word, status, title, detail):
    api.refuse("POST", f"/api/v1/runs/x/{word}", status, title, detail)
    result = ask("runs", word, "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {title}: {detail}\n")
