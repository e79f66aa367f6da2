from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from remediator.actions import actions
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


def test_the_base_grants_what_the_actions_declare(root):
    have = granted(root)
    needed = {
        ("kube-system" if rule.scope == "cilium.namespace" else "", group, resource, verb)
        for action in actions().values()
        for rule in action.rbac
        for group in rule.groups
        for resource in rule.resources
        for verb in rule.verbs
    }
    assert needed <= have
    extra = have - needed
    leases = {("", "coordination.k8s.io", "leases", verb) for verb in ("get", "create", "patch")}
    assert extra == leases, "only what gates and target resolution read and try comes on top"


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
    *("ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "Namespace"),
    *("PersistentVolumeClaim", "Role", "RoleBinding", "Service", "ServiceAccount"),
]


def kustomized(folder):
    """The kinds that kustomize builds from a folder."""
    try:
        built = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True, timeout=60).stdout
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
