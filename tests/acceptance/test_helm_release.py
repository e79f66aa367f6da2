"""What Helm does to the volume with the journal, over the life of a release on a real control plane."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

HELM = os.environ.get("HELM") or shutil.which("helm")
NAMESPACE = "kept"
PLAIN = {"monitoring": {"enabled": False}, "networkPolicy": {"cilium": False}}  # without kinds that need CRDs
DATABASE = {**PLAIN, "postgres": {"enabled": True}, "settings": {"store": {"url": "postgresql://remediator@postgres.databases/remediator"}}}


@pytest.fixture
def release(control_plane, root, tmp_path):
    """release(*words, values=...): what helm says of the release ``kept``."""
    if HELM is None:
        pytest.skip("helm is not installed")
    places = {name: str(tmp_path / name) for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}

    def said(*words, values=None):
        env = {**os.environ, **places}
        flags = ["--namespace", NAMESPACE, "--kubeconfig", str(control_plane.kubeconfig)]
        if values is not None:
            (tmp_path / "values.yaml").write_text(json.dumps(values))
            words = (*words, str(root / "deploy" / "helm" / "remediator"), "--values", str(tmp_path / "values.yaml"))
        done = subprocess.run([HELM, *words, *flags], capture_output=True, text=True, timeout=100, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield said
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
    control_plane.kubectl("delete", "clusterrole,clusterrolebinding", NAMESPACE, "--ignore-not-found")
    for where in ("kube-system", "kube-node-lease"):
        control_plane.kubectl("delete", "role,rolebinding", NAMESPACE, "-n", where, "--ignore-not-found")


@pytest.mark.helm
@pytest.mark.controlplane
@pytest.mark.long
@pytest.mark.timeout(200)
def test_the_volume_with_the_journal_outlives_a_move_to_postgresql_and_the_release(control_plane, release):
    def claim():
        metadata = control_plane.get("persistentvolumeclaim", NAMESPACE, "-n", NAMESPACE)["metadata"]
        assert "deletionTimestamp" not in metadata
        return metadata["uid"]

    release("install", NAMESPACE, "--create-namespace", values=PLAIN)
    first = claim()
    release("upgrade", NAMESPACE, values=DATABASE)
    assert claim() == first
    release("upgrade", NAMESPACE, values=PLAIN)
    assert claim() == first
    release("uninstall", NAMESPACE)
    assert claim() == first
    release("install", NAMESPACE, values=PLAIN)
    assert claim() == first, "the same name takes it up again"
    release("uninstall", NAMESPACE)
