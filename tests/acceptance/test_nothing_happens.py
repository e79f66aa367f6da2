"""Alerts that must lead to nothing: no write to the API, and each reason in words."""

from __future__ import annotations

import concurrent.futures
from datetime import UTC, datetime

import pytest

pytestmark = [pytest.mark.controlplane, pytest.mark.long, pytest.mark.alertmanager, pytest.mark.timeout(300)]


@pytest.fixture
def quiet(control_plane, agents, agent_down, alertmanager, daemon):
    """A daemon that may act on its own, on the real control plane; and the writes that it has made since."""
    agents()
    started = daemon(
        playbooks=[agent_down],
        modes={"*": "auto"},
        kubernetes={"kubeconfig": str(control_plane.remediator)},
        alertmanager={"url": alertmanager().url},
    )
    before = len(control_plane.writes())
    started.writes = lambda: control_plane.writes()[before:]
    return started


@pytest.mark.parametrize(
    ("labels", "fields", "decision", "reason", "words"),
    [
        pytest.param({"node": "node-3", "status": "resolved"}, {}, "resolved", "resolved", "resolved", id="resolved"),
        pytest.param({"node": "node-99"}, {}, "refused", "target_missing", "node-99", id="unknown node"),
        pytest.param({}, {}, "refused", "target_missing", "no label", id="no node"),
        pytest.param({"node": "node-3"}, {"truncated": 4}, "held", "truncated", "cut", id="truncated group"),
        pytest.param({"node": "node-3"}, {}, "refused", "not_firing", "not_firing", id="not known to Alertmanager"),
    ],
)
def test_no_write_and_the_reason_in_words(quiet, payload, one_alert, labels, fields, decision, reason, words):
    alert = one_alert(**labels)
    quiet.send(payload(alert, **fields))
    (decided,) = quiet.decisions()
    assert (decided["decision"], decided["reason"]) == (decision, reason)
    story = quiet.why("CiliumAgentDown")
    assert words in story, story
    assert quiet.get("/api/v1/runs")["items"] == []
    assert quiet.writes() == []


def test_a_whole_delivery_after_a_cut_one_is_decided(quiet, payload, one_alert):
    quiet.send(payload(one_alert(node="node-99"), truncated=1))
    quiet.decisions(decision="held")
    quiet.send(payload(one_alert(node="node-99")))
    (decided,) = quiet.decisions(decision="refused")
    assert decided["reason"] == "target_missing"


def test_the_same_group_from_two_peers_a_hundred_times_is_one_run(
    control_plane, agents, agent_down_by_kube, alertmanager, daemon, payload, one_alert
):
    before = agents()
    peer = alertmanager()
    started = daemon(
        playbooks=[agent_down_by_kube],
        modes={"*": "auto"},
        kubernetes={"kubeconfig": str(control_plane.remediator)},
        alertmanager={"url": peer.url},
    )
    writes = len(control_plane.writes())
    labels = {"alertname": "CiliumAgentDown", "severity": "critical", "node": "node-5"}
    peer.post(labels)
    (active,) = peer.alerts()
    body = payload(one_alert(node="node-5", starts_at=active["startsAt"], fingerprint=active["fingerprint"]))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: started.send(body), range(100)))
    assert len({answer["delivery"] for answer in answers}) == 100
    decided = started.decisions(100)
    assert sorted({d["decision"] for d in decided}) == ["duplicate", "run"]
    assert sum(d["decision"] == "run" for d in decided) == 1
    assert len(started.get("/api/v1/runs")["items"]) == 1
    after = started.wait_for("the new agent", agents)
    started.wait_for("one replaced agent", lambda: {n for n in before if before[n] != agents()[n]} == {"node-5"})
    assert set(after) == set(before)
    assert len(control_plane.writes()) - writes == 1


def test_two_real_peers_deliver_one_group(control_plane, agents, agent_down_by_kube, alertmanager, daemon, free_port):
    """Two clustered Alertmanagers, both told of the same alert, both with the same receiver."""
    before = agents()
    hook = f"http://127.0.0.1:{free_port}/api/v1/alerts"
    options = {"token": "webhook-token-of-the-test", "group_interval": "1s", "repeat_interval": "1s"}
    first = alertmanager(hook, cluster=True, **options)
    second = alertmanager(hook, peers=[first], **options)
    second.wait_for_peers(2)
    started = daemon(
        playbooks=[agent_down_by_kube],
        modes={"*": "auto"},
        kubernetes={"kubeconfig": str(control_plane.remediator)},
        alertmanager={"url": first.url},
        port=free_port,
    )
    now = datetime.now(UTC)
    labels = {"alertname": "CiliumAgentDown", "severity": "critical", "node": "node-2"}
    for peer in (first, second):
        peer.post(labels, starts_at=now)
    started.decisions(4)
    assert len(started.get("/api/v1/runs")["items"]) == 1
    started.wait_for("one replaced agent", lambda: {n for n in before if before[n] != agents()[n]} == {"node-2"})
