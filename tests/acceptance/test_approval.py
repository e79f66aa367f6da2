"""A shipped playbook suggests, people say yes or no from the command line; everything in processes of its own, on the simulated cluster."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.timeout(240)

NODE = "node-3"
RATE = 20


@pytest.fixture
def field(simulation_process):
    return simulation_process(rate=RATE)


@pytest.fixture
def keeper(field, daemon, agent_down_by_kube):
    """With the playbook as it is shipped: it suggests. No Prometheus, since a probe interval lasts minutes of the daemon's own clock."""
    return daemon(playbooks=[agent_down_by_kube], **{door: found for door, found in field.settings.items() if door != "prometheus"})


@pytest.fixture
def hung(field, keeper, payload, tmp_path):
    """An agent that hangs, and its alert on its way from a file; the id of the run that waits."""
    before = field.agents()
    field.call("POST", f"/sim/agents/{NODE}/kill", {"how": "hung"})
    labels = {"alertname": "CiliumAgentDown", "severity": "critical", "node": NODE}
    now = field.call("GET", "/sim/clock")["now"]
    field.call("POST", "/alertmanager/api/v2/alerts", [{"labels": labels, "startsAt": now, "endsAt": "2100-01-01T00:00:00Z"}])
    (held,) = [alert for alert in field.call("GET", "/alertmanager/api/v2/alerts") if alert["labels"] == labels]
    keeper.alert = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": held["startsAt"]}
    keeper.alert["fingerprint"] = held["fingerprint"]
    keeper.send(payload(keeper.alert))
    keeper.before = before

    def look():
        page = keeper.get("/api/v1/runs?state=awaiting_approval")["items"]
        return page[0]["id"] if page and any(step["evidence"] for step in page[0]["steps"]) else None

    return keeper.wait_for("a run that waits for people", look)


def test_yes(keeper, field, hung):
    listed = keeper.cli("runs", "list", "--state", "awaiting_approval", "-o", "name")
    assert (listed.returncode, listed.stdout) == (0, f"{hung}\n")
    status = keeper.cli("status").stdout
    assert "1 for approval" in status
    assert hung in status
    shown = keeper.cli("runs", "show", hung).stdout
    plan = shown.partition("Plan, as things stood when people were asked:")[2]
    assert "cilium.restart_agent (ready_for=2s" in plan
    assert "     - " in plan
    assert "GATE" in plan
    assert field.agents() == keeper.before

    said = keeper.cli("runs", "approve", hung, "--reason", "looked at it")
    assert (said.returncode, said.stdout) == (0, f"run {hung} approved, now running\n"), said.stderr
    watched = keeper.cli("runs", "watch", hung)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert "looked at it" in watched.stdout
    after = field.agents()
    assert {node for node in after if after[node] != keeper.before[node]} == {NODE}
    again = keeper.cli("runs", "approve", hung)
    assert again.returncode == 1
    assert "has ended: healed" in again.stderr
    assert "looked at it" in keeper.cli("why", hung).stdout
    record = json.loads(keeper.cli("playbooks", "show", "cilium-agent-down", "-o", "json").stdout)["record"]
    assert (record["suggested"]["approved"], record["suggested"]["after_yes"]["healed"]) == (1, 1)
    assert "approved 1" in keeper.cli("playbooks", "show", "cilium-agent-down").stdout


def test_no(keeper, field, hung):
    said = keeper.cli("runs", "reject", hung, "--reason", "it is being looked at")
    assert (said.returncode, said.stdout) == (0, f"run {hung} rejected, now cancelled\n"), said.stderr
    run = keeper.get(f"/api/v1/runs/{hung}")
    assert (run["reason"], run["detail"].endswith("it is being looked at")) == ("rejected", True)
    assert field.agents() == keeper.before
    assert keeper.cli("runs", "approve", hung).returncode == 1
    assert keeper.cli("runs", "approve", "01nothing").returncode == 1
