"""From a real Alertmanager to a verified, recorded action on a real Kubernetes API."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.controlplane, pytest.mark.alertmanager, pytest.mark.prometheus, pytest.mark.timeout(300)]

LABELS = {"alertname": "CiliumAgentDown", "severity": "critical", "job": "cilium-agent"}


@pytest.fixture
def stage(control_plane, agents, agent_down, exporter, prometheus_server, alertmanager, daemon):
    """Everything real, wired as a user would: Prometheus scrapes, Alertmanager posts to the daemon, the daemon asks both."""

    class Stage:
        def __init__(self):
            agents()
            for number in range(1, 6):
                self.up(f"node-{number}", 1)
            self.prometheus = prometheus_server(exporter, job="cilium-agent")
            self.prometheus.wait_for("up")

        def up(self, node, value):
            exporter.set("up", {"job": "cilium-agent", "node": node}, value)

        def start(self, port, *flags):
            self.alertmanager = alertmanager(f"http://127.0.0.1:{port}/api/v1/alerts", token="webhook-token-of-the-test")
            return daemon(
                playbooks=[agent_down],
                modes={"*": "auto"},
                kubernetes={"kubeconfig": str(control_plane.remediator)},
                prometheus={"url": self.prometheus.url},
                alertmanager={"url": self.alertmanager.url},
                flags=flags,
                port=port,
            )

        def fires(self, node):
            self.up(node, 0)
            self.prometheus.wait_for(f'up{{node="{node}"}} == 0')
            self.alertmanager.post({**LABELS, "node": node})

        def heal(self, daemon, node):
            """The agent is back as soon as the run has begun to verify; the run at its end."""
            daemon.wait_for("the run to verify", lambda: [r for r in daemon.get("/api/v1/runs")["items"] if r["state"] == "verifying"])
            self.up(node, 1)
            return daemon.run_that_ended()

    return Stage()


def changes_of(run):
    return [change for step in run["steps"] for change in step["changes"]]


def calls_of(run):
    """What was, or would have been, sent: verb and object."""
    return [(c["verb"], c["resource"]["kind"], c["resource"]["namespace"], c["resource"]["uid"]) for c in changes_of(run)]


def test_the_agent_of_one_node_is_replaced_and_proved(stage, control_plane, agents, free_port):
    before = agents()
    daemon = stage.start(free_port)
    writes_before = len(control_plane.writes())
    stage.fires("node-3")
    run = stage.heal(daemon, "node-3")

    assert (run["state"], run["reason"]) == ("healed", "healed")
    assert (run["target"]["kind"], run["target"]["name"]) == ("Node", "node-3")
    after = agents()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    (write,) = control_plane.writes()[writes_before:]
    assert (write["verb"], write["objectRef"]["resource"]) == ("delete", "pods")
    (change,) = changes_of(run)
    assert change["state"] == "kept"
    assert change["resource"]["uid"] == before["node-3"]
    assert write["auditID"] == change["request_id"]

    stage.alertmanager.resolve({**LABELS, "node": "node-3"})
    (resolved,) = daemon.decisions(decision="resolved")
    assert resolved["alert"]["labels"]["node"] == "node-3"
    assert daemon.get("/api/v1/alerts")["items"] == []
    assert "healed" in daemon.why("CiliumAgentDown")
    assert daemon.cli("journal", "verify").returncode == 0


@pytest.mark.long
def test_a_dry_run_predicts_the_very_calls_and_changes_nothing(stage, control_plane, agents, free_port):
    before = agents()
    daemon = stage.start(free_port, "--dry-run")
    versions = control_plane.resource_versions()
    stage.fires("node-4")
    predicted = daemon.run_that_ended()

    assert (predicted["state"], predicted["dry_run"]) == ("predicted", True)
    assert agents() == before
    assert control_plane.resource_versions() == versions
    (change,) = changes_of(predicted)
    assert change["dry_run"] is True
    assert change["resource"]["uid"] == before["node-4"]
    assert daemon.get("/api/v1/changes?left_behind=true")["items"] == []
    daemon.stop()
    stage.alertmanager.stop()

    live = stage.start(free_port)
    stage.alertmanager.post({**LABELS, "node": "node-4"})
    run = stage.heal(live, "node-4")
    assert run["state"] == "healed"
    assert calls_of(run) == calls_of(predicted)
    assert [s["name"] for s in run["steps"]] == [s["name"] for s in predicted["steps"]]
    assert [v["gate"] for v in run["gates"]] == [v["gate"] for v in predicted["gates"]]
