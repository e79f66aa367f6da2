"""The demo as a newcomer starts it: a process of its own, with the real daemon and the simulated cluster in it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from standins.forks import run

CRASH_LOOP = """
import asyncio
from dataclasses import replace
from remediator.cli.stage import perform
from remediator.sim import scenario

async def play(sim):
    sim.cluster.kill_agent("node-3", "crash_loop")

raise SystemExit(asyncio.run(perform(replace(scenario("agent-down"), play=play), once=True)))
"""


def environment(tmp_path):
    return {**{k: v for k, v in os.environ.items() if not k.startswith("REMEDIATOR_")}, "TMPDIR": str(tmp_path)}


@pytest.fixture
def once(tmp_path):
    """Run something to its end, ``demo`` forked; nothing may be left in the folder for temporary files."""

    def once(*command):
        env = environment(tmp_path)
        if command[0] == "demo":
            done = run("remediator.cli:main", *command, env=env, seconds=110)
        else:
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=110, check=False, env=env)
        assert list(tmp_path.iterdir()) == []
        return done

    return once


def test_once_ends_healed(once):
    done = once("-m", "remediator", "demo", "--once")
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "A simulated cluster of 5 nodes is up",
        "The Cilium agent on node-3 hangs",
        "Alertmanager posted CiliumAgentDown",
        "of cilium-agent-down on Node/node-3 began",
        "cilium.restart_agent",
        "It was applied, to stay.",
        "verification began",
        "healed. The symptom is gone and stayed gone for the hold time.",
        "The cluster itself says: whole again.",
        "$ remediator why ",
        "What is left behind\n  Nothing.\n",
    ):
        assert said in done.stdout
    assert "Everything stays up" not in done.stdout


def test_a_job_that_a_person_starts(once):
    done = once("demo", "--once", "--scenario", "bgp-shift")
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "The uplink of node-3 loses packets",
        "Alertmanager posted UplinkLosesClients",
        "$ remediator run shift-bgp-away --target Node/node-3 --wait",
        "plan: 10.25.150.223/32 (apps/whoami, policy Cluster): 5 speakers now, 4 left",
        "healed. The symptom is gone and stayed gone for the hold time.",
        "Alertmanager posted that the alert is resolved",
        "The cluster itself says: whole again.",
        'labels.remediator.dev/bgp-drain: absent → "true"',
    ):
        assert said in done.stdout


def test_a_node_that_a_person_drains(once):
    done = once("demo", "--once", "--scenario", "node-drain")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for said in (
        "$ remediator run drain-node --target Node/node-3",
        "apps/shop (maxUnavailable 25%, allows 1 now: 4 of 4 healthy, 3 needed) holds 4 of them: at most 1 at a time",
        "(belongs to a DaemonSet)",
        "healed. The symptom is gone and stayed gone for the hold time.",
        "The cluster itself says: whole again.",
    ):
        assert said in done.stdout


@pytest.mark.long
def test_a_restart_that_a_person_asks_for(once):
    done = once("demo", "--once", "--scenario", "agent-restart")
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "Alertmanager posted EndpointsOfNodeStuck",
        "$ remediator run restart-agent --target Node/node-3 --wait --reason",
        "plan: delete pod kube-system/cilium-",
        "plan: then two probe intervals later: node-3 reaches every peer",
        "healed. The symptom is gone and stayed gone for the hold time.",
        "The cluster itself says: whole again.",
        "What is left behind\n  Nothing.\n",
    ):
        assert said in done.stdout


@pytest.mark.long
def test_the_node_that_is_to_blame_is_cured_and_not_the_one_that_an_alert_names(once):
    done = once("demo", "--once", "--scenario", "slow-node")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for said in (
        "Alertmanager posted CiliumPairLatencyCritical",
        "of node-latency on Node/node-3 began",
        "node-3 is to blame for latency above 20ms (confidence 1): 4 of 4 sound nodes that voted say that node-3 is bad",
        "healed. The symptom is gone and stayed gone for the hold time.",
        "The cluster itself says: whole again.",
        "Not begun: shift, drain.",
    ):
        assert said in done.stdout


@pytest.mark.parametrize(
    ("scenario", "found"),
    [
        ("slow-link", "link: only the link between node-2 and node-5 is bad"),
        pytest.param("slow-zone", "zone: zone zone-b is what the bad pairs have", marks=pytest.mark.long),
    ],
)
def test_what_is_no_nodes_fault_is_left_to_a_person(once, scenario, found):
    done = once("demo", "--once", "--scenario", scenario)
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    assert f"Nothing was started. no_culprit: The observations blame no single node. ({found}" in done.stdout


@pytest.mark.long
def test_an_incident_that_does_not_end_healed(once):
    done = once("-c", CRASH_LOOP)
    assert (done.returncode, done.stderr) in [(1, ""), (4, "")]
    assert "healed." not in done.stdout
    assert "crash_looping" in done.stdout


@pytest.fixture
def left_up(call, tmp_path):
    """A demo that stays up, with the environment that it told people to set."""
    env = environment(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "remediator", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        for line in process.stdout:
            if found := re.match(r"\s+export (\w+)=(.*)$", line):
                env[found[1]] = found[2]
            if "writes its log" in line:
                break

        told = {name: value for name, value in env.items() if name.startswith("REMEDIATOR_")}
        yield process, lambda *args, **more: call(*args, env=told, **more)
        process.kill()


def test_it_stays_up_to_be_looked_at(left_up, tmp_path):
    process, call = left_up

    def data(*args, stdin=None):
        done = call(*args, "-o", "json", stdin=stdin)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    assert data("status")["ready"] is True
    [run] = data("runs", "list")["items"]
    assert (run["state"], run["target"]["name"]) == ("healed", "node-3")
    assert data("runs", "show", run["id"])["steps"]
    assert call("runs", "watch", run["id"]).exit_code == 0
    [episode] = data("alerts", "list", "--all")["items"]
    assert (episode["run"], episode["resolved_at"] is not None) == (run["id"], True)
    assert [d["status"] for d in data("deliveries", "list")["items"]] == ["resolved", "firing"]
    assert data("changes", "list")["items"] == []
    assert "cilium-agent-down" in [p["name"] for p in data("playbooks", "list")["items"]]
    assert data("playbooks", "show", "restart-agent")["text"].startswith("#")
    assert data("actions", "show", "cilium.restart_agent")["disruptive"] is True
    assert {"paused", "cooldown"} <= {g["name"] for g in data("gates", "list")["items"]}
    assert data("match", "--label", "alertname=CiliumAgentDown", "--label", "node=node-3")["reason"] == "cooldown"
    assert data("match", "--label", "alertname=Nothing")["nearest"]
    assert data("why", "CiliumAgentDown")["runs"] == [run["id"]]
    assert data("journal", "verify")["ok"] is True
    assert len(call("journal", "export").stdout.splitlines()) > 10

    assert data("pause", "--reason", "test")["reason"] == "test"
    refused = call("run", "restart-agent", "--target", "Node/node-2", "--wait")
    assert refused.exit_code == 4
    assert "paused: A person paused everything" in refused.stderr
    assert data("resume") == {"ended": 1}
    assert call("run", "restart-agent", "--target", "Node/node-77").exit_code == 4
    assert call("run", "restart-agnet", "--target", "Node/node-2").exit_code == 2
    assert call("run", "restart-agent", "--target", "Node/node-2", "--dry-run", "--wait").exit_code == 0
    assert [r["state"] for r in data("runs", "list", "--target", "Node/node-2")["items"]] == ["predicted"]
    assert call("runs", "cancel", run["id"], "--reason", "too late").exit_code == 1
    assert call("runs", "show", "nothing").exit_code == 1
    assert call("alert", "send", "-", stdin="{}").exit_code == 1  # the write token does not open the webhook

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_ended_in_the_middle_it_leaves_nothing_behind(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-m", "remediator", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as process:
        while "daemon is up" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert list(tmp_path.iterdir()) == []


def test_lists_of_scenarios(call):
    assert call("demo", "--list").stdout == call("scenarios", "list").stdout
    assert call("scenarios", "list").stdout.splitlines()[0].split() == ["NAME", "ALERTS", "PLAYBOOK", "SUMMARY"]
    names = {"agent-crash-looping", "agent-down", "agent-restart", "bgp-shift", "node-drain", "slow-link", "slow-node", "slow-zone"}
    assert names == set(call("scenarios", "list", "-o", "name").stdout.splitlines())
    assert names | {"scrape-storm", "pdb-deadlock"} < set(call("scenarios", "list", "--all", "-o", "name").stdout.splitlines())
    first = json.loads(call("scenarios", "list", "-o", "json").stdout)["items"][0]
    assert (first["name"], first["alerts"], first["playbook"]) == ("agent-down", ["CiliumAgentDown"], "cilium-agent-down")


def test_unknown_scenario(call):
    result = call("demo", "--scenario", "agent-dwon")
    assert result.exit_code == 2
    assert "agent-down" in result.stderr
    hidden = call("demo", "--scenario", "scrape-storm")
    assert hidden.exit_code == 2, "with nothing to see"
    assert "there is no scenario 'scrape-storm'" in hidden.stderr
