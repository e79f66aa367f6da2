"""What Helm and kustomize make of ``deploy/``: ``helm(values)``, ``kustomize(overlay, files)``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
import yaml

HELM = os.environ.get("HELM") or shutil.which("helm")
KUBECTL = shutil.which("kubectl", path=os.pathsep.join([os.environ.get("KUBEBUILDER_ASSETS", ""), os.environ["PATH"]]))


def _things(*command):
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


@pytest.fixture
def helm(root, tmp_path):
    """helm(values): the objects of the chart with these values. What it refuses is raised, with its words in ``stderr``."""

    def render(values):
        if HELM is None:
            pytest.skip("helm is not installed (HELM names it)")
        (tmp_path / "values.yaml").write_text(json.dumps(values))
        chart = (
            "template",
            "remediator",
            str(root / "deploy" / "helm" / "remediator"),
            "--namespace",
            "remediator",
            "--kube-version",
            "1.36.0",
        )
        return _things(HELM, *chart, "--values", str(tmp_path / "values.yaml"))

    return render


@pytest.fixture
def kustomize(root, tmp_path):
    """kustomize(overlay, files): the objects of an overlay that lies beside a checkout called ``remediator``, with these files in it."""

    def build(overlay, files=None):
        if KUBECTL is None:
            pytest.skip("kubectl is not installed, which builds the overlay (KUBEBUILDER_ASSETS names its folder)")
        if not (tmp_path / "remediator").exists():
            shutil.copytree(root / "deploy", tmp_path / "remediator" / "deploy")
        for name, text in {"kustomization.yaml": yaml.safe_dump(overlay), **(files or {})}.items():
            path = tmp_path / "mine" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return _things(KUBECTL, "kustomize", str(tmp_path / "mine"))

    return build
