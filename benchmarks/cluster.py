"""The daemon with the shipped playbooks on a large cluster: memory, time to ready, CPU, calls, the largest questions.

The cluster is simulated, in a process of its own; its pods are there from the start. The largest questions are those of a node's drain (dry
run): whether all its pods would fit elsewhere needs every pod of the cluster; and the page that shows the cluster. While they are asked,
``/-/healthy`` is asked too: how long it takes is how long the event loop stood still. ``CLUSTER=5000:100000`` measures another size.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.error
from pathlib import Path
from typing import Any

from benchmarks.probing import Onlooker
from benchmarks.processes import Daemon, SimulatedCluster
from benchmarks.table import Row

__all__ = ["gates", "measure", "rows"]

SIZE = "1000:100000"
REST = 60.0
SETTLE = 20.0
"""What is asked once after a start is no rest."""
MEMORY_MB = 250
READY_S = 10
STALL_MS = 50
HEALTH = "/-/healthy"
MORE = "prometheus: {{url: '{url}/prometheus'}}\nalertmanager: {{url: '{url}/alertmanager'}}"
_PATIENCE = 600.0


def rows() -> list[Row]:
    nodes, pods = map(int, os.environ.get("CLUSTER", SIZE).split(":"))
    found = measure(nodes, pods, rest=REST)
    size = f"{nodes:,} nodes, {pods:,} pods"
    return [
        Row(name="from start to ready", measured=found["ready"], unit="s", aim=READY_S, note=size),
        Row(name="memory at rest (RSS)", measured=found["rest"], unit="MB", aim=MEMORY_MB),
        Row(name="CPU at rest", measured=found["cpu"] * 100, unit="% of a core"),
        Row(name="calls of the API server at rest", measured=found["calls"], unit="a minute"),
        Row(name="all gates of a drain, dry run", measured=found["gates"], unit="s", note=found["no"] or "none refuses"),
        Row(name="gates that refuse it", measured=found["refused"], unit="", aim=0),
        Row(name="calls for it", measured=found["gates_calls"], unit=""),
        Row(name="the cluster's page", measured=found["page"], unit="s", note=found["page_told"]),
        Row(name="calls for it", measured=found["page_calls"], unit=""),
        Row(name="memory at its peak", measured=found["peak"], unit="MB", aim=MEMORY_MB),
        Row(name="longest stall meanwhile", measured=found["stall"], unit="ms", aim=STALL_MS, note=f"p99 {found['stall_p99']:.0f} ms"),
        Row(name="memory of the simulated cluster", measured=found["simulated"], unit="MB", note="a process of its own"),
    ]


def measure(nodes: int, pods: int, *, rest: float = REST) -> dict[str, Any]:
    """Everything that ``rows`` shows, by name, in s, MB and ms."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        folder = Path(name)
        with SimulatedCluster(folder, nodes=nodes, pods=pods) as cluster:
            cluster.wait_until_open(_PATIENCE)
            with Daemon(folder, kubernetes=cluster.url, more=MORE.format(url=cluster.url)) as daemon:
                found = {"ready": daemon.wait_until_ready(), **_at_rest(daemon, rest)}
                with Onlooker(daemon, HEALTH) as onlooker:
                    found |= gates(daemon, f"node-{nodes // 2 + 1}") | _page(daemon)
                found |= {"stall": onlooker.slowest(HEALTH), "stall_p99": onlooker.part(HEALTH, 0.99)}
                return found | {"peak": daemon.memory("VmHWM"), "simulated": cluster.memory()}


def _at_rest(daemon: Daemon, seconds: float) -> dict[str, Any]:
    time.sleep(SETTLE)
    calls, cpu, began = _calls(daemon), daemon.cpu(), time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - began
    return {"rest": daemon.memory(), "cpu": (daemon.cpu() - cpu) / took, "calls": (_calls(daemon) - calls) / took * 60}


def _calls(daemon: Daemon) -> float:
    return daemon.metric("remediator_kube_requests_total")


def gates(daemon: Daemon, node: str) -> dict[str, Any]:
    """A drain of ``node`` as a dry run, by hand: seconds, calls, and which gates refuse."""
    calls, began = _calls(daemon), time.perf_counter()
    body = {"playbook": "drain-node", "target": f"Node/{node}", "reason": "benchmark", "by": "benchmark", "dry_run": True}
    try:
        answer = json.loads(daemon.call("POST", "/api/v1/runs", body, seconds=_PATIENCE))
    except urllib.error.HTTPError as refusal:
        answer = json.loads(refusal.read())
    took = time.perf_counter() - began
    no = [f"{verdict['gate']}: {verdict['detail']}" for verdict in answer["gates"] if not verdict["allowed"]]
    return {"gates": took, "gates_calls": _calls(daemon) - calls, "refused": len(no), "no": "; ".join(no)}


def _page(daemon: Daemon) -> dict[str, Any]:
    calls, began = _calls(daemon), time.perf_counter()
    told = ""
    try:
        daemon.call("GET", "/api/v1/cluster", seconds=_PATIENCE)
    except urllib.error.HTTPError as problem:
        told = str(json.loads(problem.read()).get("detail", problem))
    return {"page": time.perf_counter() - began, "page_calls": _calls(daemon) - calls, "page_told": told}
