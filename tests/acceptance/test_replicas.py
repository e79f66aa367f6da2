"""Two daemons on one PostgreSQL database and one cluster: one leads, both take webhooks; a leader that is gone is followed."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import time
from datetime import UTC, datetime
from urllib.error import HTTPError

import pytest
from acceptance.pairs import RESTART, begin, cordons, deletes, holder, leads, reckon

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.postgres, pytest.mark.long, pytest.mark.timeout(240)]

TAKES_ALERTS = """
when:
  alerts: ['alertname="CiliumAgentDown"']
  target: {kind: Node, name: '${alert.labels.node}'}
mode: auto
gates: {cooldown: 1s}
"""


@pytest.fixture
def cluster(simulation_process):
    return simulation_process()


@pytest.fixture
def database(request):
    """The URL; the test of a full disk asks for another one."""
    found = request.getfixturevalue(getattr(request, "param", "postgres_database"))
    return getattr(found, "url", found)


@pytest.fixture
def replica(cluster, daemon, database, monkeypatch):
    """replica(): one more, on no node; replica("node-3"): as if it ran there."""
    settings = {name: value for name, value in cluster.settings.items() if name != "prometheus"}
    election = {"enabled": True, "namespace": "kube-system"}

    def start(node="", text=RESTART, **more):
        monkeypatch.setenv("NODE_NAME", node)
        return daemon(playbooks=[text], store={"url": database}, **{"election": election, **settings, **more})

    return start


@pytest.fixture
def pair(replica):
    """The leader and the standby."""
    first = replica()
    leads(first)
    second = replica()
    second.wait_for("it knows who leads", lambda: second.get("/api/v1/status")["ready_detail"].startswith("standby; "))
    return first, second


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


class Outage:
    """Both replicas take deliveries, with a run under way; then the database is in trouble, in the middle of it; then it is not."""

    def __init__(self, pair, cluster, payload, one_alert):
        self.pair, self.cluster = pair, cluster
        self._payload, self._alert = payload, one_alert
        self._number = iter(range(10_000))
        self.kept = []

    def deliver(self, to, size=0):
        """The status of the answer; a 503 says when to come again."""
        alert = self._alert(node="node-5", number=str(next(self._number)))
        alert["annotations"] = {"description": random.randbytes(size // 2).hex()}  # which cannot be packed much
        try:
            self.kept.append(to.send(self._payload(alert))["delivery"])
        except HTTPError as error:
            with error:
                status, later = error.code, error.headers["Retry-After"]
        else:
            return 200
        assert status != 503 or int(later) > 0
        return status

    def both(self):
        return [self.deliver(one) for one in self.pair]

    def begin(self):
        assert self.both() == [200, 200]
        self.run = begin(self.pair[0], self.cluster)

    def is_over(self):
        """Everything goes on by itself: nobody was started again, nothing that was answered 200 is lost, one leads, the run ends."""
        for one in self.pair:
            one.wait_for("deliveries to be taken again", lambda one=one: self.deliver(one) == 200)
        reckon(self.pair[1], self.cluster, self.run)
        assert not any(one.program.ended for one in self.pair), "nobody had to be started again"
        decided = {decision["delivery"] for decision in self.pair[1].decisions(len(self.kept) + 1)}
        assert decided == {None, *self.kept}, "each accepted delivery is decided, and what a person asked for"
        assert len([one for one in self.pair if one.get("/api/v1/status")["leader"]]) == 1


@pytest.fixture
def outage(pair, cluster, payload, one_alert):
    return Outage(pair, cluster, payload, one_alert)


def test_postgresql_is_restarted_under_two_replicas(outage, postgres_server):
    stoppable(postgres_server)
    outage.begin()
    postgres_server.stop(signal.SIGINT)
    try:
        assert outage.both() == [503, 503]
    finally:
        postgres_server.start()
    outage.is_over()


def test_postgresql_refuses_connections_for_half_a_minute(outage, postgres_server):
    """As in a failover. The run comes to its next boundary meanwhile, and waits there."""
    stoppable(postgres_server)
    outage.begin()
    postgres_server.stop(signal.SIGINT)
    try:
        answers, until, leader = [], time.monotonic() + 30, outage.pair[0]

        def half_a_minute_is_over():
            answers.extend(outage.both())
            return time.monotonic() > until and WAITS in leader.program.output()

        leader.wait_for("the run waits", half_a_minute_is_over, seconds=120)
        assert set(answers) == {503}
        assert cordons(outage.cluster) == [], "nothing is sent whose intent cannot be kept"
    finally:
        postgres_server.start()
    outage.is_over()


def test_postgresql_is_read_only_under_two_replicas(outage, postgres_server, database):
    """As after a failover to a standby, with new sessions everywhere."""
    name = database.partition("?")[0].rsplit("/", 1)[1]
    sessions = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    outage.begin()
    postgres_server.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    postgres_server.sql(sessions)
    try:
        assert outage.both() == [503, 503]
    finally:
        postgres_server.sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        postgres_server.sql(sessions)
    outage.is_over()


@pytest.mark.parametrize("database", ["small_disk"], indirect=True)
def test_the_disk_of_postgresql_is_full_under_two_replicas(outage, small_disk):
    """What is small still fits for a while, into pages that have room. In the end nothing does, and the run waits where it is."""
    outage.begin()
    small_disk.fill()
    try:
        leader = outage.pair[0]
        assert [outage.deliver(one, size=60_000) for one in outage.pair] == [503, 503]
        leader.wait_for(
            "nothing fits any more", lambda: [outage.deliver(one, size=size) for one in outage.pair for size in (0, 500)] == [503] * 4
        )
        leader.wait_for("the run waits", lambda: WAITS in leader.program.output(), seconds=120)
        assert "No space left on device" in leader.program.output()
        assert outage.both() == [503, 503]
        assert cordons(outage.cluster) == [], "nothing is sent whose intent cannot be kept"
    finally:
        small_disk.free()
    outage.is_over()


WAITS = "the run waits for the journal"


def stoppable(server):
    if not server.stoppable:
        pytest.skip("the PostgreSQL of these tests is somebody else's, so it is not stopped")
