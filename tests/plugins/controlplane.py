"""PYTEST_DONT_REWRITE. A real Kubernetes control plane for tests: etcd, API server, controllers, scheduler; kwok plays the kubelets.

``control_plane`` has the kubeconfig of an admin, one of the user ``remediator``, and the audit log of every write that no controller made.
Tests that use it carry the marker ``controlplane``; they are skipped unless KUBEBUILDER_ASSETS names a folder with the programs
(controller-runtime's convention) and ``up`` is found (REMEDIATOR_CONTROLPLANE, or ../shared/controlplane beside the clone).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plugins.leftovers import WATCHED, Watched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent.parent
_TRIES = 3


@dataclass
class ControlPlane:
    """One running control plane."""

    server: str
    kubeconfig: Path
    """Of an admin: the tests' own hands."""
    remediator: Path
    """Of the user remediator, so that the audit log tells its writes from the tests'."""
    audit: Path
    assets: Path
    pids: dict[str, int]
    """Of its components by name, to let one hang (SIGSTOP) and go on (SIGCONT)."""

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """What kubectl says; it fails the test if kubectl fails."""
        command = [str(self.assets / "kubectl"), f"--kubeconfig={self.kubeconfig}", *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout

    def of(self, user: str) -> Path:
        """The kubeconfig of another user: ``cilium``, for whoever plays its agents."""
        return self.kubeconfig.with_name(f"{self.kubeconfig.name}.{user}")

    def get(self, *args: str) -> dict[str, Any]:
        """``kubectl get ... -o json``"""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        for thing in objects:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(thing))

    def writes(self, user: str = "remediator") -> list[dict[str, Any]]:
        """Every write of ``user`` in the audit log, in order, but for the gates' trials of a Lease, which are dry runs, and for Events."""
        lines = self.audit.read_text().splitlines() if self.audit.exists() else []
        mine = [event for event in map(json.loads, lines) if event["user"]["username"] == user and not _is_question(event)]
        return [event for event in mine if event["objectRef"]["resource"] != "events"]

    def resource_versions(self) -> dict[str, str]:
        """kind/namespace/name -> resourceVersion of everything that a run could touch.

        Leases and the status of nodes are kept fresh by others: leases are left out, and of a node counts what people write.
        """
        found = self.get("nodes,pods,daemonsets,deployments,configmaps,services,events,controllerrevisions", "--all-namespaces")
        return {f"{o['kind']}/{o['metadata'].get('namespace', '')}/{o['metadata']['name']}": _version(o) for o in found["items"]}

    @contextmanager
    def dead_kubelet(self, node: str) -> Iterator[None]:
        """The node's kubelet is dead from when Kubernetes has found out. Afterwards it lives, and so do its pods.

        Pods of a node that does not answer are marked as not ready. Its kubelet takes that back when it returns; kwok does not.
        """
        ready = '{.status.conditions[?(@.type=="Ready")].status}'
        self.kubectl("label", "node", node, "type-")
        try:
            self.wait_for(
                f"{node} is Unknown", lambda: self.kubectl("get", "node", node, "-o", f"jsonpath={ready}") == "Unknown", seconds=120
            )
            yield
        finally:
            self.kubectl("label", "node", node, "type=kwok")
            self.wait_for(f"{node} is back", lambda: self.kubectl("get", "node", node, "-o", f"jsonpath={ready}") == "True", seconds=120)
            yes = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
            for pod in self.get("pods", "--all-namespaces", f"--field-selector=spec.nodeName={node}")["items"]:
                where = (pod["metadata"]["name"], "-n", pod["metadata"]["namespace"])
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]:
                    self.kubectl("patch", "pod", *where, "--subresource=status", "--type=strategic", "-p", yes)

    def wait_for(self, what: str, look: Any, *, seconds: float = 60) -> Any:
        """The first truthy result of ``look``."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
            time.sleep(0.1)
        return found


def _version(thing: dict[str, Any]) -> str:
    metadata = thing["metadata"]
    if thing["kind"] != "Node":
        return str(metadata["resourceVersion"])
    return json.dumps([metadata.get("labels"), metadata.get("annotations"), thing.get("spec")], sort_keys=True)


def _crds(folder: Path) -> Path:
    """Where the CRDs are as their projects released them; laid out when first asked for."""
    if named := os.environ.get("REMEDIATOR_CRDS"):
        return Path(named)
    done = subprocess.run([folder / "crds"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{folder / 'crds'}: {done.stderr}"
    return Path(done.stdout.strip())


@contextmanager
def running(home: Path, *, crds: str, flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """One control plane of five nodes with the users remediator and cilium, its files in ``home``; ``flags`` are more of ``up``'s."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not assets or not (Path(assets) / "kube-apiserver").exists():
        pytest.skip("no real control plane: KUBEBUILDER_ASSETS names no folder with kube-apiserver")
    folder = Path(os.environ.get("REMEDIATOR_CONTROLPLANE") or ROOT.parent / "shared" / "controlplane")
    folder = folder.parent if folder.is_file() else folder
    if not (folder / "up").exists():
        pytest.skip(f"no real control plane: {folder / 'up'} does not exist (REMEDIATOR_CONTROLPLANE names its folder)")
    kubeconfig, audit = home / "kubeconfig", home / "audit.log"
    command = [str(folder / "up"), "--nodes", "5", "--kubeconfig", str(kubeconfig), "--audit", str(audit)]
    command += ["--user", "remediator", "--user", "cilium", "--crds", str(_crds(folder) / crds), *flags]
    process, said = _up(command, home)
    try:
        yield ControlPlane(said["server"], kubeconfig, home / "kubeconfig.remediator", audit, Path(assets), said["pids"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def _is_question(event: dict[str, Any]) -> bool:
    """Reviews of our rights, and the write that the gates try as a dry run."""
    resource = event["objectRef"]["resource"]
    return resource == "selfsubjectaccessreviews" or (resource == "leases" and "dryRun=All" in event["requestURI"])


def _up(command: list[str], home: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """The process, and what it says once all is up. A port that it chose may be somebody else's when it takes it: then again."""
    log = home / "up.log"
    for _ in range(_TRIES):
        with log.open("w") as out:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, text=True, cwd=home)
        assert process.stdout is not None
        if line := process.stdout.readline():
            return process, json.loads(line)
        process.wait(10)
        process.stdout.close()
        if "address already in use" not in log.read_text():
            break
    pytest.fail(f"the control plane did not come up:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    """One for all tests of the session; ``leftovers`` sees to it that each of them leaves it as it was."""
    with running(tmp_path_factory.mktemp("controlplane"), crds="cilium-1.20.2") as plane, closing(Watched(plane)) as watched:
        pytestconfig.stash[WATCHED] = watched
        yield plane
        del pytestconfig.stash[WATCHED]
