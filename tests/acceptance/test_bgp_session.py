"""A BGP session is lost, for real: rule, alert, playbook, and what the router hears.

Real sessions between gobgpd processes, whose agents on the real control plane export what Cilium's would; the shipped rules in
Prometheus, the shipped route in Alertmanager, the shipped playbook in a daemon of its own. Only times are shorter.
"""

from __future__ import annotations

import pytest
from plugins.bgp import REAL, with_crds
from plugins.installation import shipped_route, shipped_rules
from standins.network import SPEAKERS

pytestmark = [
    pytest.mark.long,
    pytest.mark.controlplane,
    pytest.mark.gobgp,
    pytest.mark.alertmanager,
    pytest.mark.prometheus,
    pytest.mark.timeout(400),
]

SOONER = ("BgpSessionDown",)
NODE = "node-3"
MARK = "remediator.dev/bgp-withdrawn-by"
STATE = f'cilium_bgp_control_plane_session_state{{node="{NODE}"}}'


@pytest.fixture
def session(root):
    """The shipped playbook, with less patience; nothing else changed."""
    text = (root / "playbooks" / "bgp-session.yaml").read_text()
    for old, new in (
        ("hold: 2m", "hold: 2s"),
        ("within: 10m", "within: 40s"),
        ("cooldown: 30m", "cooldown: 1s"),
        ("needs_bgp: true, timeout: 30m", "needs_bgp: true, timeout: 2m, ready_for: 1s"),
        ("action: bgp.withdraw_node, timeout: 5m", "action: bgp.withdraw_node, timeout: 2m, hold: 1s"),
        ("  runbook: docs/playbooks/bgp-session.md\n", ""),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def prometheus(root, bgp_network, exporter, prometheus_server, alertmanager, free_port):
    """With an Alertmanager that posts to the daemon's port, and every session of the network scraped."""
    url = f"http://127.0.0.1:{free_port}/api/v1/alerts"
    alerting = alertmanager(url, token="webhook-token-of-the-test", written=shipped_route(root))
    for name in bgp_network.nodes():
        exporter.set("up", {"job": "cilium-agent", "node": name})
    bgp_network.agents.export_to(exporter)
    server = prometheus_server(exporter, job="cilium-agent", rules=shipped_rules(root, SOONER), alertmanagers=[alerting.url])
    server.wait_for("count(node_neighbor:bgp_session_up:min == 1) == 3")
    server.alertmanager = alerting
    return server


@pytest.fixture
def keeper(bgp_network, prometheus, daemon, free_port, session):
    return daemon(
        playbooks=[session],
        modes={"*": "auto"},
        kubernetes={"kubeconfig": str(bgp_network.plane.remediator)},
        prometheus={"url": prometheus.url},
        alertmanager={"url": prometheus.alertmanager.url},
        port=free_port,
    )


def agent_pods(network):
    pods = network.api.items("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcilium")
    return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def runs(keeper):
    """Newest first."""
    return keeper.get("/api/v1/runs?playbook=bgp-session")["items"]


def newest(keeper, state):
    found = runs(keeper)
    return found[0] if found and (found[0]["state"] == state or (state == "ended" and found[0]["ended_at"])) else None


def firing(keeper):
    """Open episodes."""
    return keeper.get("/api/v1/alerts")["items"]


def unread(keeper):
    return [one for one in firing(keeper) if one["reason"] == "unreadable"]


def lose(network, keeper):
    """Cut the node's way to the router; once more where a busy machine answered no gate in time, for Alertmanager repeats itself late."""
    known = len(runs(keeper))
    for _ in range(3):
        network.fabric.cut(NODE)
        keeper.wait_for("a decision", lambda: len(runs(keeper)) > known or unread(keeper), seconds=120)
        if len(runs(keeper)) > known:
            return
        network.fabric.mend(NODE)
        keeper.wait_for("the alert to be resolved", lambda: not firing(keeper))
    pytest.fail("no gate was answered in time, three times")


@with_crds(REAL)
def test_a_lost_session_gets_a_new_agent_and_one_that_stays_lost_costs_the_node_its_routes(bgp_network, prometheus, keeper, exporter):
    vip, before = bgp_network.vip("web"), agent_pods(bgp_network)

    # The way to the router is cut, and is back while the new agent starts.
    lose(bgp_network, keeper)
    keeper.wait_for("the new agent to be judged", lambda: newest(keeper, "verifying"), seconds=120)
    assert bgp_network.announcers(vip) == set(SPEAKERS) - {NODE}
    bgp_network.fabric.mend(NODE)
    run = keeper.wait_for("the run to end", lambda: newest(keeper, "ended"))
    assert (run["state"], run["alert"]["name"], run["target"]["name"]) == ("healed", "BgpSessionDown", NODE), keeper.why(run["id"])
    assert prometheus.query(STATE)[0]["value"][1] == "1"
    after = agent_pods(bgp_network)
    assert {node for node in before if before[node] != after[node]} == {NODE}
    assert bgp_network.announcers(vip) == set(SPEAKERS)
    keeper.wait_for("the alert to be resolved", lambda: not firing(keeper))

    # Now it stays cut. That the agent has no series while it restarts does not end the alert, so the second rung is allowed.
    lose(bgp_network, keeper)
    keeper.wait_for("a second run", lambda: (found := newest(keeper, "ended")) and found["id"] != run["id"] and found, seconds=180)
    second = newest(keeper, "ended")
    assert (second["state"], second["reason"], second["rung"]) == ("not_healed", "no_more_rungs", 1), keeper.why(second["id"])
    assert [(step["name"], step["state"]) for step in second["steps"]] == [
        ("cilium", "succeeded"),
        ("restart", "succeeded"),
        ("shift", "succeeded"),
    ]
    assert bgp_network.node_config(NODE) is None
    assert prometheus.query(STATE) == []

    # kube-state-metrics shows the mark, so the alert ends; that gives nothing back, a person does.
    mark = bgp_network.shape(NODE)["annotations"][MARK]
    exporter.set("kube_node_annotations", {"node": NODE, "annotation_remediator_dev_bgp_withdrawn_by": mark})
    keeper.wait_for("the alert to be resolved again", lambda: not firing(keeper))
    assert [one["resource"]["name"] for one in keeper.get("/api/v1/changes?left_behind=true")["items"]] == [NODE]
    bgp_network.fabric.mend(NODE)
    assert bgp_network.announcers(vip) == set(SPEAKERS) - {NODE}
    done = keeper.cli("runs", "undo", second["id"])
    assert done.returncode == 0, done.stdout + done.stderr
    keeper.wait_for("nothing to be left behind", lambda: not keeper.get("/api/v1/changes?left_behind=true")["items"])
    bgp_network.until("the node to announce again", lambda: bgp_network.announcers(vip) == set(SPEAKERS))
