"""The other commands that show or change something: what is asked, what is printed."""

from __future__ import annotations

import json

import pytest
import yaml

from remediator.actions import actions
from remediator.gates import gates
from remediator.playbook import load_playbook

EVIL = "node\x1b[2J\u202e-3\n"


@pytest.fixture
def episodes(api):
    one = {
        "fingerprint": "00f1a2b3c4d5e6f7",
        "starts_at": "2026-01-05T09:58:00Z",
        "name": "CiliumAgentDown",
        "labels": {"alertname": "CiliumAgentDown", "node": "node-3"},
        "first_seen": "2026-01-05T10:00:00Z",
        "last_seen": "2026-01-05T10:29:00Z",
        "resolved_at": None,
        "deliveries": 3,
        "decision": "run",
        "reason": None,
        "detail": "",
        "playbook": "cilium-agent-down",
        "target": {"kind": "Node", "name": "node-3", "namespace": "", "uid": "7b1f"},
        "run": "01ke6sjv780000000000000001",
        "dry_run": False,
    }
    refused = {"decision": "refused", "reason": "target_missing", "detail": "no Node is named node-99", "run": None, "target": None}
    api.page("/api/v1/alerts", one, {**one, **refused, "fingerprint": "ff", "labels": {"node": EVIL}})


@pytest.fixture
def delivery(runs):
    return {
        "id": "01ke6sjt800000000000000002",
        "received_at": "2026-01-05T10:00:00Z",
        "receiver": "remediator",
        "group_key": "{}:{node=node-3}",
        "status": "firing",
        "truncated": 2,
        "alerts": [runs.alert],
        "external_url": "http://alertmanager:9093",
        "notification_reason": "first",
        "sender": "10.0.0.7",
        "extra": {},
        "decided_at": "2026-01-05T10:00:01Z",
    }


@pytest.fixture
def decision(runs):
    return {
        "id": "01ke6sjt800000000000000003",
        "delivery": "01ke6sjt800000000000000002",
        "at": "2026-01-05T10:00:01Z",
        "alert": runs.alert,
        "playbook": "cilium-agent-down",
        "target": {"kind": "Node", "name": "node-3", "namespace": "", "uid": "7b1f"},
        "decision": "held",
        "reason": "truncated",
        "detail": "2 alerts were cut off",
        "gates": [],
        "run": None,
    }


@pytest.fixture
def status():
    return {
        "version": "0.1.0",
        "mode": "auto",
        "dry_run": False,
        "paused": [],
        "started_at": "2026-01-05T08:00:00Z",
        "ready": True,
        "ready_detail": "leader",
        "playbooks": 3,
        "last_reload": {"ok": True, "problems": [], "playbooks": 3, "at": "2026-01-05T08:00:00Z"},
        "undecided": 0,
        "undecided_since": None,
        "open_runs": 1,
        "journal": "healthy",
        "kubernetes": "v1.34.0",
        "prometheus": "reachable",
        "alertmanager": "not configured",
        "cilium": "1.18.4",
        "leader": True,
        "breaker": BREAKER,
        "waiting": [],
        "demoted": [],
        "unavailable": [],
        "records": [],
    }


BREAKER = {
    "open": False,
    "since": None,
    "detail": "",
    "failures": 1,
    "most_failures": 5,
    "runs": 3,
    "most_runs": 20,
    "within": "6h",
    "reset": None,
}


PAUSE = {
    "id": "01ke6sjv78000000000000000p",
    "playbook": None,
    "target": "Node/node-3",
    "reason": "switch upgrade",
    "by": "ana@laptop",
    "at": "2026-01-05T10:00:00Z",
    "until": "2026-01-05T12:30:00Z",
}


@pytest.mark.usefixtures("episodes", "still")
def test_alerts_table_with_hostile_labels(ask, golden):
    golden(ask("alerts", "list").stdout)


@pytest.mark.usefixtures("episodes", "still")
def test_alerts_wide_with_hostile_labels(ask, golden):
    text = ask("alerts", "list", "-o", "wide").stdout
    assert "\x1b" not in text
    assert "\u202e" not in text
    golden(text)


