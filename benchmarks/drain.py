"""Draining a node beside the real ``kubectl drain``, on the real control plane, one after the other on the same node.

Behind budgets: 100 pods of 10 Deployments, each with a PodDisruptionBudget of maxUnavailable 25 %, pods that take 1 s to stop. Without
budgets: 250 pods. Wall time is from the command (kubectl) or the request (ours) to the end; for ours also to the last pod's end. API calls:
kubectl prints its own with -v=6, ours are counted by ``remediator_kube_requests_total``. Memory is what the daemon grew by, and kubectl's
peak beside it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.processes import ROOT, TOKEN, Process, free_port, program
from benchmarks.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["rows"]

NODE = "node-2"
NODES = 5
PATIENCE = 300
STOP = {"controlplane/stop-after": "1s"}


@dataclass
class Taken:
    """One drain."""

    wall: float
    gone: float
    calls: int
    memory: float
    """MiB."""


def rows() -> list[Row]:
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    folder = Path(os.environ.get("REMEDIATOR_CONTROLPLANE") or ROOT.parent / "shared" / "controlplane")
    if not assets or not (folder / "up").exists():
        note = "KUBEBUILDER_ASSETS and REMEDIATOR_CONTROLPLANE name the real control plane"
        return [Row(name="skipped: no real control plane", measured=0, unit="", note=note)]
    with tempfile.TemporaryDirectory(prefix="remediator-bench-") as home, _plane(folder, Path(home)) as kubeconfig:
        field = Field(Path(assets) / "kubectl", kubeconfig)
        found = []
        for name, deployments, replicas, budget, aim in (("behind budgets", 10, 10, "25%", 0.5), ("without budgets", 5, 50, None, 0.9)):
            theirs = field.measure(deployments, replicas, budget, field.by_kubectl)
            ours = field.measure(deployments, replicas, budget, field.by_us)
            found += _rows(f"{deployments * replicas} pods {name}", ours, theirs, aim)
        return found


def _rows(name: str, ours: Taken, theirs: Taken, aim: float) -> list[Row]:
    beside = {"beside": "kubectl"}
    return [
        Row(name=f"{name}: last pod gone", measured=ours.gone, unit="s", compared=theirs.wall, **beside),
        Row(name=f"{name}: said to be drained", measured=ours.wall, unit="s", compared=theirs.wall, aim=aim, of_ratio=True, **beside),
        Row(name=f"{name}: API calls", measured=ours.calls, unit="", compared=theirs.calls, aim=0.5, of_ratio=True, **beside),
        Row(
            name=f"{name}: memory",
            measured=ours.memory,
            unit="MiB",
            aim=20,
            beside=f"kubectl's peak: {theirs.memory:.0f} MiB",
            note="growth",
        ),
    ]


@contextmanager
def _plane(folder: Path, home: Path) -> Iterator[Path]:
    """A control plane of its own; the path of an admin's kubeconfig."""
    kubeconfig = home / "kubeconfig"
    command = [str(folder / "up"), "--nodes", str(NODES), "--kubeconfig", str(kubeconfig)]
    with (home / "up.log").open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=home) as up:
        try:
            if not up.stdout or not up.stdout.readline():
                raise RuntimeError(f"the control plane did not come up: {(home / 'up.log').read_text()[-2000:]}")
            yield kubeconfig
        finally:
            up.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                up.wait(30)


SETTINGS = """\
apiVersion: remediator.dev/v1
kind: Settings
server: {{listen: '127.0.0.1:{port}', webhook_token_file: token, read_token_file: token, write_token_file: token}}
store: {{url: 'sqlite:///{home}/journal.db'}}
modes: {{'*': auto}}
kubernetes: {{kubeconfig: '{kubeconfig}'}}
"""


class Daemon(Process):
    """``remediator serve`` on the real control plane, with the playbooks that it comes with."""

    def __init__(self, home: Path, kubeconfig: Path) -> None:
        port = free_port()
        (home / "token").write_text(TOKEN)
        settings = home / "settings.yaml"
        settings.write_text(SETTINGS.format(port=port, home=home, kubeconfig=kubeconfig))
        super().__init__([program("remediator"), "serve", "--config", str(settings)], port, home / "daemon.log")
        self._until(self._ready, 60, "be ready")

    def call(self, method: str, path: str, body: Any = None) -> bytes:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode() if body else None, headers, method=method
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            return bytes(reply.read())

    def requests(self) -> int:
        """How many calls of the Kubernetes API it made so far."""
        text = self.call("GET", "/metrics").decode()
        return int(sum(float(n) for n in re.findall(r"^remediator_kube_requests_total\{[^}]*\} (\S+)$", text, re.MULTILINE)))

    def settled(self) -> int:
        """How many calls it made, once it has looked around after its start: it reviews its rights, for one thing, drain or not."""
        found = -1
        while found != (found := self.requests()):
            time.sleep(1)
        return found

    def _ready(self) -> bool:
        with suppress(OSError):
            return bool(self.call("GET", "/-/ready"))
        return False


