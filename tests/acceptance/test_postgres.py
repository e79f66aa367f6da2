"""The same daemon on PostgreSQL: journal and engine in one database, and a restart takes up what was open."""

from __future__ import annotations

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
