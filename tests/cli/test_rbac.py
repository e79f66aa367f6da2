from __future__ import annotations

import json

import pytest
import yaml

PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: mine, summary: a test}
ladder:
- name: only
  steps:
  - agent: {action: cilium.restart_agent, exec: true}
verify: {query: up == 1, within: 5m}
"""


@pytest.fixture
def playbook(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(PLAYBOOK)
    return str(path)


def test_yaml_is_what_kubectl_takes_and_says_who_needs_it(call, playbook):
    text = call("rbac", playbook, "-o", "yaml", "--account", "ops/healer").stdout
    found = {(d["kind"], d["metadata"].get("namespace")): d for d in yaml.safe_load_all(text)}
    kinds = [("ClusterRole", None), ("ClusterRoleBinding", None)]
    kinds += [(kind, where) for where in ("kube-node-lease", "kube-system") for kind in ("Role", "RoleBinding")]
    assert list(found) == kinds
    assert {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]} in found["Role", "kube-system"]["rules"]
    assert {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]} in found["Role", "kube-system"]["rules"]
    for (kind, _), thing in found.items():
        if kind.endswith("Binding"):
            assert thing["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind.removesuffix("Binding"), "name": "healer"}
            assert thing["subjects"] == [{"kind": "ServiceAccount", "name": "healer", "namespace": "ops"}]
    lines = text.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith(("- {apiGroups", "- apiGroups"))]
    assert rules
    assert all(lines[number - 1].startswith("# ") for number in rules), "each rule says who needs it"
    assert lines[lines.index('- {apiGroups: [""], resources: [pods], verbs: [get, delete]}') - 1] == "# action cilium.restart_agent"


def test_other_forms_say_the_same(call, playbook):
    items = json.loads(call("rbac", playbook, "-o", "json").stdout)["items"]
    told = {
        "namespace": "kube-system",
        "group": "",
        "resources": ["pods"],
        "verbs": ["get", "delete"],
        "needed_by": ["action cilium.restart_agent"],
    }
    assert told in items
    table = call("rbac", playbook).stdout
    assert "NEEDED BY" in table
    assert len(table.splitlines()) == len(items) + 1


def test_cilium_is_where_the_settings_say(call, playbook, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        f"apiVersion: remediator.dev/v1\nkind: Settings\nserver: {{listen: 127.0.0.1:0, insecure: true}}\n"
        f"cilium: {{namespace: cilium}}\nplaybooks: [{playbook}]\n"
    )
    text = call("rbac", "--config", str(settings), "-o", "yaml").stdout
    assert {d["metadata"].get("namespace") for d in yaml.safe_load_all(text)} == {None, "kube-node-lease", "cilium"}


def test_leases_of_medik8s_come_apart(call, playbook):
    role, binding = yaml.safe_load_all(call("rbac", playbook, "--medik8s", "-o", "yaml").stdout)
    assert (role["kind"], role["metadata"]["namespace"], binding["kind"]) == ("Role", "medik8s-leases", "RoleBinding")


def test_an_account_needs_namespace_and_name(call, playbook):
    result = call("rbac", playbook, "--account", "healer")
    assert result.exit_code == 2
    assert "NAMESPACE/NAME" in result.stderr


def test_cluster_is_asked_only_where_the_settings_say_where_it_is(call, playbook):
    result = call("check", playbook, "--cluster")
    assert result.exit_code == 2
    assert "--config" in result.stderr