@pytest.mark.usefixtures("episodes")
def test_alerts_json_keeps_hostile_labels_without_sending_them_raw(ask, api):
    text = ask("alerts", "list", "-o", "json").stdout
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert json.loads(text) == json.loads(api.answers["GET", "/api/v1/alerts"][1])
    assert json.loads(text)["items"][1]["labels"]["node"] == EVIL


@pytest.mark.usefixtures("episodes")
def test_alerts_names_and_filters(ask, api):
    assert ask("alerts", "list", "-o", "name").stdout == "00f1a2b3c4d5e6f7\nff\n"
    ask("alerts", "list", "--all", "--limit", "3", "--cursor", "c")
    assert api.asked[-1][2] == {"all": "true", "limit": "3", "cursor": "c"}
    ask("alerts", "list")
    assert api.asked[-1][2] == {"limit": "50"}


def test_deliveries_table(ask, api, delivery, golden, still):
    api.page("/api/v1/deliveries", delivery, {**delivery, "decided_at": None, "truncated": 0})
    golden(ask("deliveries", "list").stdout + ask("deliveries", "list", "-o", "wide").stdout)


def test_deliveries_show(ask, api, delivery, decision, golden, still):
    api.answer("GET", f"/api/v1/deliveries/{delivery['id']}", delivery)
    api.page("/api/v1/decisions", decision)
    golden(ask("deliveries", "show", delivery["id"]).stdout)
    assert api.asked[-1][2] == {"delivery": delivery["id"], "limit": "500"}


def test_deliveries_show_json_is_the_delivery_alone(ask, api, delivery):
    api.answer("GET", f"/api/v1/deliveries/{delivery['id']}", delivery)
    shown = json.loads(ask("deliveries", "show", delivery["id"], "-o", "json").stdout)
    assert {key: shown[key] for key in delivery} == delivery
    assert len(api.asked) == 1


def test_changes(ask, api, runs, golden, still):
    api.page("/api/v1/changes", runs.change, {**runs.change, "state": "applied", "before": None, "after": {"spec": {"a": [1, 2]}}})
    golden(ask("changes", "list").stdout + ask("changes", "list", "-o", "wide").stdout)
    assert api.asked[-1][2] == {"left_behind": "true", "limit": "50"}
    ask("changes", "list", "--all", "--run", "r")
    assert api.asked[-1][2] == {"run": "r", "limit": "50"}
    api.page("/api/v1/changes")
    assert ask("changes", "list").stderr == "No changes found.\n"


def test_a_change_that_was_not_put_back_says_why(ask, api, runs):
    refused = {"state": "applied", "reason": "paused", "detail": "not put back: paused: everything is paused"}
    api.page("/api/v1/changes", {**runs.change, **refused})
    header, row = ask("changes", "list").stdout.splitlines()
    assert row[header.index("REASON") :].startswith("paused ")
    assert "everything is paused" in ask("changes", "list", "-o", "wide").stdout


@pytest.fixture
def recurring(api):
    each = {"action": "cilium.restart_agent", "target": "Node/node-3", "playbook": "cilium-agent-down", "reason": None}
    times = [
        {**each, "at": "2026-01-01T10:00:00Z", "run": "run-1", "state": "healed"},
        {**each, "at": "2026-01-03T11:00:00Z", "run": "run-2", "state": "not_healed"},
        {**each, "at": "2026-01-05T09:00:00Z", "run": "run-3", "state": "healed", "playbook": "restart-agent"},
    ]
    about = {"target": "Node/node-3", "action": "cilium.restart_agent", "times": 3, "healed": 2}
    api.page("/api/v1/report/recurrence", {**about, "first": times[0]["at"], "last": times[2]["at"], "each": times})
    return api


