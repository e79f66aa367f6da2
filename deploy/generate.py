"""Makes what in this folder is derived from the code: Roles for kustomize and Helm. Run by ``make rbac``; a test keeps them current.

The Roles are those of ``remediator rbac`` for the shipped playbooks. Helm's are the same with its names and namespaces in them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAD = "# Made by make rbac (remediator rbac -o yaml) for the shipped playbooks; for others: remediator rbac MINE -o yaml\n"


def roles(*flags: str) -> str:
    """The Roles of the shipped playbooks, as YAML."""
    command = [sys.executable, "-m", "remediator", "rbac", *flags, str(HERE.parent / "playbooks"), "-o", "yaml"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own program


def for_helm(text: str) -> str:
    """``text`` with the release's names instead of ours."""
    return (
        text.replace("name: remediator, namespace: remediator", "name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}")
        .replace("name: remediator", "name: {{ .Release.Name }}")
        .replace("namespace: kube-system", "namespace: {{ .Values.settings.cilium.namespace }}")
    )


def files() -> dict[Path, str]:
    """Path -> content of everything that is derived."""
    base, medik8s = HEAD + roles(), HEAD + roles("--medik8s")
    templates = HERE / "helm" / "remediator" / "templates"
    return {
        HERE / "kustomize" / "base" / "rbac.yaml": base,
        HERE / "kustomize" / "components" / "medik8s" / "rbac.yaml": medik8s,
        templates / "rbac.yaml": for_helm(base),
        templates / "medik8s.yaml": "{{- if .Values.medik8s }}\n" + for_helm(medik8s) + "{{- end }}\n",
    }


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content)
