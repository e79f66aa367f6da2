"""A node is taken out of BGP and emptied, and comes back: on a real API server, with real BGP sessions, judged by the router's table."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from plugins.bgp import REAL, with_crds
from standins import objects
from standins.network import SPEAKERS

pytestmark = [pytest.mark.long, pytest.mark.controlplane, pytest.mark.gobgp, pytest.mark.alertmanager, pytest.mark.timeout(300)]

EVACUATE = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: evacuate}
when:
  alerts: ['alertname="NodeFailing"']
  target: {kind: Node, name: '${alert.labels.node}'}
mode: auto
gates: {cooldown: 1s}
ladder:
- name: out of service
  steps:
  - withdraw: {action: bgp.withdraw_node, timeout: 2m, hold: 1s}
  - drain: {action: node.drain, timeout: 3m, quiet_for: 1s}
verify:
  kube: {kind: Node, fields: 'metadata.name=${target.name}'}
  holds: size(objects) == 1 && has(objects[0].spec.unschedulable) && objects[0].spec.unschedulable
  within: 1m
  hold: 1s
on_resolved: undo
on_failure: undo
"""
REAL_ONLY = with_crds(REAL)
SHOP = "shop"
METHODS = [
    pytest.param(REAL, objects.BY_LABEL, "bgp", "enabled", "disabled", id="method A, the selector's own label, 1.17.0"),
    pytest.param("1.20.2", objects.BY_DRAIN_LABEL, "remediator.dev/bgp-drain", None, "true", id="method B, the label for it, 1.20.2"),
]
"""CRDs, selector of the cluster config, and the label that is changed: before, and while withdrawn."""


@pytest.fixture
def shift(root):
    """The shipped playbook, with less patience; nothing else changed."""
    text = (root / "playbooks" / "shift-bgp-away.yaml").read_text()
    text = text.replace("hold: 15s", "hold: 1s").replace('method: "${parameters.method}"}', 'method: "${parameters.method}", hold: 1s}')
    assert text.count("hold: 1s") == 2
    return text.replace("runbook: docs/playbooks/shift-bgp-away.md", "")


@pytest.fixture
def keeper(bgp_network, alertmanager, daemon, free_port):
    """A daemon on that cluster as the user ``remediator``, and the Alertmanager that posts to it.

    ``writes`` are the API server's own record of what it wrote since.
    """

    def start(playbook, **settings):
        alerting = alertmanager(f"http://127.0.0.1:{free_port}/api/v1/alerts", token="webhook-token-of-the-test")
        started = daemon(
            playbooks=[playbook],
            modes={"*": "auto"},
            kubernetes={"kubeconfig": str(bgp_network.plane.remediator)},
            alertmanager={"url": alerting.url},
            port=free_port,
            **settings,
        )
        before = len(bgp_network.plane.writes())
        started.alertmanager = alerting
        started.writes = lambda: bgp_network.plane.writes()[before:]
        return started

    return start


@pytest.fixture
def shop(bgp_network):
    """Three Deployments with PDBs, a StatefulSet, a DaemonSet, all running; one of them is a service that is announced."""
    names = {"cart": 6, "search": 5, "pay": 4}
    things = [objects.deployment(name, SHOP, count) for name, count in names.items()]
    things += [objects.budget("cart", SHOP, maxUnavailable=1), objects.budget("search", SHOP, maxUnavailable="25%")]
    things += [objects.budget("pay", SHOP, minAvailable=3), objects.stateful_set("db", SHOP, 3), objects.daemon_set("logs", SHOP)]
    things += [objects.service("cart", SHOP)]
    bgp_network.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}}, *things)
    bgp_network.until("the shop to run", lambda: len(running(bgp_network)) == 6 + 5 + 4 + 3 + 5)
    bgp_network.until("its service to be announced", lambda: bgp_network.announcers(bgp_network.vip("cart", SHOP)) == set(SPEAKERS))
    bgp_network.until("its speakers to count two", lambda: all(bgp_network.reported(name) == [("established", 2)] for name in SPEAKERS))
    yield SHOP
    bgp_network.plane.kubectl("delete", "namespace", SHOP, "--wait=false")
    bgp_network.until("the shop to be gone", lambda: not running(bgp_network))