def test_report_of_what_recurs(ask, recurring, golden):
    golden("".join(ask("report", "recurrence", *form).stdout for form in ((), ("-o", "wide"), ("--markdown",))))
    assert recurring.asked[-1][2] == {"at_least": "2"}
    assert ask("report", "recurrence", "--markdown", "-o", "json").exit_code == 2
    (one,) = json.loads(ask("report", "recurrence", "-o", "json").stdout)["items"]
    assert [each["state"] for each in one["each"]] == ["healed", "not_healed", "healed"]
    assert ask("report", "recurrence", "-o", "name").stdout == "Node/node-3\n"
    ask("report", "recurrence", "--since", "2026-01-01T00:00:00Z", "--at-least", "3")
    assert recurring.asked[-1][2] == {"at_least": "3", "since": "2026-01-01T00:00:00.000Z"}


def test_report_of_nothing(ask, api):
    api.page("/api/v1/report/recurrence")
    assert ask("report", "recurrence").stderr == "No restarts that recur found.\n"


EFFECT = {"playbook": "cilium-agent-down", "runs": 6, "healed": 3, "failed": 1, "false_starts": 1, "stopped": 1, "open": 0, "success": 0.75}


def test_report_of_effect(ask, api, golden):
    took = {"heal_median": 95.0, "heal_longest": 600.0}
    none = {"runs": 1, "healed": 0, "failed": 0, "stopped": 0, "success": None, "heal_median": None, "heal_longest": None}
    api.page("/api/v1/report/effect", {**EFFECT, **took, "target": None}, {**EFFECT, **none, "target": "Node/a|b\x1b[2J"})
    shown = [ask("report", "effect", *form).stdout for form in ((), ("-o", "wide"), ("--markdown",), ("-o", "name"))]
    golden("".join(shown))
    assert "\x1b" not in "".join(shown)
    assert "Node/a\\|b" in shown[2], "a bar in a name opens no column"
    assert len(json.loads(ask("report", "effect", "-o", "json").stdout)["items"]) == 2
    ask("report", "effect", "--since", "2026-01-01T00:00:00Z", "--playbook", "p")
    assert api.asked[-1][2] == {"since": "2026-01-01T00:00:00.000Z", "playbook": "p"}


def test_report_of_effect_has_one_form(ask, api):
    api.page("/api/v1/report/effect")
    assert ask("report", "effect").stderr == "No runs found.\n"
    refused = ask("report", "effect", "--markdown", "-o", "json")
    assert refused.exit_code == 2
    assert "exclude each other" in refused.stderr


def test_status(ask, api, status, golden, still):
    api.answer("GET", "/api/v1/status", status)
    result = ask("status")
    assert (result.exit_code, result.stderr) == (0, "")
    golden(result.stdout)


def test_status_of_a_daemon_in_trouble(ask, api, status, golden, still):
    reload = {"ok": False, "problems": ["a.yaml:3:1: x", "b.yaml:1:1: y"], "playbooks": 3, "at": "2026-01-05T10:29:50Z"}
    everything = {**PAUSE, "target": None, "until": None}
    tripped = {**BREAKER, "open": True, "since": "2026-01-05T10:20:00Z", "detail": "5 failures within 6h"}
    more = {
        "breaker": tripped,
        "ready": False,
        "ready_detail": "the journal is closed",
        "undecided": 12,
        "undecided_since": "2026-01-05T10:28:30Z",
        "cilium": "1.21.0; Cilium 1.21.0 is outside of 1.16 to 1.20, which remediator was tested with",
        "paused": [PAUSE, everything],
        "last_reload": reload,
    }
    api.answer("GET", "/api/v1/status", {**status, **more, "version": "0.2.0", "dry_run": True, "leader": False})
    result = ask("status")
    assert "the daemon is 0.2.0" in result.stderr
    golden(result.stdout)


