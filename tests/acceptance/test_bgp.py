"""BGP through the daemon as people use it, on the simulated cluster: refused where too few would be left, told, shifted, undone."""

from __future__ import annotations

import json
import urllib.request

import pytest

pytestmark = pytest.mark.timeout(240)

WHOAMI = "10.25.150.223/32"
TOR1 = "10.25.150.1"


@pytest.fixture
def cluster(simulation_process):
    return simulation_process(rate=20)


@pytest.fixture
def shift(root):
    """The shipped playbook, with less patience; nothing else changed."""
    text = (root / "playbooks" / "shift-bgp-away.yaml").read_text()
    text = text.replace("hold: 15s", "hold: 1s").replace('method: "${parameters.method}"}', 'method: "${parameters.method}", hold: 1s}')
    assert text.count("hold: 1s") == 2
    return text.replace("runbook: docs/playbooks/shift-bgp-away.md", "")


@pytest.fixture
def keeper(cluster, daemon, shift):
    return daemon(playbooks=[shift], **cluster.settings)


def node(cluster, name):
    found = cluster.call("GET", f"/api/v1/nodes/{name}")
    return found["metadata"]["labels"], found["metadata"].get("annotations", {}), found["spec"]


def writes(cluster):
    calls = cluster.call("GET", "/sim/requests?service=kubernetes&writes=1")["items"]
    return [call for call in calls if call["user_agent"].startswith("remediator")]


def speakers(cluster):
    return cluster.call("GET", "/sim/routers")[TOR1].get(WHOAMI, [])


def patch(cluster, path, change):
    headers = {"Content-Type": "application/merge-patch+json"}
    body = json.dumps(change).encode()
    urllib.request.urlopen(urllib.request.Request(f"{cluster.url}{path}", body, headers, method="PATCH"), timeout=20).close()


def silence(cluster, keeper, *names):
    """Other hands take nodes out of BGP."""
    for name in names:
        patch(cluster, f"/api/v1/nodes/{name}", {"metadata": {"labels": {"bgp": "disabled"}}})
    keeper.wait_for("they are silent", lambda: not set(names) & set(speakers(cluster)))


def test_6_3_two_speakers_and_min_speakers_2_is_refused_without_a_write(cluster, keeper):
    silence(cluster, keeper, "node-1", "node-2", "node-3")
    assert speakers(cluster) == ["node-4", "node-5"]
    done = keeper.cli("run", "shift-bgp-away", "--target", "Node/node-4", "--wait")
    assert done.returncode == 4
    assert "route_coverage" in done.stderr
    assert f"{WHOAMI} (apps/whoami): 1 of 2 speakers would be left, 2 are wanted" in done.stderr
    (decision,) = keeper.decisions(target="Node/node-4")
    assert (decision["decision"], decision["reason"]) == ("refused", "route_coverage")
    assert writes(cluster) == []
    assert speakers(cluster) == ["node-4", "node-5"]


@pytest.mark.long
def test_6_3_with_min_speakers_1_the_same_is_done(cluster, daemon, shift):
    keeper = daemon(playbooks=[shift], **cluster.settings, limits={"min_speakers": 1})
    silence(cluster, keeper, "node-1", "node-2", "node-3")
    done = keeper.cli("run", "shift-bgp-away", "--target", "Node/node-4", "--wait")
    assert done.returncode == 0, done.stderr
    assert speakers(cluster) == ["node-5"]


def test_preconditions_are_gates_so_a_shift_that_could_not_arrive_never_begins(cluster, keeper):
    operator = "/apis/apps/v1/namespaces/kube-system/deployments/cilium-operator"
    patch(cluster, operator, {"spec": {"replicas": 0}})
    keeper.wait_for("there is no operator", lambda: not cluster.call("GET", operator)["status"].get("availableReplicas"))
    done = keeper.cli("run", "shift-bgp-away", "--target", "Node/node-4", "--wait")
    assert done.returncode == 4
    assert "operator_down" in done.stderr
    (decision,) = keeper.decisions(target="Node/node-4")
    assert (decision["decision"], decision["reason"]) == ("refused", "operator_down")
    asked = {verdict["gate"]: verdict["allowed"] for verdict in decision["gates"]}
    wanted = {"bgp_agent": True, "bgp_conflict": True, "bgp_shift": True, "operator_down": False, "route_coverage": True}
    assert {gate: asked[gate] for gate in wanted} == wanted
    assert writes(cluster) == []


def test_shift_bgp_away_is_told_done_proved_and_undone(cluster, keeper):
    before = node(cluster, "node-3")
    dry = keeper.cli("run", "shift-bgp-away", "--target", "Node/node-3", "--dry-run", "--wait")
    assert dry.returncode == 0, dry.stderr
    assert "5 speakers now, 4 left: node-1, node-2, node-4, node-5" in dry.stderr + dry.stdout
    assert node(cluster, "node-3") == before

    done = keeper.cli("run", "shift-bgp-away", "--target", "Node/node-3", "--wait", "--reason", "new line card")
    assert done.returncode == 0, done.stderr
    assert "node-3" not in speakers(cluster)
    run = keeper.run_that_ended(dry_run="false")
    assert (run["state"], run["target"]["name"]) == ("healed", "node-3")
    (left,) = json.loads(keeper.cli("changes", "list", "-o", "json").stdout)["items"]
    assert (left["run"], left["resource"]["name"], left["before"]["labels"]) == (run["id"], "node-3", {"remediator.dev/bgp-drain": None})

    told = json.loads(keeper.cli("bgp", "status", "-o", "json").stdout)
    assert [n["withdrawn_by"] for n in told["nodes"] if n["name"] == "node-3"] == [run["id"]]
    prefix = next(p for p in told["prefixes"] if p["prefix"] == WHOAMI)
    assert (sorted(prefix["speakers"]), prefix["least"]) == (["node-1", "node-2", "node-4", "node-5"], 3)
    table = keeper.cli("bgp", "status").stdout
    assert f"withdrawn by run {run['id']}" in table

    assert keeper.cli("runs", "undo", run["id"]).returncode == 0
    keeper.wait_for("nothing is left behind", lambda: not keeper.get("/api/v1/changes?left_behind=true")["items"])
    assert node(cluster, "node-3") == before
    assert "node-3" in speakers(cluster)


def test_a_shift_that_does_not_arrive_is_put_back(cluster, keeper):
    """That the CiliumBGPNodeConfig is gone cannot be seen in time, so nothing is believed."""
    before = node(cluster, "node-3")
    cluster.call("POST", "/sim/faults", {"verb": "get", "path": "/ciliumbgpnodeconfigs/node-3", "status": 503, "count": None})
    done = keeper.cli("run", "shift-bgp-away", "--target", "Node/node-3", "--wait", "--set", "timeout=8s")
    assert done.returncode == 1
    cluster.call("DELETE", "/sim/faults")
    run = keeper.run_that_ended()
    assert (run["state"], run["reason"]) == ("failed", "deadline")
    assert [c["state"] for c in run["steps"][0]["changes"]] == ["undone", "kept"]
    assert node(cluster, "node-3") == before
