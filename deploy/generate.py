"""Makes what in this folder is derived from the code. Run by ``make rbac``; a test keeps it current.

The Roles are those of ``remediator rbac`` for the shipped playbooks; Helm's are the same with its names and namespaces in them. The schema
of the chart's values is helm/own.schema.json with the settings' own schema in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAD = "# Made by make rbac (remediator rbac -o yaml) for the shipped playbooks; for yours: remediator rbac MINE --name mine -o yaml\n"


def roles(*flags: str) -> str:
    """The Roles of the shipped playbooks, as YAML."""
    return said("rbac", *flags, str(HERE.parent / "playbooks"), "-o", "yaml")


def said(*arguments: str) -> str:
    """What ``remediator`` prints."""
    command = [sys.executable, "-m", "remediator", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own program


def for_helm(text: str) -> str:
    """``text`` with the release's names instead of ours."""
    return (
        text.replace("name: remediator, namespace: remediator", "name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}")
        .replace("name: remediator", "name: {{ .Release.Name }}")
        .replace("namespace: kube-system", "namespace: {{ .Values.settings.cilium.namespace }}")
    )


def values_schema() -> str:
    """The chart's schema: its own part, and the settings as ``check`` would have them, so that a typo never reaches the cluster."""
    own, settings = json.loads((HERE / "helm" / "own.schema.json").read_text()), json.loads(said("schema", "settings"))
    definitions = settings.pop("definitions")
    head = {"$schema": settings.pop("$schema"), "title": "values of the chart remediator"}
    own["properties"]["settings"] = settings
    return json.dumps({**head, **own, "definitions": definitions}, indent=2) + "\n"


def files() -> dict[Path, str]:
    """Path -> content of everything that is derived."""
    base, medik8s = HEAD + roles(), HEAD + roles("--medik8s")
    templates = HERE / "helm" / "remediator" / "templates"
    return {
        HERE / "kustomize" / "base" / "rbac.yaml": base,
        HERE / "kustomize" / "components" / "medik8s" / "rbac.yaml": medik8s,
        templates / "rbac.yaml": for_helm(base),
        templates.parent / "values.schema.json": values_schema(),
        templates / "medik8s.yaml": "{{- if .Values.medik8s }}\n" + for_helm(medik8s) + "{{- end }}\n",
    }


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content)