def test_status_with_what_waits_and_what_was_demoted(ask, api, status, golden, still, runs):
    asked = {key: runs.question[key] for key in ("question", "asked_at", "expires_at", "answers")}
    waiting = {"run": runs.id, "playbook": "cilium-agent-down", "target": "Node/node-3", "step": "", "missing": 1, **asked}
    demoted = {"playbook": "dns", "at": "2026-01-05T09:30:00Z", "mode": "suggest", "runs": ["r3", "r2", "r1"]}
    api.answer("GET", "/api/v1/status", {**status, "waiting": [waiting], "demoted": [demoted], "records": [RECORD]})
    golden(ask("status").stdout)


def test_status_json(ask, api, status):
    api.answer("GET", "/api/v1/status", status)
    assert json.loads(ask("status", "-o", "json").stdout) == status
    assert yaml.safe_load(ask("status", "-o", "yaml").stdout) == status


def test_pause(ask, api):
    api.answer("PUT", "/api/v1/pause", PAUSE)
    result = ask("pause", "--target", "Node/node-3", "--for", "2h30m", "--reason", "switch upgrade")
    assert result.exit_code == 0
    assert result.stdout.startswith("paused target Node/node-3, until 2026-01-05 12:30:00 UTC")
    assert "@" in api.body["by"]
    assert api.body | {"by": ""} == {"playbook": None, "target": "Node/node-3", "reason": "switch upgrade", "by": "", "seconds": 9000.0}
    assert ask("pause", "--reason", "x", "-o", "name").stdout == f"{PAUSE['id']}\n"


@pytest.mark.parametrize("wrong", [(), ("--reason", "x", "--for", "5"), ("--reason", "x", "--for", "soon")])
def test_pause_usage(ask, api, wrong):
    assert ask("pause", *wrong).exit_code == 2
    assert not api.asked


def test_resume(ask, api):
    api.answer("DELETE", "/api/v1/pause", {"ended": 2})
    api.page("/api/v1/pause")
    result = ask("resume", "--playbook", "p")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ended 2 pauses of playbook p\n", "")
    assert {**api.asked[0][2], "by": ""} == {"playbook": "p", "by": ""}


def test_resume_of_what_was_not_paused(ask, api):
    api.answer("DELETE", "/api/v1/pause", {"ended": 0})
    api.page("/api/v1/pause", PAUSE)
    result = ask("resume")
    assert (result.exit_code, result.stdout) == (1, "ended 0 pauses of everything\n")
    assert result.stderr == "Still paused: target Node/node-3, by ana@laptop: switch upgrade\n"


def test_why(ask, api):
    api.answer("GET", "/api/v1/why", {"ref": "x", "kind": "run", "lines": ["Run x: healed.", "", "  bell \x07"], "runs": ["r1"]})
    result = ask("why", "Pod/a/b c")
    assert (result.exit_code, result.stdout) == (0, "Run x: healed.\n\n  bell \\x07\n")
    assert api.asked[-1][2] == {"ref": "Pod/a/b c"}
    assert json.loads(ask("why", "x", "-o", "json").stdout)["kind"] == "run"
    assert ask("why", "x", "-o", "name").stdout == "r1\n"


def test_why_of_nothing(ask, api):
    api.answer("GET", "/api/v1/why", {"ref": "x", "kind": "nothing", "lines": ["Nothing."], "runs": []})
    assert ask("why", "x").exit_code == 1


def test_journal_verify(ask, api):
    api.answer("GET", "/api/v1/journal/verify", {"ok": True, "entries": 12, "problems": []})
    assert ask("journal", "verify").stdout == "whole: 12 entries, each follows from the one before it\n"
    api.answer("GET", "/api/v1/journal/verify", {"ok": False, "entries": 12, "problems": ["entry 3: \x1bhash", "entry 4: gone"]})
    result = ask("journal", "verify")
    assert (result.exit_code, result.stdout) == (1, "entry 3: \\x1bhash\nentry 4: gone\nBROKEN: 2 problems\n")


