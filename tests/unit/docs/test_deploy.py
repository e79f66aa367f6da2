from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from remediator.actions import Cilium, actions
from remediator.gates import gates
from remediator.playbook import Library
from remediator.rights import needed
from remediator.settings import load_settings


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def granted(root, part="base"):
    """(namespace or "", group, resource, verb) for every rule of the base, or of a component."""
    everything = documents(root / "deploy" / "kustomize" / part / "rbac.yaml")
    return {
        (d["metadata"].get("namespace", ""), group, resource, verb)
        for d in everything
        if d["kind"] in ("ClusterRole", "Role")
        for rule in d["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_what_is_derived_from_the_code_is_current(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "deploy"))
    derived = importlib.import_module("generate").files()
    assert len(derived) == 5
    stale = [str(path.relative_to(root)) for path, content in derived.items() if path.read_text() != content]
    assert not stale, "make rbac"


def test_the_base_grants_what_the_shipped_playbooks_need_and_no_more(root):
    library = Library.load((root / "playbooks",), actions=actions(), gates=gates())
    leases = granted(root, "components/medik8s")
    needs = {(need.namespace, need.group, need.resource, need.verb) for need in needed(library.playbooks, Cilium())}
    assert granted(root) | leases == needs
    assert {right[0] for right in leases} == {"medik8s-leases"}, "that namespace is not in every cluster, so it is granted apart"
    assert {right[0] for right in granted(root)} == {"", "kube-system", "kube-node-lease"}


def test_what_is_optional_is_granted_by_its_component_and_not_by_the_base(root):
    rules = [rule for action in actions().values() for rule in action.optional_rbac.get("exec", ())]
    needed = {("kube-system", group, what, verb) for r in rules for group in r.groups for what in r.resources for verb in r.verbs}
    assert granted(root, "components/exec") == needed == {("kube-system", "", "pods/exec", verb) for verb in ("get", "create")}
    assert not [right for right in granted(root) if right[2] in ("pods/exec", "pods/*", "*")]
    assert "components" not in (root / "deploy" / "kustomize" / "base" / "kustomization.yaml").read_text()
    page = (root / "docs" / "actions.md").read_text()
    assert "deploy/kustomize/components/exec" in page


def test_the_settings_of_the_base_are_valid_and_a_dry_run(root, tmp_path):
    settings = load_settings(root / "deploy" / "kustomize" / "base" / "settings.yaml", env={})
    assert settings.dry_run is True


KINDS = [
    *("ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "Namespace", "NetworkPolicy"),
    *("PersistentVolumeClaim", "PodDisruptionBudget", "Role", "Role", "RoleBinding", "RoleBinding", "Service", "ServiceAccount"),
]


def kustomized(folder):
    """The kinds that kustomize builds from a folder."""
    try:
        kubectl = shutil.which("kubectl", path=os.pathsep.join([os.environ.get("KUBEBUILDER_ASSETS", ""), os.environ["PATH"]]))
        built = subprocess.run([kubectl or "kubectl", "kustomize", folder], check=True, capture_output=True, text=True, timeout=60).stdout
    except FileNotFoundError:
        pytest.skip("kubectl is not installed; it builds the kustomize base")
    return sorted(d["kind"] for d in yaml.safe_load_all(built))


def test_kustomize_builds_the_base(root):
    assert kustomized(root / "deploy" / "kustomize" / "base") == KINDS


def test_kustomize_builds_an_overlay_with_the_right_to_exec(root, tmp_path):
    shutil.copytree(root / "deploy" / "kustomize", tmp_path / "kustomize")
    overlay = tmp_path / "kustomize" / "mine"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("resources: [../base]\ncomponents: [../components/exec]\n")
    assert kustomized(overlay) == sorted([*KINDS, "Role", "RoleBinding"])


def test_the_image_gets_what_the_daemon_needs_and_no_tools(root):
    command = [sys.executable, str(root / "deploy" / "runtime_lock.py"), str(root / "requirements.lock")]
    part = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    names = {line.split("==")[0] for line in part.splitlines() if line[:1].isalpha()}
    assert {"aiohttp", "kubernetes-asyncio", "opentelemetry-sdk", "psycopg", "psycopg-binary", "sqlalchemy"} <= names
    assert not {"pytest", "ruff", "mypy", "hypothesis", "deptry"} & names
    assert part.count("--hash=sha256:") > len(names)


def test_what_alertmanager_is_told_is_the_same_for_the_operator(root):
    plain = yaml.safe_load((root / "deploy" / "alertmanager" / "example.yml").read_text())
    beat, route, people = plain["route"]["routes"]
    (hook,) = next(one for one in plain["receivers"] if one["name"] == "remediator")["webhook_configs"]
    spec = yaml.safe_load((root / "deploy" / "alertmanager" / "alertmanagerconfig.yaml").read_text())["spec"]
    nobody, ours = spec["receivers"]
    (theirs,) = ours["webhookConfigs"]
    assert spec["route"]["groupBy"] == route["group_by"]
    assert {"node", "target_node"} <= set(route["group_by"])
    assert (spec["route"]["groupWait"], spec["route"]["groupInterval"]) == (route["group_wait"], route["group_interval"])
    matchers = [
        ['{name}{matchType}"{value}"'.format(**one) for one in each["matchers"]] for each in (spec["route"], *spec["route"]["routes"])
    ]
    assert matchers == [['kind=~".+"'], beat["matchers"], ['kind="remediator"']]
    assert route["matchers"] == ['kind=~".+"', 'kind!="remediator"'], "the same, where routes cannot be nested so plainly"
    assert (spec["route"]["routes"][0]["repeatInterval"], spec["route"]["routes"][1]["receiver"]) == (beat["repeat_interval"], "nobody")
    assert (nobody, people) == ({"name": "nobody"}, {"receiver": "people"})
    assert (theirs["url"], theirs["sendResolved"], theirs["maxAlerts"]) == (hook["url"], True, 0)
    assert (hook["send_resolved"], hook["max_alerts"]) == (True, 0)
    assert "credentials_file" in hook["http_config"]["authorization"], "a token in a file, not in the configuration"
