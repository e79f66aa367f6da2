"""The chart renders what kustomize builds, and refuses values that it does not know."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

HELM = os.environ.get("HELM") or shutil.which("helm")
KUBECTL = shutil.which("kubectl", path=os.pathsep.join([os.environ.get("KUBEBUILDER_ASSETS", ""), os.environ["PATH"]]))
EVERYTHING = {
    "createNamespace": True,
    "hostNetwork": True,
    "medik8s": True,
    "exec": True,
    "postgres": {"enabled": True},
    "settings": {"store": {"url": "postgresql://remediator@postgres.databases/remediator"}},
    "gateway": {"enabled": True},
}
COMPONENTS = ("hostnetwork", "medik8s", "exec", "postgres", "gateway")


@pytest.fixture
def deploy(root):
    return root / "deploy"


@pytest.fixture(autouse=True)
def tools(request):
    if request.node.get_closest_marker("helm") and not (HELM and KUBECTL):
        pytest.skip("helm or kubectl is not installed (HELM names the one, KUBEBUILDER_ASSETS the other's folder)")


@pytest.fixture
def valid(deploy):
    """valid(values): whether the chart's schema takes the chart's own values with ``values`` over them; its words if not."""
    schema = json.loads((deploy / "helm" / "remediator" / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    own = yaml.safe_load((deploy / "helm" / "remediator" / "values.yaml").read_text())

    def judge(values):
        found = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(merged(copy.deepcopy(own), values))]
        return "; ".join(found)

    return judge


def merged(under, over):
    for key, value in over.items():
        under[key] = merged(under.get(key, {}), value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
    return under


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def plain(text):
    """(kind, namespace, name) -> the object; what only one of both tools adds is taken away."""
    found = {}
    for document in filter(None, yaml.safe_load_all(text)):
        thing = json.loads(re.sub(r"remediator-settings-[a-z0-9]{10}", "remediator-settings", json.dumps(document)))
        if thing["kind"] == "ConfigMap" and "settings.yaml" in thing["data"]:
            thing["data"] = yaml.safe_load(thing["data"]["settings.yaml"])
        if thing["kind"] == "Deployment":
            thing["spec"]["template"]["metadata"].pop("annotations", None)  # Helm's checksum does what kustomize's hash in the name does
            container = thing["spec"]["template"]["spec"]["containers"][0]
            container.pop("imagePullPolicy", None)
            container["env"].sort(key=lambda one: one["name"])
            container["volumeMounts"].sort(key=lambda one: one["name"])
            thing["spec"]["template"]["spec"]["volumes"].sort(key=lambda one: one["name"])
        key = thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]
        assert key not in found
        found[key] = thing
    return found


def rendered(deploy, tmp_path, *flags, values=None):
    (tmp_path / "values.yaml").write_text(json.dumps(values or {}))
    chart = ("template", "remediator", str(deploy / "helm" / "remediator"), "--namespace", "remediator", "--kube-version", "1.36.0")
    return plain(said(HELM, *chart, *flags, "--values", str(tmp_path / "values.yaml")))


def built(folder):
    return plain(said(KUBECTL, "kustomize", str(folder)))


@pytest.mark.helm
def test_the_chart_renders_what_kustomize_builds(deploy, tmp_path):
    assert rendered(deploy, tmp_path, values={"createNamespace": True}) == built(deploy / "kustomize" / "overlays" / "staging")
    flags = ("--values", str(deploy / "helm" / "values-production.yaml"))
    assert rendered(deploy, tmp_path, *flags, values={"createNamespace": True}) == built(deploy / "kustomize" / "overlays" / "production")
    shutil.copytree(deploy, tmp_path / "deploy")
    mine = tmp_path / "deploy" / "kustomize" / "mine"
    mine.mkdir()
    parts = ", ".join(f"../components/{name}" for name in COMPONENTS)
    own = yaml.safe_load((deploy / "kustomize" / "base" / "settings.yaml").read_text())
    (mine / "settings.yaml").write_text(yaml.safe_dump(merged(own, EVERYTHING["settings"])))
    replaced = "{name: remediator-settings, namespace: remediator, behavior: merge, files: [settings.yaml]}"
    written = f"resources: [../overlays/staging]\ncomponents: [{parts}]\nconfigMapGenerator: [{replaced}]\n"
    (mine / "kustomization.yaml").write_text(written)
    assert rendered(deploy, tmp_path, values=EVERYTHING) == built(mine)


@pytest.mark.helm
def test_helm_refuses_a_typo(deploy, tmp_path):
    (tmp_path / "typo.yaml").write_text("settings: {dry_rum: true}\n")
    command = [HELM, "template", "x", str(deploy / "helm" / "remediator"), "--kube-version", "1.36.0", "-f", str(tmp_path / "typo.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "dry_rum" in done.stderr


@pytest.mark.helm
def test_playbooks_that_the_settings_do_not_name_are_refused(helm):
    for named in ({}, {"settings": {"playbooks": ["shipped"]}}):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            helm({"playbooks": {"mine.yaml": "kind: Playbook"}, **named})
        assert "playbooks needs settings.playbooks: [shipped, /etc/remediator/playbooks]" in caught.value.stderr


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"settings": {"dry_rum": True}}, "dry_rum"),
        ({"settings": {"limits": {"max_disturbd": 1}}}, "max_disturbd"),
        ({"settings": {"mode": "automatic"}}, "automatic"),
        ({"settings": {"prometheus": {"timeout": "10"}}}, "10"),
        ({"gatway": {"enabled": True}}, "gatway"),
        ({"monitoring": {"interval": 30}}, "30"),
        ({"image": {"digest": "latest"}}, "latest"),
        ({"hostNetwork": "yes"}, "yes"),
        ({"playbooks": {"mine": "kind: Playbook"}}, "mine"),
        ({"playbooks": {"..mine.yaml": "kind: Playbook"}}, "..mine.yaml"),
        ({"playbooks": {"mine.yaml": {"kind": "Playbook"}}}, "Playbook"),
        ({"settings": {"playbooks": []}}, "[]"),
    ],
)
def test_a_typo_in_a_values_file_is_refused(valid, values, named):
    assert named in valid(values)


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"settings": {"limits": {"max_disturbed": "30%"}}}])
def test_what_is_right_is_taken(valid, values):
    assert valid(values) == ""


def test_the_first_install_is_a_dry_run(deploy):
    own = yaml.safe_load((deploy / "helm" / "remediator" / "values.yaml").read_text())
    assert own["settings"]["dry_run"] is True
    assert yaml.safe_load((deploy / "kustomize" / "base" / "settings.yaml").read_text()) == own["settings"]
    assert "configMapGenerator" not in (deploy / "kustomize" / "overlays" / "staging" / "kustomization.yaml").read_text()


def test_files_of_the_chart_that_are_links_lead_to_what_is_kept_once(deploy):
    for link in (deploy / "helm" / "remediator" / "files").iterdir():
        assert link.is_symlink()
        assert Path(link.resolve()).is_file()