def test_journal_verify_reads_everything_or_goes_on_from_the_last_one(ask, api):
    since = {"seq": 9, "hash": "h", "at": "2026-01-05T10:00:00Z", "whole": True}
    api.answer("GET", "/api/v1/journal/verify", {"ok": True, "entries": 12, "problems": [], "since": since})
    words = "whole: 12 entries, each follows from the one before it; up to entry 9 as verified on 2026-01-05 10:00:00 UTC\n"
    assert ask("journal", "verify", "--resume", "--jobs", "2").stdout == words
    assert api.asked[-1][2] == {"resume": "true", "jobs": "2"}
    ask("journal", "verify")
    assert api.asked[-1][2] == {}


def test_journal_prune(ask, api):
    api.answer("POST", "/api/v1/journal/prune", {"through": 40, "removed": {"entry": 40, "run": 2}})
    assert ask("journal", "prune", "--older-than", "40d", "--keep", "5").stdout == "pruned up to entry 40: 40 entry, 2 run\n"
    api.answer("POST", "/api/v1/journal/prune", {"through": 0, "removed": {}})
    assert ask("journal", "prune").stdout == "nothing is old enough\n"


def test_journal_export_is_byte_for_byte(process, api):
    lines = "".join(json.dumps({"seq": n, "data": "ü" * 100_000}, ensure_ascii=False) + "\n" for n in range(3))
    api.answer("GET", "/api/v1/journal/export", raw=lines)
    done = process("journal", "export", env={"REMEDIATOR_SERVER": api.url})
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, lines, b"")


def test_alert_send_posts_the_file_as_it_is(ask, api, tmp_path):
    api.answer("POST", "/api/v1/alerts", {"delivery": "01d", "alerts": 2})
    (tmp_path / "p.json").write_bytes(b'{"not": "looked at"')
    result = ask("alert", "send", tmp_path / "p.json")
    assert (result.exit_code, result.stdout) == (0, "delivery 01d is on disk, with 2 alerts\n")
    assert result.stderr == "What became of it: remediator why 01d\n"
    assert api.asked[-1][4] == b'{"not": "looked at"'
    assert ask("alert", "send", "-", "-o", "json", stdin="{}").stdout == '{\n  "delivery": "01d",\n  "alerts": 2\n}\n'


def test_alert_send_that_is_not_taken(ask, api):
    api.refuse("POST", "/api/v1/alerts", 400, "Not a valid payload", "alerts[3].startsAt: not a time", path="alerts[3].startsAt")
    result = ask("alert", "send", "-", stdin="{}")
    assert (result.exit_code, result.stderr) == (2, "error: Not a valid payload: alerts[3].startsAt: not a time\n")
    assert ask("alert", "send", "/nowhere").exit_code == 2


REPORT = {
    "labels": {"alertname": "CiliumAgentDown", "node": "node-3"},
    "playbook": "cilium-agent-down",
    "target": {"kind": "Node", "name": "node-3", "namespace": "", "uid": "7b1f"},
    "decision": "refused",
    "reason": "paused",
    "detail": "by ana: switch upgrade",
    "gates": [],
    "evidence": [],
    "nearest": [],
}
UNMATCHED = {
    **REPORT,
    "playbook": None,
    "target": None,
    "decision": "unmatched",
    "reason": "unmatched",
    "detail": "",
    "nearest": [
        {"playbook": "node-latency", "matched": 1, "of": 2, "failed": ['severity="critical": the alert has severity="warning"']},
        {"playbook": "node-down", "matched": 0, "of": 1, "failed": ['alertname="NodeFailure": the alert has alertname="X"']},
    ],
}


def test_match(ask, api, runs, golden):
    api.answer("POST", "/api/v1/match", {**REPORT, "gates": runs.refusing})
    result = ask("match", "--label", "alertname=CiliumAgentDown", "--label", "node=node-3", "--at", "2026-01-05T10:00:00Z")
    assert result.exit_code == 0
    assert api.body == {"labels": {"alertname": "CiliumAgentDown", "node": "node-3"}, "at": "2026-01-05T10:00:00.000Z"}
    golden(result.stdout)


def test_match_of_nothing_explains_the_nearest_misses(ask, api, golden):
    api.answer("POST", "/api/v1/match", UNMATCHED)
    golden(ask("match", "--label", "alertname=X").stdout)
    assert api.body == {"labels": {"alertname": "X"}, "at": None}