class Field:
    """One node to be drained again and again."""

    def __init__(self, kubectl: Path, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._kubectl = [str(kubectl), f"--kubeconfig={kubeconfig}"]

    def measure(self, deployments: int, replicas: int, budget: str | None, drain: Callable[[], Taken]) -> Taken:
        self._plant(deployments, replicas, budget)
        try:
            return drain()
        finally:
            self._clear()

    def by_kubectl(self) -> Taken:
        log = self._kubeconfig.with_name("kubectl.log")
        began = time.perf_counter()
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*self._kubectl, "drain", NODE, "--ignore-daemonsets", "-v=6", f"--timeout={PATIENCE}s"], stdout=out, stderr=out
            )
            _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        text = log.read_text(errors="replace")
        if status:
            raise RuntimeError(f"kubectl drain failed: {text[-2000:]}")
        calls = len(re.findall(r'verb="(?:GET|POST|PATCH|PUT|DELETE)"|\b(?:GET|POST|PATCH|PUT|DELETE) https://', text))
        return Taken(wall, wall, calls, used.ru_maxrss / 1024)

    def by_us(self) -> Taken:
        home = Path(tempfile.mkdtemp(prefix="ours-", dir=self._kubeconfig.parent))
        with Daemon(home, self._kubeconfig) as daemon:
            calls, memory = daemon.settled(), daemon.memory()
            began = time.perf_counter()
            body = {"playbook": "drain-node", "target": f"Node/{NODE}", "reason": "benchmark", "by": "benchmark"}
            run = json.loads(daemon.call("POST", "/api/v1/runs", body))
            while (step := json.loads(daemon.call("GET", f"/api/v1/runs/{run['id']}"))["steps"][0])["state"] in ("pending", "running"):
                time.sleep(0.2)
            wall = time.perf_counter() - began
            if step["state"] != "succeeded":
                raise RuntimeError(f"our drain ended {step['state']}: {step['outcome']} {step['detail']}")
            return Taken(wall, _emptied(run, step), daemon.requests() - calls, daemon.memory("VmHWM") - memory)

    def _plant(self, deployments: int, replicas: int, budget: str | None) -> None:
        others = [f"node-{n}" for n in range(1, NODES + 1) if f"node-{n}" != NODE]
        self._run("cordon", *others)
        self._run("create", "namespace", "bench")
        things = [thing for n in range(deployments) for thing in _objects(f"web-{n}", replicas, budget)]
        self._run("apply", "-n", "bench", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": things}))
        self._until(lambda: self._running() >= deployments * replicas)
        if budget:
            path = "jsonpath={range .items[*]}{.status.disruptionsAllowed} {end}"
            self._until(lambda: [int(n) > 0 for n in self._run("get", "pdb", "-n", "bench", "-o", path).split()] == [True] * deployments)
        self._run("uncordon", *others)
        time.sleep(3)

    def _clear(self) -> None:
        self._run("delete", "deployments,pdb", "--all", "-n", "bench")
        self._run("delete", "pods", "--all", "-n", "bench", "--grace-period=0", "--force", "--wait=false")
        self._run("delete", "namespace", "bench")
        self._run("uncordon", NODE)
        self._run("annotate", "node", NODE, "remediator.dev/cordoned-by-")

    def _running(self) -> int:
        path = 'jsonpath={range .items[?(@.status.phase=="Running")]}{.metadata.name} {end}'
        return len(self._run("get", "pods", "-n", "bench", f"--field-selector=spec.nodeName={NODE}", "-o", path).split())

    def _run(self, *args: str, stdin: str | None = None) -> str:
        done = subprocess.run([*self._kubectl, *args], input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr}")
        return done.stdout

    def _until(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not look():
            if time.monotonic() > deadline:
                raise RuntimeError("the pods were not ready in time")
            time.sleep(0.5)


def _emptied(run: dict[str, Any], step: dict[str, Any]) -> float:
    """Seconds from the request to the last pod's end, as the run's own record has it."""
    times = next(evidence["data"] for evidence in step["evidence"] if evidence["name"] == "times")
    return (datetime.fromisoformat(times["emptied"]) - datetime.fromisoformat(run["started_at"])).total_seconds()


def _objects(name: str, replicas: int, budget: str | None) -> Iterator[dict[str, Any]]:
    labels = {"app": name}
    pod = {"containers": [{"name": "c", "image": "example.test/c:1"}], "terminationGracePeriodSeconds": 10}
    template = {"metadata": {"labels": labels, "annotations": STOP}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    if budget:
        spec = {"maxUnavailable": budget, "selector": {"matchLabels": labels}}
        yield {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}
