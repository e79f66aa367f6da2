"""What ``deploy/`` installs, on a real control plane: the objects are taken, and the account that they make is enough and no more.

The daemon runs as a process with that ServiceAccount's token, and has Prometheus with the shipped rules and Alertmanager with the shipped
route in front of it. Who plays the network is the exporter: it says of node-3's agent what kube-state-metrics would.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from plugins.controlplane import _crds  # where the CRDs are laid out

from remediator.settings import load_settings

pytestmark = [pytest.mark.long, pytest.mark.controlplane, pytest.mark.alertmanager, pytest.mark.prometheus, pytest.mark.timeout(400)]

NODES = [f"node-{number}" for number in range(1, 6)]
FOR = {"CiliumAgentDown": "1s", "NodePacketLossCritical": "1s"}
"""The overlay over the shipped rules: how long a symptom lasts before it is an alert. Nothing else of them is changed."""
COMPONENTS = ("exec", "postgres", "gateway", "hostnetwork")
NO_CRD: frozenset[str] = frozenset()
"""Kinds whose CRD is not at hand; their objects are not sent."""


@pytest.fixture
def plane(control_plane, root):
    """With the CRDs of everything in ``deploy/``, and the namespace of medik8s's leases, so that its component is needed."""
    folder = _crds(root.parent / "shared" / "controlplane")
    for file in (
        *(folder / "gateway-api-1.4.1").glob("*_httproutes.yaml"),
        *(folder / "gateway-api-1.4.1").glob("*_gateways.yaml"),
        *(folder / "prometheus-operator-0.85.0").glob("*_servicemonitors.yaml"),
        *(folder / "prometheus-operator-0.85.0").glob("*_prometheusrules.yaml"),
        *(folder / "prometheus-operator-0.85.0").glob("*_alertmanagerconfigs.yaml"),
    ):
        control_plane.kubectl("apply", "--server-side", "-f", str(file))
    control_plane.kubectl("create", "namespace", "medik8s-leases")
    yield control_plane
    control_plane.kubectl("delete", "namespace", "medik8s-leases", "remediator", "--ignore-not-found", "--wait=false")
    for kind in ("clusterrole", "clusterrolebinding"):
        control_plane.kubectl("delete", kind, "remediator", "--ignore-not-found")
    for where in ("kube-system", "kube-node-lease"):
        control_plane.kubectl("delete", "role,rolebinding", "remediator", "-n", where, "--ignore-not-found")


@pytest.fixture
def install(plane, root, tmp_path):
    """install(*components): the production overlay with them, applied server-side with strict validation; its objects."""

    def build(*components):
        (tmp_path / "deploy").symlink_to(root / "deploy") if not (tmp_path / "deploy").exists() else None
        folder = root / "deploy" / "kustomize"
        text = yaml.safe_dump(
            {
                "resources": [str(folder / "overlays" / "production")],
                "components": [str(folder / "components" / name) for name in components],
            }
        )
        work = tmp_path / "-".join(("work", *components))
        work.mkdir()
        relative = Path(*([".."] * len(work.resolve().parts[1:])))
        (work / "kustomization.yaml").write_text(text.replace(str(root), str(relative / root.relative_to("/"))))
        built = plane.kubectl("kustomize", str(work))
        return [thing for thing in yaml.safe_load_all(built) if thing and thing["kind"] not in NO_CRD]

    return build


def applied(plane, things, *flags):
    text = "---\n".join(yaml.safe_dump(thing) for thing in things)
    return plane.kubectl("apply", "--server-side", "--validate=strict", "--field-manager=test", *flags, "-f", "-", stdin=text).splitlines()


@pytest.fixture
def account(plane, tmp_path):
    """account(): a kubeconfig of the installed ServiceAccount."""

    def make():
        config = yaml.safe_load(Path(plane.kubeconfig).read_text())
        token = plane.kubectl("create", "token", "remediator", "-n", "remediator").strip()
        config["users"] = [{"name": "account", "user": {"token": token}}]
        for context in config["contexts"]:
            context["context"]["user"] = "account"
        (tmp_path / "account").write_text(json.dumps(config))
        return str(tmp_path / "account")

    return make


