"""Restarts of Cilium on the real API server and its controllers, asked for by a person; the audit log says what was really sent."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.controlplane, pytest.mark.long, pytest.mark.timeout(300)]

QUICK = ("--set", "ready_for=2s", "--set", "timeout=2m")
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {{name: {name}}}
ladder:
- name: restart
  steps:
  - restart: {{action: {action}, timeout: 2m, ready_for: 2s}}
verify:
  kube: {{kind: Pod, namespace: kube-system, labels: {labels}, fields: 'status.phase=Running'}}
  holds: size(objects) > 0
  within: 1m
  hold: 0s
"""
OPERATOR = {"io.cilium/app": "operator", "name": "cilium-operator"}


def a_set(name):
    labels = {"k8s-app": name}
    spec = {"hostNetwork": True, "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 1}
    template = {"metadata": {"labels": labels}, "spec": {**spec, "containers": [{"name": name, "image": name}]}}
    metadata = {"name": name, "namespace": "kube-system", "labels": labels}
    selector = {"matchLabels": labels}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {"selector": selector, "template": template}}


def the_operator():
    template = {"metadata": {"labels": OPERATOR}, "spec": {"containers": [{"name": "cilium-operator", "image": "operator"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": OPERATOR}, "template": template}
    metadata = {"name": "cilium-operator", "namespace": "kube-system", "labels": OPERATOR}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def operators(control_plane):
    """uids of the operator's two pods, once both are ready and it does not roll out."""
    control_plane.apply(the_operator())

    def look():
        status = control_plane.get("deployment", "cilium-operator", "-n", "kube-system").get("status", {})
        found = control_plane.get("pods", "-n", "kube-system", "-l", "io.cilium/app=operator")["items"]
        uids = {p["metadata"]["uid"] for p in found if "deletionTimestamp" not in p["metadata"]}
        return uids if status.get("availableReplicas") == status.get("replicas") == len(uids) == 2 else None

    yield lambda: control_plane.wait_for("two operators", look)
    control_plane.kubectl("delete", "deployment", "cilium-operator", "-n", "kube-system", "--cascade=foreground")


@pytest.fixture(scope="module")
def envoys(control_plane):
    """node -> uid of its Envoy, once there are five."""
    control_plane.apply(a_set("cilium-envoy"))

    def look():
        found = control_plane.get("pods", "-n", "kube-system", "-l", "k8s-app=cilium-envoy")["items"]
        ready = {p["spec"]["nodeName"]: p["metadata"]["uid"] for p in found if _ready(p)}
        return ready if len(ready) == 5 else None

    yield lambda: control_plane.wait_for("five envoys", look)
    control_plane.kubectl("delete", "daemonset", "cilium-envoy", "-n", "kube-system", "--cascade=foreground")


@pytest.fixture
def keeper(root, control_plane, agents, operators, daemon):
    agents()
    operators()
    texts = [
        (root / "playbooks" / "restart-agent.yaml")
        .read_text()
        .replace("runbook: docs/playbooks/restart-agent.md", "")
        .replace("hold: 30s", "hold: 1s"),
        PLAYBOOK.format(name="restart-envoy", action="cilium.restart_envoy", labels="k8s-app=cilium-envoy"),
        PLAYBOOK.format(name="restart-operator", action="cilium.restart_operator", labels="io.cilium/app=operator"),
    ]
    return daemon(playbooks=texts, kubernetes={"kubeconfig": str(control_plane.remediator)})


def changes_of(run):
    return [change for step in run["steps"] for change in step["changes"]]


def evidence(run, name):
    return next((e["data"] for step in run["steps"] for e in step["evidence"] if e["name"] == name), None)


def test_a_person_restarts_one_agent_and_reads_the_plan_first(keeper, control_plane, agents):
    before, sent = agents(), len(control_plane.writes())
    dry = keeper.cli("run", "restart-agent", "--target", "Node/node-3", *QUICK, "--dry-run", "--wait")
    assert dry.returncode == 0, dry.stderr
    assert f"uid {before['node-3']}" in dry.stderr + dry.stdout
    assert agents() == before
    done = keeper.cli("run", "restart-agent", "--target", "Node/node-3", *QUICK, "--wait")
    assert done.returncode == 0, done.stderr
    after = agents()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    tried, real = control_plane.writes()[sent:]
    assert "dryRun=All" in tried["requestURI"]
    assert (real["verb"], real["objectRef"]["resource"], real["responseStatus"]["code"]) == ("delete", "pods", 200)
    run = next(r for r in keeper.get("/api/v1/runs")["items"] if not r["dry_run"])
    run = keeper.get(f"/api/v1/runs/{run['id']}")
    (change,) = changes_of(run)
    assert (change["resource"]["uid"], change["request_id"]) == (before["node-3"], real["auditID"])
    assert "prometheus.url" in evidence(run, "not checked")[0]


@pytest.mark.long
def test_killed_between_delete_and_ready_it_sends_nothing_again(keeper, control_plane, agents):
    """kill -9 as soon as the delete is in the audit log; the successor is made slow, so that it cannot be ready by then."""
    before, sent = agents(), len(control_plane.writes())
    keeper.cli("run", "restart-agent", "--target", "Node/node-4", "--set", "ready_for=5s", "--set", "timeout=2m")
    control_plane.wait_for("the delete", lambda: control_plane.writes()[sent:])
    keeper.kill()
    keeper.start()
    run = keeper.run_that_ended()
    assert (run["state"], run["reason"]) == ("healed", "healed"), run["detail"]
    assert [c["state"] for c in changes_of(run)] == ["kept"]
    written = [(w["verb"], w["objectRef"]["name"], w["responseStatus"]["code"]) for w in control_plane.writes()[sent:]]
    assert written == [("delete", changes_of(run)[0]["resource"]["name"], 200)]
    after = agents()
    assert {node for node in before if before[node] != after[node]} == {"node-4"}
    assert json.loads(keeper.cli("changes", "list", "-o", "json").stdout)["items"] == []


def test_a_restart_that_would_upgrade_is_refused_by_the_real_revisions(keeper, control_plane, agents):
    agents()
    strategy = {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}
    control_plane.kubectl("-n", "kube-system", "patch", "ds", "cilium", "--type=merge", "-p", json.dumps(strategy))
    newer = {"spec": {"template": {"metadata": {"annotations": {"rolled": "yes"}}}}}
    control_plane.kubectl("-n", "kube-system", "patch", "ds", "cilium", "--type=merge", "-p", json.dumps(newer))
    try:
        control_plane.wait_for("two revisions", lambda: _seen(control_plane) and len(_revisions(control_plane)) >= 2)
        sent = len(control_plane.writes())
        refused = keeper.cli("run", "restart-agent", "--target", "Node/node-2", "--wait")
        assert refused.returncode == 4
        assert "rollout_in_progress" in refused.stderr
        assert "would upgrade" in refused.stderr
        assert control_plane.writes()[sent:] == []
    finally:
        back = {"spec": {"updateStrategy": {"type": "RollingUpdate"}, "template": {"metadata": {"annotations": None}}}}
        control_plane.kubectl("-n", "kube-system", "patch", "ds", "cilium", "--type=merge", "-p", json.dumps(back))
        control_plane.kubectl("-n", "kube-system", "rollout", "status", "ds/cilium", "--timeout=60s")


@pytest.mark.long
def test_bgp_sessions_must_be_established_anew(keeper, control_plane, agents):
    """A NodeConfig as Cilium 1.20's CRD takes it; the test plays the agent that writes its status."""
    agents()
    peer = {"name": "tor", "peerAddress": "10.25.150.1", "peerASN": 65000, "peerConfigRef": {"name": "plain"}}
    spec = {"bgpInstances": [{"name": "one", "localASN": 65001, "peers": [peer]}]}
    control_plane.apply({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": {"name": "plain"}, "spec": {}})
    control_plane.apply({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": "node-5"}, "spec": spec})

    def status(since):
        told = {"name": "tor", "peerAddress": "10.25.150.1", "peerASN": 65000, "peeringState": "established", "establishedTime": since}
        body = {"status": {"bgpInstances": [{"name": "one", "localASN": 65001, "peers": [told]}]}}
        control_plane.kubectl("patch", "ciliumbgpnodeconfig", "node-5", "--subresource=status", "--type=merge", "-p", json.dumps(body))

    status("2026-01-05T10:00:00Z")
    try:
        keeper.cli("run", "restart-agent", "--target", "Node/node-5", *QUICK)
        waiting = keeper.wait_for(
            "the wait for BGP", lambda: next((r for r in _runs(keeper) if "BGP sessions are not back" in _detail(r)), None)
        )
        status("2026-01-05T10:09:00Z")
        run = keeper.run_that_ended()
        assert (run["id"], run["state"]) == (waiting["id"], "healed"), run["detail"]
        assert any("graceful restart is off for BGP sessions one/tor" in words for words in evidence(run, "caveats"))
        assert changes_of(run)[0]["before"]["sessions"] == {"one/tor": "2026-01-05T10:00:00Z"}
    finally:
        control_plane.kubectl("delete", "ciliumbgpnodeconfig", "node-5")
        control_plane.kubectl("delete", "ciliumbgppeerconfig", "plain")


def test_one_envoy_is_restarted(keeper, control_plane, agents, envoys):
    refused = keeper.cli("run", "restart-envoy", "--target", "Node/node-3", "--wait") if not _has_envoys(control_plane) else None
    assert refused is None or (refused.returncode == 1 and "inside of the agents" in refused.stderr)
    before, sent, agents_before = envoys(), len(control_plane.writes()), agents()
    done = keeper.cli("run", "restart-envoy", "--target", "Node/node-3", "--wait")
    assert done.returncode == 0, done.stderr
    after = envoys()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    assert agents() == agents_before
    (write,) = control_plane.writes()[sent:]
    assert (write["verb"], write["objectRef"]["resource"]) == ("delete", "pods")


def test_the_operator_is_restarted_by_a_rollout(keeper, control_plane, operators):
    before, sent = operators(), len(control_plane.writes())
    dry = keeper.cli("run", "restart-operator", "--target", "Deployment/kube-system/cilium-operator", "--dry-run", "--wait")
    assert dry.returncode == 0, dry.stderr
    assert operators() == before
    done = keeper.cli("run", "restart-operator", "--target", "Deployment/kube-system/cilium-operator", "--wait")
    assert done.returncode == 0, done.stderr
    assert operators().isdisjoint(before)
    _, write = control_plane.writes()[sent:]
    assert (write["verb"], write["objectRef"]["resource"], write["responseStatus"]["code"]) == ("patch", "deployments", 200)


async def test_a_deployment_that_was_made_anew_is_not_restarted(control_plane, operators):
    """The patch holds the uid; what the API server says to another one decides whether that protects."""
    from remediator.kube import Kube, kinds
    from remediator.kube.errors import CallFailed, Conflict, Invalid

    operators()
    async with await Kube.connect(kubeconfig=control_plane.kubeconfig) as kube:
        body = {
            "metadata": {"uid": "00000000-0000-0000-0000-000000000000"},
            "spec": {"template": {"metadata": {"annotations": {"x": "y"}}}},
        }
        with pytest.raises(CallFailed) as refused:
            await kube.patch(kinds.DEPLOYMENT, "cilium-operator", body, "kube-system", type="merge")
        assert isinstance(refused.value, Conflict | Invalid)
        assert not refused.value.maybe_applied


def _ready(pod):
    return "deletionTimestamp" not in pod["metadata"] and any(
        c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ())
    )


def _runs(keeper):
    return [keeper.get(f"/api/v1/runs/{run['id']}") for run in keeper.get("/api/v1/runs")["items"]]


def _detail(run):
    return " ".join(step["detail"] for step in run["steps"])


def _seen(plane):
    found = plane.get("ds", "cilium", "-n", "kube-system")
    return found["status"]["observedGeneration"] == found["metadata"]["generation"]


def _revisions(plane):
    found = plane.get("controllerrevisions", "-n", "kube-system", "-l", "k8s-app=cilium")
    return found["items"]


def _has_envoys(plane):
    return bool(plane.get("ds", "-n", "kube-system", "-l", "k8s-app=cilium-envoy")["items"])
