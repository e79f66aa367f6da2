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
import threading
import time
from argparse import ArgumentParser
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from plugins.leftovers import WATCHED, Watched
from standins.api import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parent.parent.parent
_TRIES = 3
ENDING: pytest.StashKey[Callable[[], None]] = pytest.StashKey()
"""Ends the session's control plane before the session does; a test that asks for it then gets a new one."""


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
    _idle: list[Api] = field(default_factory=list)
    """Clients that no thread is using."""

    def __post_init__(self) -> None:
        self._audited = _Audit(self.audit)

    def close(self) -> None:
        """Let go of connections."""
        for api in self._idle:
            api.close()

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
        """``kubectl get ... -o json``. What waits look at again and again is asked for without a process of kubectl's."""
        if (path := _path(*args)) is None:
            return json.loads(self.kubectl("get", *args, "-o", "json"))
        api = self._idle.pop() if self._idle else Api(self.kubeconfig)
        try:
            return dict(api.call("GET", path))
        finally:
            self._idle.append(api)

    def apply(self, *objects: dict[str, Any]) -> None:
        for thing in objects:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(thing))

    def writes(self, user: str = "remediator") -> list[dict[str, Any]]:
        """Every write of ``user`` in the audit log, in order, but for the gates' trials of a Lease, which are dry runs, and for Events."""
        return list(self._audited.of(user))

    def resource_versions(self) -> dict[str, str]:
        """kind/namespace/name -> resourceVersion of everything that a run could touch.

        Leases and the status of nodes are kept fresh by others: leases are left out, and of a node counts what people write. A namespace
        that an earlier test deleted may still be ending; its things would go by themselves meanwhile.
        """
        spaces = partial(self.get, "namespaces")
        self.wait_for("no namespace ends", lambda: all(one["status"]["phase"] == "Active" for one in spaces()["items"]), seconds=60)
        found = self.get("nodes,pods,daemonsets,deployments,configmaps,services,events,controllerrevisions", "--all-namespaces")
        return {f"{o['kind']}/{o['metadata'].get('namespace', '')}/{o['metadata']['name']}": _version(o) for o in found["items"]}

    @contextmanager
    def dead_kubelet(self, node: str) -> Iterator[None]:
        """The node's kubelet is dead from when Kubernetes has found out. Afterwards it lives, and so do its pods.

        Pods of a node that does not answer are marked as not ready. Its kubelet takes that back when it returns; kwok does not.
        """

        def is_ready() -> str:
            return next(one["status"] for one in self.get("node", node)["status"]["conditions"] if one["type"] == "Ready")

        self.kubectl("label", "node", node, "type-")
        try:
            self.wait_for(f"{node} is Unknown", lambda: is_ready() == "Unknown", seconds=120)
            yield
        finally:
            self.kubectl("label", "node", node, "type=kwok")
            self.wait_for(f"{node} is back", lambda: is_ready() == "True", seconds=120)
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


class _Audit:
    """The audit log, of which each line is read once, however often it is asked."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._read = 0
        self._events: dict[str, list[dict[str, Any]]] = {}

    def of(self, user: str) -> list[dict[str, Any]]:
        with self._lock:
            if self._log.exists():
                self._read_on()
            return self._events.get(user, [])

    def _read_on(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + bool(whole)
        for event in map(json.loads, whole.splitlines()):
            if not _is_question(event) and event["objectRef"]["resource"] != "events":
                self._events.setdefault(event["user"]["username"], []).append(event)


_PLACES = {
    "node": ("/api/v1", "nodes"),
    "nodes": ("/api/v1", "nodes"),
    "pods": ("/api/v1", "pods"),
    "serviceaccounts": ("/api/v1", "serviceaccounts"),
    "pdb": ("/apis/policy/v1", "poddisruptionbudgets"),
    "deployment": ("/apis/apps/v1", "deployments"),
    "ds": ("/apis/apps/v1", "daemonsets"),
    "controllerrevisions": ("/apis/apps/v1", "controllerrevisions"),
}
"""Of the kinds that waits look at."""


def _path(kind: str, *args: str) -> str | None:
    """Where the API server has what kubectl's arguments ask for; None where only kubectl knows."""
    if kind not in _PLACES:
        return None
    asking = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    asking.add_argument("name", nargs="?")
    asking.add_argument("-n", dest="namespace", default="default")
    asking.add_argument("-l", dest="labelSelector")
    asking.add_argument("--field-selector", dest="fieldSelector")
    asking.add_argument("-A", "--all-namespaces", action="store_true")
    asked, others = asking.parse_known_args(args)
    if others:
        return None
    group, plural = _PLACES[kind]
    space = "" if plural == "nodes" or asked.all_namespaces else f"/namespaces/{asked.namespace}"
    query = urlencode({key: value for key in ("labelSelector", "fieldSelector") if (value := getattr(asked, key))})
    return f"{group}{space}/{plural}{f'/{asked.name}' if asked.name else ''}{f'?{query}' if query else ''}"


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
        with closing(ControlPlane(said["server"], kubeconfig, home / "kubeconfig.remediator", audit, Path(assets), said["pids"])) as plane:
            yield plane
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def _is_question(event: dict[str, Any]) -> bool:
    """Reviews of our rights, and the write that the gates try as a dry run."""
    resource = event["objectRef"]["resource"]
    return resource.endswith("reviews") or (resource == "leases" and "dryRun=All" in event["requestURI"])


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
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One for all tests of the session; ``leftovers`` sees to it that each of them leaves it as it was."""
    stash = request.config.stash
    with running(tmp_path_factory.mktemp("controlplane"), crds="cilium-1.20.2") as plane, closing(Watched(plane)) as watched:
        stash[WATCHED], stash[ENDING] = watched, partial(request._fixturedef.finish, request)
        yield plane
        del stash[WATCHED], stash[ENDING]
