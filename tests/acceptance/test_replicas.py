"""Two daemons on one PostgreSQL database and one cluster: one leads, both take webhooks; a leader that is gone is followed."""

from __future__ import annotations

import os
import signal
from urllib.error import HTTPError

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.long, pytest.mark.timeout(240)]

RESTART = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: restart}
ladder:
- name: restart
  steps:
  - restart: {action: cilium.restart_agent, timeout: 5m, ready_for: 20s}
  - cordon: {action: node.cordon}
verify:
  kube: {kind: Pod, namespace: kube-system, labels: k8s-app=cilium, fields: 'spec.nodeName=${target.name}'}
  holds: size(objects) == 1
  within: 5m
  hold: 1s
"""
REQUEST = {"playbook": "restart", "target": "Node/node-3", "by": "test", "reason": "to see"}


@pytest.fixture
def cluster(simulation_process):
    return simulation_process()


@pytest.fixture
def replica(cluster, daemon, postgres_database):
    settings = {name: value for name, value in cluster.settings.items() if name != "prometheus"}
    election = {"enabled": True, "namespace": "kube-system"}
    return lambda: daemon(playbooks=[RESTART], store={"url": postgres_database}, election=election, **settings)


@pytest.fixture
def pair(replica):
    """The leader and the standby."""
    first = replica()
    leads(first)
    second = replica()
    second.wait_for("it knows who leads", lambda: second.get("/api/v1/status")["ready_detail"].startswith("standby; "))
    return first, second


def leads(one):
    one.wait_for("it leads", lambda: one.get("/api/v1/status")["leader"], seconds=90)


def sent(cluster, verb, path):
    calls = cluster.call("GET", "/sim/requests")["items"]
    return [call for call in calls if call["verb"] == verb and path in call["path"] and "dryRun" not in str(call)]


def deletes(cluster):
    return sent(cluster, "delete", "/pods/")


def cordons(cluster):
    return sent(cluster, "patch", "/nodes/node-3")


def begin(leader, cluster):
    """A run whose delete has been sent, and whose cordon is still to come."""
    run = leader.call("POST", "/api/v1/runs", REQUEST)["id"]
    leader.wait_for("the delete", lambda: [c for s in leader.get(f"/api/v1/runs/{run}")["steps"] for c in s["changes"]])
    leader.wait_for("it took effect", lambda: len(deletes(cluster)) == 1)
    return run


def reckon(one, cluster, run):
    ended = one.run_that_ended(seconds=180)
    assert (ended["id"], ended["state"]) == (run, "healed"), ended["detail"]
    assert (len(deletes(cluster)), len(cordons(cluster))) == (1, 1), "every call is sent once, whoever sends it"
    assert one.cli("journal", "verify").returncode == 0


def test_a_killed_leader_is_followed(pair, cluster, payload, one_alert):
    leader, standby = pair
    taken = standby.send(payload(one_alert(node="node-5")))["delivery"]
    decided = standby.decisions(1)
    assert [one["delivery"] for one in decided] == [taken], "taken by one, decided by the other, told by both"
    with pytest.raises(HTTPError) as refused:
        standby.call("POST", "/api/v1/runs", REQUEST)
    assert refused.value.code == 503
    assert leader.get("/api/v1/status")["ready_detail"] == "leader"
    assert "remediator_leader 0" in standby.metrics()
    assert "remediator_leader 1" in leader.metrics()

    run = begin(leader, cluster)
    assert standby.get(f"/api/v1/runs/{run}")["id"] == run
    leader.kill()
    leads(standby)
    reckon(standby, cluster, run)


def test_a_stopped_leader_does_nothing_when_it_wakes(pair, cluster):
    leader, standby = pair
    run = begin(leader, cluster)
    os.kill(leader.program.pid, signal.SIGSTOP)
    try:
        leads(standby)
        standby.wait_for("the cordon", lambda: cordons(cluster), seconds=120)
    finally:
        os.kill(leader.program.pid, signal.SIGCONT)
    standby.wait_for("it ends", lambda: leader.program.ended)
    assert "this daemon must act no more and ends" in leader.program.output()
    reckon(standby, cluster, run)
    leader.start()
    assert leader.get("/api/v1/status")["leader"] is False


def test_a_leader_that_stops_in_good_order_hands_over(pair, cluster):
    leader, standby = pair
    run = begin(leader, cluster)
    leader.stop()
    leads(standby)
    reckon(standby, cluster, run)