def test_match_as_data(ask, api):
    api.answer("POST", "/api/v1/match", REPORT)
    assert json.loads(ask("match", "--label", "a=b", "-o", "json").stdout) == REPORT
    assert ask("match", "--label", "a=b", "-o", "name").stdout == "cilium-agent-down\n"
    two = json.dumps([{"labels": {"a": "1"}}, {"labels": {"a": "2"}}])
    assert json.loads(ask("match", "--alert", "-", "-o", "json", stdin=two).stdout) == {"items": [REPORT, REPORT], "next": None}


@pytest.mark.parametrize(("answer", "wanted", "code"), [(REPORT, "cilium-agent-down", 0), (REPORT, "node-down", 1), (UNMATCHED, "x", 1)])
def test_match_verify(ask, api, answer, wanted, code):
    api.answer("POST", "/api/v1/match", answer)
    assert ask("match", "--label", "a=b", "--verify", wanted).exit_code == code


@pytest.mark.parametrize("wrong", [(), ("--label", "a=b", "--alert", "-"), ("--label", "a")])
def test_match_usage(ask, api, wrong):
    assert ask("match", *wrong, stdin='{"labels": {}}').exit_code == 2
    assert not api.asked


RECORD = {
    "playbook": "cilium-agent-down",
    "days": 30,
    "predicted": {"runs": 12, "people_acted": 3, "ended_alone": 8, "still_firing": 1},
    "suggested": {
        "runs": 9,
        "approved": 5,
        "rejected": 1,
        "expired": 2,
        "withdrawn": 1,
        "waiting": 0,
        "ended_after_no": 2,
        "after_yes": {"runs": 5, "healed": 4, "failed": 1, "stopped": 0, "open": 0},
    },
    "by_itself": {"runs": 4, "healed": 0, "failed": 3, "stopped": 1, "open": 0},
    "by_hand": {"runs": 0, "healed": 0, "failed": 0, "stopped": 0, "open": 0},
    "failures_in_a_row": 3,
}
TAKES = """
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: cilium-agent-down, summary: "The agent is gone", runbook: docs/x.md}
parameters:
  ready_for: {type: duration, default: 30s, help: "How long it must\n  stay ready"}
when:
  alerts: ['alertname="CiliumAgentDown"']
  target: {kind: Node, name: "${alert.labels.node}"}
mode: suggest
gates: {cooldown: 30m, attempts: {max: 2, per: target, within: 1d}}
ladder:
- {name: restart, steps: [{restart: {action: cilium.restart_agent, ready_for: "${parameters.ready_for}", timeout: 5m}}]}
verify: {query: 'up{node="${target.name}"} == 1', within: 10m, hold: 1m}
"""
BY_HAND = """
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: look, summary: Look}
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
"""


IN_FORCE = [
    {"gate": "cooldown", "by": "always", "settings": "30m"},
    {"gate": "crash_looping", "by": "cilium.restart_agent", "settings": None},
    {"gate": "disturbance_budget", "by": "always", "settings": {"max_nodes": 1}},
]


def test_playbooks(ask, api, golden):
    takes, by_hand = (load_playbook(text, actions=actions(), gates=gates(), source="a.yaml") for text in (TAKES, BY_HAND))
    api.page("/api/v1/playbooks", takes.describe(), by_hand.describe())
    demoted = {"playbook": "cilium-agent-down", "at": "2026-01-05T09:30:00Z", "mode": "suggest", "runs": ["r3", "r2", "r1"]}
    standing = {
        "mode": "auto",
        "mode_in_force": "suggest",
        "demoted": demoted,
        "record": RECORD,
        "approval": {"expires": "1h", "people": 2},
    }
    api.answer("GET", "/api/v1/playbooks/cilium-agent-down", {**takes.describe(), **standing, "in_force": IN_FORCE, "text": TAKES})
    api.answer("GET", "/api/v1/playbooks/look", {**by_hand.describe(), "text": "x: \x1b[1m\n"})
    shown = ask("playbooks", "show", "cilium-agent-down").stdout + ask("playbooks", "show", "look").stdout
    assert "\x1b" not in shown
    golden(ask("playbooks", "list").stdout + ask("playbooks", "list", "-o", "wide").stdout + shown)
    assert json.loads(ask("playbooks", "list", "-o", "json").stdout) == {"items": [takes.describe(), by_hand.describe()], "next": None}
    assert ask("playbooks", "list", "-o", "name").stdout == "cilium-agent-down\nlook\n"


