"""The same daemon on PostgreSQL: journal and engine in one database, and a restart takes up what was open."""

from __future__ import annotations

import signal
from urllib.error import HTTPError

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

RESTART = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: restart}
ladder:
- name: restart
  steps:
  - restart: {action: cilium.restart_agent, timeout: 5m, ready_for: 20s}
verify:
  kube: {kind: Pod, namespace: kube-system, labels: k8s-app=cilium, fields: 'spec.nodeName=${target.name}'}
  holds: size(objects) == 1
  within: 5m
  hold: 1s
"""


def test_a_run_survives_a_kill_on_postgresql(postgres_database, simulation_process, daemon):
    cluster = simulation_process(rate=10)
    before = cluster.agents()
    # Without Prometheus: the daemon's clock is a real one, and a whole probe interval of it would only be waited for.
    settings = {name: value for name, value in cluster.settings.items() if name != "prometheus"}
    started = daemon(playbooks=[RESTART], store={"url": postgres_database}, **settings)
    request = {"playbook": "restart", "target": "Node/node-3", "by": "test", "reason": "to see"}
    decided = started.call("POST", "/api/v1/runs", request)
    started.wait_for("the delete", lambda: [c for s in started.get(f"/api/v1/runs/{decided['id']}")["steps"] for c in s["changes"]])
    started.kill()
    started.start()
    run = started.run_that_ended()
    assert (run["id"], run["state"]) == (decided["id"], "healed")
    after = cluster.agents()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    assert started.cli("journal", "verify").returncode == 0


@pytest.mark.long
def test_postgresql_restarts_while_a_run_is_at_a_step(postgres_server, postgres_database, simulation_process, daemon, payload, one_alert):
    """Twice: once the agent's delete is sent, and in the hold of the verification. What got 200 is kept, what got 503 was told so."""
    if not postgres_server.stoppable:
        pytest.skip("the PostgreSQL of these tests is somebody else's, so it is not stopped")
    cluster = simulation_process(rate=10)
    before = cluster.agents()
    settings = {name: value for name, value in cluster.settings.items() if name != "prometheus"}
    started = daemon(playbooks=[RESTART.replace("hold: 1s", "hold: 5s")], store={"url": postgres_database}, **settings)
    kept = []

    def deliver():
        """The status of the answer."""
        try:
            kept.append(started.send(payload(one_alert(node="node-5")))["delivery"])
        except HTTPError as error:
            return error.code
        return 200

    def outage():
        postgres_server.stop(signal.SIGINT)
        try:
            assert deliver() == 503
        finally:
            postgres_server.start()
        assert not started.program.ended
        started.wait_for("deliveries to be taken again", lambda: deliver() == 200)

    assert deliver() == 200
    request = {"playbook": "restart", "target": "Node/node-3", "by": "test", "reason": "to see"}
    run = started.call("POST", "/api/v1/runs", request)["id"]
    started.wait_for("the delete", lambda: [c for s in started.get(f"/api/v1/runs/{run}")["steps"] for c in s["changes"]])
    outage()
    started.wait_for("the verification", lambda: started.get(f"/api/v1/runs/{run}")["state"] == "verifying")
    outage()

    ended = started.run_that_ended()
    assert (ended["id"], ended["state"]) == (run, "healed"), ended["detail"]
    after = cluster.agents()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    deletes = [call for call in cluster.call("GET", "/sim/requests")["items"] if call["verb"] == "delete" and "/pods/" in call["path"]]
    assert len(deletes) == 1, "no call is sent a second time"
    decided = {decision["delivery"] for decision in started.decisions(len(kept) + 1)}
    assert decided == {None, *kept}, "each accepted delivery is decided, and what a person asked for"
    assert started.cli("journal", "verify").returncode == 0


MOVED = RESTART.replace("  steps:\n", "  steps:\n  - ask: {action: approve, message: May I?, expires: 1h}\n")


@pytest.mark.long
def test_a_journal_moves_to_postgresql_with_the_question_that_is_open(postgres_database, simulation_process, daemon):
    cluster = simulation_process(rate=10)
    before = cluster.agents()
    settings = {name: value for name, value in cluster.settings.items() if name != "prometheus"}
    old = daemon(playbooks=[MOVED], **settings)
    asked = old.call("POST", "/api/v1/runs", {"playbook": "restart", "target": "Node/node-3", "by": "test", "reason": "to see"})
    waits = f"/api/v1/runs/{asked['id']}"
    old.wait_for("the question", lambda: old.get(waits)["state"] == "awaiting_approval")
    exported = old.cli("journal", "export")
    assert exported.returncode == 0
    old.stop()
    (old.folder / "journal.jsonl").write_text(exported.stdout)

    path = old.folder / "settings.yaml"
    path.write_text(path.read_text().replace("sqlite:///remediator.db", postgres_database))
    imported = old.cli("journal", "import", str(old.folder / "journal.jsonl"), "--config", str(path))
    assert (imported.returncode, imported.stderr) == (0, "")
    again = old.cli("journal", "import", str(old.folder / "journal.jsonl"), "--config", str(path))
    assert again.returncode == 2
    assert "is not empty" in again.stderr

    old.start()
    assert old.cli("journal", "verify").returncode == 0
    assert old.get(waits)["state"] == "awaiting_approval"
    assert before == cluster.agents()
    assert old.cli("runs", "approve", asked["id"]).returncode == 0
    run = old.run_that_ended()
    assert (run["id"], run["state"]) == (asked["id"], "healed"), run["detail"]
    assert {node for node, agent in cluster.agents().items() if before[node] != agent} == {"node-3"}
    assert old.cli("journal", "verify").returncode == 0
