"""Real kubectl as a client of the simulated API."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from remediator.clock import FastClock
from remediator.sim import Simulation


@pytest.fixture
async def fast():
    async with Simulation(clock=FastClock(50)) as sim:
        yield sim


@pytest.fixture
def kubectl(fast, tmp_path):
    beside = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nowhere")) / "kubectl"
    binary = str(beside) if beside.exists() else shutil.which("kubectl")
    if binary is None:
        pytest.skip("kubectl is not installed")

    async def run(*arguments, ok=True):
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--server={fast.url}",
            f"--cache-dir={tmp_path}",
            "--kubeconfig=/dev/null",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode == 0) == ok, err.decode()
        return out.decode() if ok else err.decode()

    return run


async def test_looking(kubectl):
    assert "Server Version: v1.36.3" in await kubectl("version")
    nodes = (await kubectl("get", "nodes")).splitlines()
    assert nodes[0].split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert nodes[1].split()[:3] == ["node-1", "Ready", "control-plane"]
    wide = await kubectl(
        "-n", "kube-system", "get", "pods", "-l", "k8s-app=cilium", "--field-selector", "spec.nodeName=node-3", "-o", "wide"
    )
    assert "10.25.150.12" in wide
    assert "CiliumIsUp" in await kubectl("describe", "node", "node-2")
    assert "Controlled By:" in await kubectl("-n", "kube-system", "describe", "pod", "-l", "k8s-app=kube-dns")
    assert json.loads(await kubectl("get", "ds", "-A", "-o", "json"))["items"][0]["status"]["numberReady"] == 5
    assert "ciliumnodes" in await kubectl("api-resources")
    assert "node-5" in await kubectl("get", "cn")
    assert '"nope" not found' in await kubectl("get", "node", "nope", ok=False)


async def test_writing(kubectl, fast):
    assert "cordoned" in await kubectl("cordon", "node-2")
    assert fast.cluster.get("Node", "node-2")["spec"]["unschedulable"] is True
    assert "SchedulingDisabled" in await kubectl("get", "node", "node-2")
    await kubectl("uncordon", "node-2")
    await kubectl("label", "node", "node-2", "a=b")
    await kubectl("annotate", "node", "node-2", "c/d=e")
    await kubectl("taint", "node", "node-2", "x=y:NoSchedule")
    node = fast.cluster.get("Node", "node-2")
    assert "unschedulable" not in node["spec"]
    assert node["metadata"]["labels"]["a"] == "b"
    assert node["metadata"]["annotations"]["c/d"] == "e"
    assert {"key": "x", "value": "y", "effect": "NoSchedule"} in node["spec"]["taints"]
    await kubectl("label", "node", "node-2", "a-")
    assert "a" not in fast.cluster.get("Node", "node-2")["metadata"]["labels"]
    await kubectl("patch", "node", "node-2", "--type=json", "-p", '[{"op": "remove", "path": "/spec/taints"}]')
    assert "taints" not in fast.cluster.get("Node", "node-2")["spec"]
    await kubectl("-n", "apps", "rollout", "restart", "deployment", "whoami")
    assert "successfully rolled out" in await kubectl("-n", "apps", "rollout", "status", "deployment", "whoami", "--timeout=30s")


async def test_deleting_and_draining(kubectl, fast):
    old = fast.cluster.agent_pod("node-3")["metadata"]
    assert "deleted" in await kubectl("-n", "kube-system", "delete", "pod", old["name"])
    assert fast.cluster.agent_pod("node-3")["metadata"]["uid"] != old["uid"]
    deleted = next(e for e in fast.cluster.request_log if e.verb == "delete")
    assert deleted.body["propagationPolicy"] == "Background"
    assert "drained" in await kubectl("drain", "node-4", "--ignore-daemonsets", "--timeout=30s")
    assert all("hostNetwork" in p["spec"] for p in fast.cluster.indexes.pods_on("node-4"))


async def test_applying(kubectl, fast, tmp_path):
    path = tmp_path / "config.yaml"
    for value in "12":
        path.write_text(f'apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: default}}\ndata: {{k: "{value}"}}\n')
        await kubectl("apply", "-f", str(path))
        assert fast.cluster.get("ConfigMap", "c", "default")["data"] == {"k": value}
    assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", str(path))
    await kubectl("delete", "-f", str(path))
    assert fast.cluster.get("ConfigMap", "c", "default") is None


async def test_watching(kubectl, fast):
    watching = asyncio.create_task(kubectl("get", "nodes", "-w", "--request-timeout=3s", "-o", "name"))
    async with asyncio.timeout(20):
        while True:
            if len(fast.cluster.watches):
                break
            await asyncio.sleep(0)
    await kubectl("cordon", "node-5")
    assert (await watching).split().count("node/node-5") > 1


async def test_executing(kubectl, fast):
    """The real client of the protocol: output, exit code and refusals are understood."""
    agent = fast.cluster.agent_pod("node-3")["metadata"]["name"]
    of = ("-n", "kube-system", "exec", agent, "-c", "cilium-agent", "--")
    assert await kubectl(*of, "cilium-dbg", "status", "--brief") == "OK\n"
    health = json.loads(await kubectl(*of, "cilium-health", "status", "--probe", "-o", "json"))
    assert [node["name"] for node in health["nodes"]] == fast.cluster.node_names()
    said = await kubectl(*of, "sh", "-c", "true", ok=False)
    assert 'exec: "sh": executable file not found' in said
    assert "exit code 127" in said
    assert "container nope is not valid" in await kubectl("-n", "kube-system", "exec", agent, "-c", "nope", "--", "true", ok=False)
    fast.cluster.stop_kubelet("node-3")
    assert "connection refused" in await kubectl(*of, "cilium-dbg", "status", "--brief", ok=False)
