"""What ``deploy/`` installs, on a real control plane: the objects are taken, and the account that they make is enough and no more.

The daemon runs as a process with that ServiceAccount's token, and has Prometheus with the shipped rules and Alertmanager with the shipped
route in front of it. Who plays the network is the exporter: it says of node-3's agent what kube-state-metrics would.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from plugins.installation import NODES, all_is_well, forbidden, is_ready

from remediator.clock import ManualClock
from remediator.kube import Kube, kinds
from remediator.kube.elector import EVERY, LASTS, Elector
from remediator.kube.errors import Forbidden

pytestmark = [pytest.mark.long, pytest.mark.controlplane, pytest.mark.alertmanager, pytest.mark.prometheus, pytest.mark.timeout(400)]

SOONER = ("CiliumAgentDown", "NodePacketLossCritical")
AUTO = ("cilium-agent-down", "node-packet-loss")
COMPONENTS = ("exec", "postgres", "gateway-steering", "hostnetwork")


@pytest.fixture
def plane(control_plane):
    return control_plane


@pytest.fixture
def installed(plane, installation):
    return installation(plane)


def loses(exporter, node, ratio):
    """What a prober on every node says of its packets to and from ``node``, and between the others, which lose none.

    The rule averages over 5 minutes, so with a little more than its limit the alert is over soon after the loss is.
    """
    for one in NODES:
        for other in NODES:
            if one != other:
                labels = {"node": one, "target_node": other}
                exporter.set("network_pair_loss_ratio", labels, ratio if node in (one, other) else 0)


@pytest.fixture
def network(agents, exporter):
    agents()
    all_is_well(exporter)
    return exporter


@pytest.fixture
def start(network, installed, stack):
    """start(settings): everything, once Prometheus knows the agents."""

    def begin(settings):
        keeper = stack(installed, settings, SOONER, AUTO)
        keeper.prometheus.wait_for("node:cilium_agent_ready:max == 1")
        return keeper

    return begin


def taken(installed, root):
    """Every object, also those of the components, and the AlertmanagerConfig. What was applied."""
    things = installed.build("medik8s")
    assert len(installed.apply(things)) == len(things)
    assert len(installed.apply(installed.build(*COMPONENTS), "--dry-run=server", "--force-conflicts")) > len(things)
    config = yaml.safe_load((root / "deploy" / "alertmanager" / "alertmanagerconfig.yaml").read_text())
    assert installed.apply([config], "--dry-run=server") == [
        "alertmanagerconfig.monitoring.coreos.com/remediator serverside-applied (server dry run)"
    ]

    return things


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


def test_the_installation_is_taken_and_its_account_is_enough_and_no_more(plane, installed, agents, network, start, root):
    things = taken(installed, root)
    keeper = start(installed.settings(things))
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
    installed.apply([without_delete(things)])
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


ELECTS = """\
apiVersion: remediator.dev/v1
kind: Settings
server: {listen: '127.0.0.1:0', insecure: true}
store: {url: 'postgresql://remediator@postgres.databases/remediator'}
election: {enabled: true, namespace: remediator}
kubernetes: {kubeconfig: KUBECONFIG}
"""


async def test_the_component_postgres_gives_the_right_on_its_lease_and_on_no_other(plane, installed, root, tmp_path):
    """Kubernetes answers whether an account may touch a named object only where the question names it."""
    things = installed.build("postgres", "medik8s")
    election = [thing for thing in things if thing["metadata"]["name"] == "remediator-election"]
    assert sorted(thing["kind"] for thing in election) == ["Role", "RoleBinding"]
    installed.apply([thing for thing in things if thing not in election])
    account = installed.kubeconfig()
    (tmp_path / "elects.yaml").write_text(ELECTS.replace("KUBECONFIG", account))

    def check():
        words = ("check", "--cluster", "--config", str(tmp_path / "elects.yaml"), str(root / "playbooks" / "restart-agent.yaml"))
        return subprocess.run([sys.executable, "-m", "remediator", *words], capture_output=True, text=True, timeout=120, check=False)

    without = await asyncio.to_thread(check)
    assert without.returncode == 1
    assert "no replica could be elected: our account may not create leases.coordination.k8s.io in remediator" in without.stdout
    installed.apply(election)
    async with await Kube.connect(kubeconfig=Path(account)) as kube:
        await leads(kube, "remediator")
        for name in ("another", "remediator"):
            assert await kube.may("patch", "leases", "remediator", group="coordination.k8s.io", name=name) is (name == "remediator")
        with pytest.raises(Forbidden):
            await kube.delete(kinds.LEASE, "remediator", "remediator")
    found = await asyncio.to_thread(check)
    assert found.returncode == 0, found.stdout + found.stderr


async def leads(kube, lease):
    """Where there was no Lease, without waiting for real, and a renewal afterwards."""
    clock, ticks = ManualClock(), [0.0]
    elector = Elector(kube, clock, name=lease, namespace="remediator", identity="test", ticks=lambda: ticks[0])
    task = asyncio.create_task(elector.campaign())
    async with asyncio.timeout(60):
        while not task.done():
            if clock.next_deadline() is not None:
                ticks[0] += LASTS.total_seconds()
                clock.advance(EVERY)
            await asyncio.sleep(0.01)
    assert elector.leads
    await elector.release()
    assert (await kube.get(kinds.LEASE, lease, "remediator"))["spec"].get("holderIdentity", "") == ""


@pytest.fixture(autouse=True)
def quiet(plane):
    """The nodes that are drained are in nobody else's way afterwards."""
    yield
    plane.kubectl("uncordon", "node-2", "node-4")
    plane.kubectl("delete", "ciliumnode", "node-2", "node-4", "--ignore-not-found")