@pytest.fixture
def shipped(root):
    """The shipped playbooks with times that a test can wait for; nothing else changed."""

    def quick(path):
        text = re.sub(r"\n  runbook: .*", "", path.read_text())
        text = re.sub(r"\bhold: \w+", "hold: 1s", text)
        text = text.replace("action: cilium.restart_agent, timeout: 20m", "action: cilium.restart_agent, timeout: 2m, ready_for: 1s")
        text = text.replace("within: 15m", "within: 15s").replace(
            "action: node.drain, timeout: 30m", "action: node.drain, timeout: 2m, quiet_for: 1s"
        )
        return text.replace("cooldown: 30m", "cooldown: 1s")

    return [quick(path) for path in sorted((root / "playbooks").glob("*.yaml"))]


def is_ready(exporter, node, value):
    """What kube-state-metrics says of the agent on ``node``."""
    pod = {"namespace": "kube-system", "pod": f"cilium-{node}"}
    exporter.set("kube_pod_status_ready", {**pod, "condition": "true"}, value)


def loses(exporter, node, ratio):
    """What a prober on every node says of its packets to and from ``node``, and between the others, which lose none.

    The rule averages over 5 minutes, so with a little more than its limit the alert is over soon after the loss is.
    """
    for one in NODES:
        for other in NODES:
            if one != other:
                labels = {"node": one, "target_node": other}
                exporter.set("network_pair_loss_ratio", labels, ratio if node in (one, other) else 0)


def forbidden(daemon):
    """How often the API server said 403 to the daemon."""
    text = daemon.metrics()
    assert 'code="200"' in text
    return [line for line in text.splitlines() if line.startswith("remediator_kube_requests_total") and 'code="403"' in line]


@pytest.fixture
def network(agents, exporter):
    """Five nodes whose agents are ready, as kube-state-metrics and the agents would tell."""
    agents()
    for node in NODES:
        exporter.set("up", {"job": "cilium-agent", "node": node})
        exporter.set("kube_node_info", {"node": node})
        exporter.set("kube_node_status_condition", {"node": node, "condition": "Ready", "status": "true"})
        owner = {"created_by_kind": "DaemonSet", "created_by_name": "cilium"}
        exporter.set("kube_pod_info", {"namespace": "kube-system", "pod": f"cilium-{node}", "node": node, **owner})
        is_ready(exporter, node, 1)
    return exporter


@pytest.fixture
def start(network, rules, alerting, prometheus_server, daemon, free_port, account, shipped):
    """start(settings): the daemon with an installation's settings and its account, but for where files are and who answers."""

    def begin(production):
        alertmanager = alerting(free_port)
        prometheus = prometheus_server(network, job="cilium-agent", rules=rules(FOR), alertmanagers=[alertmanager.url])
        prometheus.wait_for("node:cilium_agent_ready:max == 1")
        known = {"prometheus": {"url": prometheus.url}, "alertmanager": {"url": alertmanager.url}, "kubernetes": {"kubeconfig": account()}}
        mine = {key: value for key, value in production.items() if key in ("mode", "dry_run", "cilium")}
        trusted = {"modes": {**production["modes"], "cilium-agent-down": "auto", "node-packet-loss": "auto"}}
        return daemon(playbooks=shipped, port=free_port, **mine, **known, **trusted)

    return begin


def taken(plane, install, root):
    """Every object, also those of the components, and the AlertmanagerConfig. What was applied."""
    things = install("medik8s")
    assert len(applied(plane, things)) == len(things)
    assert len(applied(plane, install(*COMPONENTS), "--dry-run=server", "--force-conflicts")) > len(things)
    config = yaml.safe_load((root / "deploy" / "alertmanager" / "alertmanagerconfig.yaml").read_text())
    assert applied(plane, [config], "--dry-run=server") == [
        "alertmanagerconfig.monitoring.coreos.com/remediator serverside-applied (server dry run)"
    ]

    return things


def settings_of(things, folder):
    (settings,) = [thing for thing in things if thing["kind"] == "ConfigMap" and "settings.yaml" in thing["data"]]
    (folder / "settings.yaml").write_text(settings["data"]["settings.yaml"])
    assert load_settings(folder / "settings.yaml", env={}).dry_run is False
    return yaml.safe_load(settings["data"]["settings.yaml"])


def without_delete(things):
    """The ClusterRole without the verb that restarts need."""
    (role,) = [thing for thing in things if thing["kind"] == "ClusterRole"]
    (rule,) = [rule for rule in role["rules"] if "pods" in rule["resources"] and "delete" in rule["verbs"]]
    assert (rule["resources"], rule["verbs"]) == (["pods"], ["delete"])
    return {**role, "rules": [one for one in role["rules"] if one is not rule]}


