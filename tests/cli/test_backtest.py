"""``backtest`` on files and on the daemon's record, as people see it; and what it says of files that are something else."""

from __future__ import annotations

import json

import pytest

from remediator.cli.backtest import deliveries_of
from remediator.errors import UsageError

PLAYBOOK = """
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: agent, summary: Restart the agent}
when:
  alerts: [alertname=AgentDown]
  target: {kind: Node}
mode: auto
gates: {cooldown: 30m}
ladder:
- name: restart
  steps:
  - restart: {action: cilium.restart_agent, timeout: 20m}
verify: {query: "up == 1", within: 10m, hold: 1m}
"""


def payload(at, *, ends="0001-01-01T00:00:00Z", starts=None, name="AgentDown"):
    alert = {
        "status": "resolved" if not ends.startswith("0001") else "firing",
        "labels": {"alertname": name, "node": "node-3"},
        "startsAt": starts or at,
        "endsAt": ends,
        "fingerprint": "00000000000000aa",
    }
    return json.dumps({"version": "4", "status": "firing", "receiver": "r", "alerts": [alert]}, indent=1)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, cooldown in (("playbooks", "30m"), ("changed", "5m")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "agent.yaml").write_text(PLAYBOOK.replace("30m", cooldown))
    (tmp_path / "1.json").write_text(payload("2026-01-05T10:00:00Z"))
    (tmp_path / "2.json").write_text(payload("2026-01-05T10:00:00Z", ends="2026-01-05T10:05:00Z"))
    (tmp_path / "3.json").write_text(payload("2026-01-05T10:15:00Z"))
    (tmp_path / "4.json").write_text(payload("2026-01-05T10:16:00Z", name="Other"))
    return [part for number in (3, 1, 2, 4) for part in ("--from", f"{number}.json")]


def test_backtest(call, recorded, golden):
    golden(call("backtest", "playbooks", *recorded).stdout)


def test_backtest_compares_two_revisions(call, recorded, golden):
    golden(call("backtest", "playbooks", "--against", "changed", *recorded).stdout)


def test_json_has_both_and_what_was_assumed(call, recorded):
    data = json.loads(call("backtest", "playbooks", "--against", "changed", "-o", "json", *recorded).stdout)
    assert (data["before"]["gates"], data["after"]["gates"], len(data["items"])) == ({"cooldown": 1}, {}, 1)
    assert data["items"][0]["before"]["refused_by"] == ["cooldown"]
    assert data["assumed"]
    assert data["unjudged"]["protected"] == 2


def test_settings_bring_their_limits_and_modes(call, recorded, tmp_path):
    (tmp_path / "settings.yaml").write_text(
        "apiVersion: remediator.dev/v1\nkind: Settings\nserver: {insecure: true, listen: '127.0.0.1:0'}\n"
        "playbooks: [playbooks]\nmode: observe\n"
    )
    data = json.loads(call("backtest", "settings.yaml", "-o", "json", *recorded).stdout)
    assert data["gates"]["observe_only"] == 2


def test_what_came_in_is_asked_of_the_daemon(ask, api, recorded):
    alert = {"name": "AgentDown", "fingerprint": "aa", "starts_at": "2026-01-05T10:00:00Z", "status": "firing", "labels": {
        "alertname": "AgentDown", "node": "node-3"}, "annotations": {}}  # fmt: skip
    one = {"id": "d", "received_at": "2026-01-05T10:00:00Z", "receiver": "r", "group_key": "", "status": "firing", "truncated": 0}
    api.answer("GET", "/api/v1/deliveries", {"items": [{**one, "alerts": [alert]}], "next": None})
    found = json.loads(ask("backtest", "playbooks", "--since", "2026-01-05T09:00:00Z", "-o", "json").stdout)
    assert found["decisions"] == {"run": 1}
    (asked,) = [wanted for _, path, wanted, *_ in api.asked if path == "/api/v1/deliveries"]
    assert asked["since"] == "2026-01-05T09:00:00.000Z"


def test_only_what_came_since_then(call, recorded):
    since = "2026-01-05T10:10:00Z"
    found = json.loads(call("backtest", "playbooks", "--since", since, "-o", "json", *recorded).stdout)
    assert (found["deliveries"], found["gates"]) == (2, {})


def test_a_playbook_that_is_none_is_told_with_its_place(call, recorded, tmp_path):
    (tmp_path / "changed" / "agent.yaml").write_text(PLAYBOOK.replace("mode: auto", "mode: always"))
    told = call("backtest", "playbooks", "--against", "changed", *recorded)
    assert told.exit_code == 1
    assert "changed/agent.yaml:8:1: mode: " in told.stderr


def test_a_file_that_is_neither_is_named_with_its_line(tmp_path):
    odd = tmp_path / "odd.json"
    odd.write_text('{"version": "3"}')
    with pytest.raises(UsageError, match=r"odd.json: neither a journal's export nor Alertmanager's payload"):
        list(deliveries_of((str(odd),)))
    odd.write_text('{"seq": 1, "kind": "x", "at": "2026-01-05T10:00:00Z", "ref": "", "data": {}, "previous": "", "hash": ""}\n{"seq": 2}\n')
    with pytest.raises(UsageError, match=r"odd\.json:2: not a line"):
        list(deliveries_of((str(odd),)))