def test_a_playbook_for_several_kinds_says_all_of_them(ask, api):
    several = TAKES.replace('kind: Node, name: "${alert.labels.node}"', "kind: [Deployment, StatefulSet]")
    playbook = load_playbook(several, actions=actions(), gates=gates(), source="a.yaml").describe()
    assert playbook["when"]["target"]["kind"] == ["Deployment", "StatefulSet"]
    api.page("/api/v1/playbooks", playbook)
    api.answer("GET", "/api/v1/playbooks/cilium-agent-down", {**playbook, "text": several})
    for what in (("list",), ("show", "cilium-agent-down")):
        assert "Deployment or StatefulSet" in ask("playbooks", *what).stdout


def test_reinstate(ask, api):
    lifted = {"playbook": "dns", "at": "2026-01-05T09:30:00Z", "mode": "suggest", "runs": ["r1"]}
    api.answer("POST", "/api/v1/playbooks/dns/reinstate", lifted)
    result = ask("playbooks", "reinstate", "dns", "--reason", "fixed")
    assert (result.exit_code, result.stdout) == (0, "playbook dns may act again, as its file and the settings say\n")
    assert (api.body["reason"], "@" in api.body["by"]) == ("fixed", True)
    api.refuse("POST", "/api/v1/playbooks/dns/reinstate", 409, "Conflict", "playbook dns is not demoted")
    result = ask("playbooks", "reinstate", "dns")
    assert (result.exit_code, result.stderr) == (1, "error: Conflict: playbook dns is not demoted\n")


def test_actions_and_gates_are_shown_as_they_describe_themselves(ask, api):
    restart = actions()["cilium.restart_agent"].describe()
    cordon = actions()["node.cordon"].describe()
    api.page("/api/v1/actions", restart, cordon)
    api.answer("GET", "/api/v1/actions/cilium.restart_agent", restart)
    api.page("/api/v1/gates", *(gate.describe() for gate in gates().values()))
    listed = ask("actions", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["NAME", "cilium.restart_agent", "node.cordon"]
    shown = ask("actions", "show", "cilium.restart_agent").stdout
    assert "Disruptive:" in shown
    assert "ready_for" in shown
    assert "delete" in shown
    needed, _, optional = shown.partition("ONLY FOR")
    assert "pods/exec" not in needed.partition("RBAC GROUPS")[2]
    assert optional.splitlines()[1].split() == ["exec", "core", "pods/exec", "get,", "create", "cilium.namespace"]
    assert json.loads(ask("actions", "show", "cilium.restart_agent", "-o", "json").stdout) == json.loads(json.dumps(restart))
    names = [line.split()[0] for line in ask("gates", "list").stdout.splitlines()[1:]]
    assert names == list(gates())


def test_without_a_daemon_the_programs_own_actions_and_gates_are_shown(call):
    listed = call("actions", "list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == list(actions())
    assert "No daemon named" in listed.stderr
    assert json.loads(call("actions", "show", "node.cordon", "-o", "json").stdout)["name"] == "node.cordon"
    assert [line.split()[0] for line in call("gates", "list").stdout.splitlines()[1:]] == list(gates())


def test_an_action_that_is_not_there_is_named_with_the_nearest(call):
    result = call("actions", "show", "node.cordn")
    assert result.exit_code == 2
    assert "there is no action node.cordn; did you mean node.cordon?" in result.stderr
