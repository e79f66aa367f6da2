"""The simulated cluster as a process of its own, so that it outlives a daemon that a test kills."""

from __future__ import annotations

import json
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class RunningSimulation:
    """One simulated cluster: its Kubernetes API, Prometheus and Alertmanager, on one port."""

    url: str
    rate: float = 1

    @property
    def settings(self) -> dict[str, Any]:
        """What a daemon's settings say about it. Where its clock goes faster than the daemon's, Prometheus soon lives at another time."""
        age = {"max_age": "1d"} if self.rate > 1 else {}
        return {
            "kubernetes": {"server": self.url},
            "prometheus": {"url": f"{self.url}/prometheus", **age},
            "alertmanager": {"url": f"{self.url}/alertmanager"},
        }

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def agents(self) -> dict[str, str]:
        """node -> uid of its agent pod."""
        pods = self.call("GET", "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcilium")["items"]
        return {p["spec"]["nodeName"]: p["metadata"]["uid"] for p in pods if "deletionTimestamp" not in p["metadata"]}


@pytest.fixture
def simulation_process(processes: Any) -> Callable[..., RunningSimulation]:
    def start(*, rate: float = 1, nodes: int = 5) -> RunningSimulation:
        def argv(ports: list[int]) -> list[str]:
            return [sys.executable, "-m", "remediator.sim", "--port", str(ports[0]), "--rate", str(rate), "--nodes", str(nodes)]

        _, ports = processes.start("simulation", 1, argv, lambda ports: f"http://127.0.0.1:{ports[0]}/readyz")
        return RunningSimulation(f"http://127.0.0.1:{ports[0]}", rate)

    return start