def running(network):
    """(owner kind, name, node) of each pod of the shop that is Ready and stays."""
    found = network.api.items(f"/api/v1/namespaces/{SHOP}/pods")
    return [
        (pod["metadata"]["ownerReferences"][0]["kind"], pod["metadata"]["name"], pod["spec"].get("nodeName"))
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
    ]


def shapes(network):
    return {name: network.shape(name) for name in network.nodes()}


def changes_of(run):
    return [change for step in run["steps"] for change in step["changes"]]


def effects(writes):
    """auditID -> verb and object of each write that changed something; a dry run and a no of the server did not."""
    done = [one for one in writes if "dryRun" not in one["requestURI"] and one["responseStatus"]["code"] < 300]
    return {one["auditID"]: (one["verb"], one["objectRef"].get("subresource", ""), one["objectRef"]["name"]) for one in done}


def as_in_the_audit(change):
    """What the API server calls a change of the journal."""
    eviction = change["verb"] == "evict"
    return ("create" if eviction else change["verb"], "eviction" if eviction else "", change["resource"]["name"])


@REAL_ONLY
def test_a_failing_node_is_withdrawn_and_drained_and_comes_back_when_the_alert_is_resolved(bgp_network, shop, keeper):
    vips = [bgp_network.vip("web"), bgp_network.vip("cart", SHOP)]
    first = shapes(bgp_network)
    to_move = {name for kind, name, node in running(bgp_network) if node == "node-3" and kind != "DaemonSet"}
    assert to_move
    daemon = keeper(EVACUATE)
    alert = {"alertname": "NodeFailing", "severity": "critical", "node": "node-3"}
    daemon.alertmanager.post(alert)
    (decided,) = daemon.decisions()
    assert decided["decision"] == "run", decided
    run = daemon.run_that_ended()
    assert (run["state"], run["reason"]) == ("healed", "healed"), daemon.why(run["id"])

    assert [bgp_network.announcers(vip) for vip in vips] == [{"node-2", "node-4"}] * 2
    assert {kind for kind, _, node in running(bgp_network) if node == "node-3"} == {"DaemonSet"}
    assert bgp_network.shape("node-3")["unschedulable"] is True
    others = {name: shape for name, shape in first.items() if name != "node-3"}
    assert {name: bgp_network.shape(name) for name in others} == others
    left = daemon.get("/api/v1/changes?left_behind=true")["items"]
    assert {(change["run"], change["resource"]["name"]) for change in left} == {(run["id"], "node-3")}

    daemon.alertmanager.resolve(alert)
    bgp_network.until("the router to have node-3 back", lambda: [bgp_network.announcers(vip) for vip in vips] == [set(SPEAKERS)] * 2)
    daemon.wait_for("nothing left", lambda: not daemon.get("/api/v1/changes?left_behind=true")["items"])
    bgp_network.until("every node as it was", lambda: shapes(bgp_network) == first)

    changes = changes_of(daemon.get(f"/api/v1/runs/{run['id']}"))
    assert {change["request_id"]: as_in_the_audit(change) for change in changes} == effects(daemon.writes())
    assert {change["resource"]["name"] for change in changes if change["verb"] == "evict"} == to_move
    forward = {c["id"]: c for c in changes if c["verb"] == "patch" and not c["undoes"]}
    back = {c["undoes"]: c for c in changes if c["undoes"]}
    assert [c["action"] for c in forward.values()] == ["bgp.withdraw_node", "node.drain"]
    assert {key: (c["before"], c["after"]) for key, c in forward.items()} == {key: (c["after"], c["before"]) for key, c in back.items()}
    assert all(c["before"] and c["after"] for c in forward.values())
    assert {c["state"] for c in forward.values()} == {"undone"}
    assert daemon.cli("journal", "verify").returncode == 0


