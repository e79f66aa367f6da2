"""Two daemons on one PostgreSQL database and one cluster: one leads, both take webhooks; a leader that is gone is followed."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.error import HTTPError

import pytest

log = logging.getLogger(__name__)
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
TAKES_ALERTS = """
when:
  alerts: ['alertname="CiliumAgentDown"']
  target: {kind: Node, name: '${alert.labels.node}'}
mode: auto
gates: {cooldown: 1s}
"""
REQUEST = {"playbook": "restart", "target": "Node/node-3", "by": "test", "reason": "to see"}


@pytest.fixture
def cluster(simulation_process):
    return simulation_process()


@pytest.fixture
def replica(cluster, daemon, postgres_database, monkeypatch):
    """replica(): one more, on no node; replica("node-3"): as if it ran there."""
    settings = {name: value for name, value in cluster.settings.items() if name != "prometheus"}
    election = {"enabled": True, "namespace": "kube-system"}

    def start(node="", text=RESTART, **more):
        monkeypatch.setenv("NODE_NAME", node)
        return daemon(playbooks=[text], store={"url": postgres_database}, **{"election": election, **settings, **more})

    return start


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


def holder(cluster):
    return cluster.call("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/remediator")["spec"]["holderIdentity"]


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
    """The time it took is logged (pytest -rP) and not judged: on a busy machine everything takes longer."""
    leader, standby = pair
    taken = standby.send(payload(one_alert(node="node-5")))["delivery"]
    decided = standby.decisions(1)
    assert [one["delivery"] for one in decided] == [taken], "taken by one, decided by the other, told by both"
    assert leader.get("/api/v1/status")["ready_detail"] == "leader"
    assert "remediator_leader 0" in standby.metrics()
    assert "remediator_leader 1" in leader.metrics()

    run = begin(standby, cluster)  # what people ask of a standby is the leader's to do
    assert [entry for entry in leader.get(f"/api/v1/runs/{run}")["steps"] if entry["changes"]]
    leader.kill()
    began = time.monotonic()
    leads(standby)
    log.info("followed after %.1f s", time.monotonic() - began)
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
    """It gives the Lease back, so that nobody waits until it is over."""
    leader, standby = pair
    run = begin(leader, cluster)
    before = holder(cluster)
    leader.stop()
    began = time.monotonic()
    assert holder(cluster) != before, "given back, or taken since"
    leads(standby)
    log.info("followed after %.1f s", time.monotonic() - began)
    reckon(standby, cluster, run)


def test_a_leader_hands_over_before_its_own_node_is_disturbed(replica, cluster, payload, one_alert):
    """The other one, on another node, restarts the agent there; the first one is a standby again."""
    text = RESTART.replace("\nladder:", f"{TAKES_ALERTS}ladder:")
    first = replica("node-3", text)
    leads(first)
    second = replica("node-4", text)
    second.wait_for("it knows who leads", lambda: second.get("/api/v1/status")["ready_detail"].startswith("standby; "))
    alert = one_alert(node="node-3", starts_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    cluster.call("POST", "/alertmanager/api/v2/alerts", [{"labels": alert["labels"], "startsAt": alert["startsAt"]}])
    first.send(payload(alert))
    first.wait_for("it ends", lambda: first.program.ended)
    leads(second)
    run = second.run_that_ended(seconds=180)
    assert (run["state"], run["target"]["name"]) == ("healed", "node-3"), run["detail"]
    assert (len(deletes(cluster)), len(cordons(cluster))) == (1, 1)
    entries = map(json.loads, second.cli("journal", "export").stdout.splitlines())
    assert [entry["ref"] for entry in entries if entry["kind"] == "hand_over"] == ["Node/node-3"]
    first.start()
    assert first.get("/api/v1/status")["leader"] is False


def test_one_without_an_election_does_not_act_beside_them(pair, replica, monkeypatch):
    with pytest.raises(pytest.fail.Exception, match=r"another daemon acts on .*of those that elect"):
        replica(election={"enabled": False})


@pytest.mark.parametrize("outage", ["restarted", "read-only"])
def test_postgresql_fails_under_two_replicas(pair, cluster, postgres_server, postgres_database, payload, one_alert, outage):
    """In the middle of a run. Both answer 503 meanwhile; what got 200 is decided; whoever leads afterwards ends the run."""
    if not postgres_server.stoppable:
        pytest.skip("the PostgreSQL of these tests is somebody else's, so it is not stopped")
    kept, number = [], iter(range(1000))

    def deliver(to):
        """The status of the answer."""
        try:
            kept.append(to.send(payload(one_alert(node="node-5", number=str(next(number)))))["delivery"])
        except HTTPError as error:
            return error.code
        return 200

    assert [deliver(one) for one in pair] == [200, 200]
    run = begin(pair[0], cluster)
    with out_of_order(postgres_server, postgres_database, outage):
        assert [deliver(one) for one in pair] == [503, 503]
    for one in pair:
        one.wait_for("deliveries to be taken again", lambda one=one: deliver(one) == 200)
    reckon(pair[1], cluster, run)
    assert not any(one.program.ended for one in pair), "nobody had to be started again"
    decided = {decision["delivery"] for decision in pair[1].decisions(len(kept) + 1)}
    assert decided == {None, *kept}, "each accepted delivery is decided, and what a person asked for"
    assert len([one for one in pair if one.get("/api/v1/status")["leader"]]) == 1


@contextmanager
def out_of_order(server, database, how):
    if how == "restarted":
        server.stop(signal.SIGINT)
        try:
            yield
        finally:
            server.start()
        return
    name = database.partition("?")[0].rsplit("/", 1)[1]
    sessions = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    server.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    server.sql(sessions)  # as after a failover, whose sessions are all new
    try:
        yield
    finally:
        server.sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        server.sql(sessions)
