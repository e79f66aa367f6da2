from __future__ import annotations

import subprocess

import pytest
import yaml

from remediator.actions import actions
from remediator.settings import load_settings


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def granted(root):
    """(namespace or "", group, resource, verb) for every rule of the base."""
    everything = documents(root / "deploy" / "kustomize" / "base" / "rbac.yaml")
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
    read = {("", "", "namespaces", "get"), ("", "coordination.k8s.io", "leases", "get")}
    assert extra == read, "only what gates and target resolution read comes on top"


def test_the_settings_of_the_base_are_valid_and_a_dry_run(root, tmp_path):
    settings = load_settings(root / "deploy" / "kustomize" / "base" / "settings.yaml", env={})
    assert settings.dry_run is True


def test_kustomize_builds_the_base(root):
    try:
        built = subprocess.run(
            ["kubectl", "kustomize", root / "deploy" / "kustomize" / "base"], check=True, capture_output=True, text=True, timeout=60
        ).stdout
    except FileNotFoundError:
        pytest.skip("kubectl is not installed; it builds the kustomize base")
    kinds = sorted(d["kind"] for d in yaml.safe_load_all(built))
    rights = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"]
    assert kinds == sorted([*rights, "ConfigMap", "Deployment", "Namespace", "PersistentVolumeClaim", "Service"])