@pytest.mark.parametrize(("bgp_cluster", "selector", "key", "before", "after"), METHODS, indirect=["bgp_cluster"])
def test_withdrawn_means_gone_from_the_router_and_undone_means_back_in_it(bgp_network, keeper, shift, selector, key, before, after):
    vip, others = bgp_network.vip("web"), set(SPEAKERS) - {"node-3"}
    bgp_network.select(selector)
    first = shapes(bgp_network)
    assert first["node-3"]["labels"].get(key) == before
    daemon = keeper(shift)
    done = daemon.cli("run", "shift-bgp-away", "--target", "Node/node-3", "--wait", "--reason", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    run = daemon.run_that_ended()
    assert bgp_network.announcers(vip) == others
    assert bgp_network.node_config("node-3") is None
    assert bgp_network.shape("node-3")["labels"][key] == after
    told = json.loads(daemon.cli("bgp", "status", "-o", "json").stdout)
    assert (told["version"], told["operator"]) == (bgp_network.version, "")
    assert {one["prefix"]: set(one["speakers"]) for one in told["prefixes"]} == {vip: others}
    assert [node["withdrawn_by"] for node in told["nodes"] if node["name"] == "node-3"] == [run["id"]]

    assert daemon.cli("runs", "undo", run["id"]).returncode == 0
    bgp_network.until("node-3 to be back", lambda: bgp_network.announcers(vip) == set(SPEAKERS))
    daemon.wait_for("nothing left", lambda: not daemon.get("/api/v1/changes?left_behind=true")["items"])
    assert shapes(bgp_network) == first
    assert list(effects(daemon.writes()).values()) == [("patch", "", "node-3")] * 2


@REAL_ONLY
def test_one_of_two_speakers_is_refused_and_the_router_hears_nothing_of_it(bgp_network, keeper, shift):
    """Trap 10 as well: the third speaker's agent is dead, and what it wrote last, ``established``, counts for nobody."""
    bgp_network.agent("node-4", ready=False)
    bgp_network.until("two speakers to be left", lambda: bgp_network.announcers(bgp_network.vip("web")) == {"node-2", "node-3"})
    assert bgp_network.reported("node-4") == [("established", 1)]
    daemon = keeper(shift, limits={"min_speakers": 2})
    table, before = bgp_network.fabric.table(), shapes(bgp_network)
    refused = daemon.cli("run", "shift-bgp-away", "--target", "Node/node-3", "--wait", "--reason", "test")
    assert refused.returncode == 4
    assert "route_coverage" in refused.stdout + refused.stderr
    assert "1 of 2 speakers would be left" in refused.stdout + refused.stderr
    assert daemon.writes() == []
    assert bgp_network.fabric.table() == table
    assert shapes(bgp_network) == before


@pytest.mark.prometheus
@REAL_ONLY
def test_with_prometheus_the_series_have_to_vanish_too_and_a_speaker_without_a_fresh_sample_counts_for_nobody(
    bgp_network, keeper, shift, exporter, prometheus_server
):
    """Traps 9 and 10, and what a ready pod does not show: an agent that answers no scrape any more."""
    prometheus = prometheus_server(exporter, job="cilium-agent")
    bgp_network.agents.export_to(exporter)
    sessions = "cilium_bgp_control_plane_session_state"
    prometheus.wait_for(f"count({sessions} == 1) == 3")
    bgp_network.agents.export_to(None)  # what is exported stays as it is
    daemon = keeper(shift, prometheus={"url": prometheus.url})

    begin(daemon)
    began = datetime.now(UTC) - timedelta(hours=1)
    daemon.wait_for("it to wait for Prometheus", lambda: "Prometheus still has its sessions" in _said_since(daemon, began))
    bgp_network.until("its routes to be gone", lambda: bgp_network.announcers(bgp_network.vip("web")) == {"node-2", "node-4"})
    for name, labels in _exported(prometheus, "node-3"):
        exporter.remove(name, labels)
    run = daemon.run_that_ended()
    assert run["state"] == "healed", daemon.why(run["id"])
    assert {one["metric"]["node"] for one in prometheus.query(sessions)} == {"node-2", "node-4"}
    assert [change["before"]["metrics"] for change in changes_of(run)] == [True]

    assert daemon.cli("runs", "undo", run["id"]).returncode == 0
    daemon.wait_for("nothing left", lambda: not daemon.get("/api/v1/changes?left_behind=true")["items"])
    assert bgp_network.announcers(bgp_network.vip("web")) == set(SPEAKERS)
    before = daemon.writes()
    refused = daemon.cli("run", "shift-bgp-away", "--target", "Node/node-2", "--wait", "--reason", "test")
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "1 of 2 speakers would be left" in refused.stdout + refused.stderr
    assert daemon.writes() == before


def _exported(prometheus, node):
    """Name and labels, as exported, of each series of BGP that a node has."""
    found = prometheus.query(f'{{__name__=~"cilium_bgp_control_plane_.*", node="{node}"}}')
    for metric in (one["metric"] for one in found):
        yield metric["__name__"], {key: value for key, value in metric.items() if key not in ("__name__", "job", "instance")}


@REAL_ONLY
def test_a_withdrawal_that_does_not_arrive_has_failed_and_is_put_back(bgp_network, keeper, shift):
    first, operator = shapes(bgp_network), bgp_network.plane.pids["cilium-operator-generic"]
    daemon = keeper(shift)
    os.kill(operator, signal.SIGSTOP)
    try:
        failed = daemon.cli("run", "shift-bgp-away", "--target", "Node/node-3", "--wait", "--set", "timeout=5s", "--reason", "test")
        assert failed.returncode == 1, failed.stdout + failed.stderr
    finally:
        os.kill(operator, signal.SIGCONT)
    run = daemon.run_that_ended()
    assert run["state"] == "failed"
    assert "the operator has still to delete the CiliumBGPNodeConfig" in run["detail"]
    daemon.wait_for("nothing left", lambda: not daemon.get("/api/v1/changes?left_behind=true")["items"])
    assert shapes(bgp_network) == first
    bgp_network.until("all to speak", lambda: bgp_network.announcers(bgp_network.vip("web")) == set(SPEAKERS))


@REAL_ONLY
def test_a_kill_between_label_and_convergence_repeats_nothing(bgp_network, keeper, shift):
    vip = bgp_network.vip("web")
    daemon = keeper(shift)
    bgp_network.agents.hang()
    begin(daemon)
    bgp_network.until("the label", lambda: bgp_network.shape("node-3")["labels"].get("remediator.dev/bgp-drain") == "true")
    daemon.kill()
    assert bgp_network.announcers(vip) == set(SPEAKERS)

    killed_at = datetime.now(UTC)
    daemon.start()
    daemon.wait_for("it to wait again", lambda: "has still to copy" in _said_since(daemon, killed_at))
    bgp_network.agents.go_on()
    run = daemon.run_that_ended()
    assert run["state"] == "healed", daemon.why(run["id"])
    assert bgp_network.announcers(vip) == set(SPEAKERS) - {"node-3"}
    assert list(effects(daemon.writes()).values()) == [("patch", "", "node-3")]
    left = daemon.get("/api/v1/changes?left_behind=true")["items"]
    assert [(one["run"], one["resource"]["name"]) for one in left] == [(run["id"], "node-3")]

    assert daemon.cli("runs", "undo", run["id"]).returncode == 0
    bgp_network.until("node-3 to be back", lambda: bgp_network.announcers(vip) == set(SPEAKERS))
    daemon.wait_for("nothing left", lambda: not daemon.get("/api/v1/changes?left_behind=true")["items"])
    assert list(effects(daemon.writes()).values()) == [("patch", "", "node-3")] * 2


def begin(daemon):
    """Of node-3. Where the machine is too busy to answer a gate in time a person would ask again, and so it is done here."""

    def asked():
        done = daemon.cli("run", "shift-bgp-away", "--target", "Node/node-3", "--reason", "test")
        assert done.returncode == 0 or "no answer within" in done.stderr, done.stdout + done.stderr
        return done.returncode == 0

    daemon.wait_for("it to begin", asked)


def _said_since(daemon, moment):
    """How the step says that it stands, if it said so after ``moment``."""
    (run,) = daemon.get("/api/v1/runs")["items"]
    (step,) = daemon.get(f"/api/v1/runs/{run['id']}")["steps"]
    return step["detail"] if step["detail_at"] and datetime.fromisoformat(step["detail_at"]) > moment else ""