def agent_goes_and_comes_back(keeper, network, agents):
    """The rule fires, the agent is replaced, its metric recovers, the alert is resolved."""
    before = agents()
    is_ready(network, "node-3", 0)
    keeper.wait_for("the run to verify", lambda: runs_of(keeper, "cilium-agent-down", "verifying"), seconds=90)
    is_ready(network, "node-3", 1)
    run = keeper.run_that_ended(playbook="cilium-agent-down")
    assert (run["state"], run["alert"]["name"], run["target"]["name"]) == ("healed", "CiliumAgentDown", "node-3")
    after = agents()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    (resolved,) = keeper.decisions(decision="resolved")
    assert resolved["alert"]["labels"]["node"] == "node-3"


def node_goes_and_comes_back(keeper, network, plane):
    """A restart does not help, so the node is taken out of service; once it loses nothing any more it gets its work back."""
    plane.apply(cilium_node("node-2"))
    loses(network, "node-2", 0.013)
    plane.wait_for("the node to be cordoned", lambda: plane.get("node", "node-2")["spec"].get("unschedulable"), seconds=120)
    loses(network, "node-2", 0)
    run = keeper.run_that_ended(playbook="node-packet-loss")
    assert (run["state"], run["alert"]["name"], run["target"]["name"]) == ("healed", "NodePacketLossCritical", "node-2")
    assert [(step["action"], step["state"]) for step in run["steps"] if step["action"] in ("cilium.restart_agent", "node.drain")] == [
        ("cilium.restart_agent", "succeeded"),
        ("node.drain", "succeeded"),
    ]
    plane.wait_for("the node to get its work back", lambda: not plane.get("node", "node-2")["spec"].get("unschedulable"), seconds=120)
    keeper.wait_for("nothing to be left behind", lambda: not keeper.get("/api/v1/changes?left_behind=true")["items"])
    keeper.decisions(2, decision="resolved")


def runs_of(keeper, playbook, state):
    return [run for run in keeper.get(f"/api/v1/runs?playbook={playbook}")["items"] if run["state"] == state]


def cilium_node(name):
    """Of a node that announces nothing, since there is no BGP here."""
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": name}, "spec": {}}


def test_the_installation_is_taken_and_its_account_is_enough_and_no_more(plane, install, agents, network, start, tmp_path, root):
    things = taken(plane, install, root)
    keeper = start(settings_of(things, tmp_path))
    assert keeper.cli("check", "--cluster", "--config", str(keeper.folder / "settings.yaml")).returncode == 0

    agent_goes_and_comes_back(keeper, network, agents)
    node_goes_and_comes_back(keeper, network, plane)
    # What people do by hand.
    plane.apply(cilium_node("node-4"))
    for playbook, *flags in (
        ("restart-agent", "--set", "ready_for=1s"),
        ("drain-node",),
        ("return-node",),
        ("shift-bgp-away",),
    ):
        done = keeper.cli("run", playbook, "--target", "Node/node-4", *flags, "--wait", "--reason", "test")
        assert done.returncode == 0, f"{playbook}: {done.stdout}{done.stderr}"
    assert keeper.cli("bgp", "status").returncode == 0
    assert forbidden(keeper) == []

    before = agents()
    # Without one verb the playbooks that need it refuse before they change anything, and say which it is; the others work.
    applied(plane, [without_delete(things)])
    keeper.stop()
    keeper.start()
    refused = keeper.cli("run", "restart-agent", "--target", "Node/node-5", "--wait", "--reason", "test")
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "missing_right" in refused.stdout + refused.stderr
    assert "delete pods in kube-system" in refused.stdout + refused.stderr
    assert agents()["node-5"] == before["node-5"]
    told = keeper.wait_for("the status to tell", lambda: keeper.get("/api/v1/status")["unavailable"])
    assert "restart-agent" in {one["playbook"] for one in told}
    assert not {"drain-node", "return-node"} & {one["playbook"] for one in told}
    checked = keeper.cli("check", "--cluster", "--config", str(keeper.folder / "settings.yaml"))
    assert checked.returncode == 1
    assert "playbook restart-agent is unavailable: our account may not delete pods in kube-system" in checked.stdout
    assert forbidden(keeper) == []


@pytest.fixture(autouse=True)
def quiet(plane):
    """The node that is drained is in nobody else's way afterwards."""
    yield
    subprocess.run(
        [str(plane.assets / "kubectl"), f"--kubeconfig={plane.kubeconfig}", "uncordon", "node-2", "node-4"], check=False, timeout=30
    )
