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


ELECTION = """\
apiVersion: remediator.dev/v1
kind: Settings
server: {listen: '127.0.0.1:0', insecure: true}
store: {url: 'postgresql://remediator@db/remediator'}
election: {enabled: true, lease: mine}
"""


def test_the_lease_of_an_election_is_among_them(call, playbook, tmp_path, root):
    """As narrow as Kubernetes allows: nobody can be limited to a name when creating. The component has the same for its own Lease."""
    (tmp_path / "settings.yaml").write_text(ELECTION)
    text = call("rbac", playbook, "--config", str(tmp_path / "settings.yaml"), "-o", "yaml").stdout
    (role,) = [d for d in yaml.safe_load_all(text) if d["kind"] == "Role" and d["metadata"]["namespace"] == "remediator"]
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    named = {**lease, "resourceNames": ["mine"], "verbs": ["get", "patch"]}
    assert sorted(role["rules"], key=str) == sorted([{**lease, "verbs": ["create"]}, named], key=str)
    shipped = (root / "deploy/kustomize/components/postgres/rbac.yaml").read_text().replace("[remediator]", "[mine]")
    assert next(yaml.safe_load_all(shipped))["rules"] == [{**lease, "verbs": ["create"]}, named]
    elsewhere = ELECTION.replace("lease: mine", "namespace: ops")
    (tmp_path / "settings.yaml").write_text(elsewhere)
    assert "leases (remediator)" in call("rbac", playbook, "--config", str(tmp_path / "settings.yaml")).stdout
    (tmp_path / "settings.yaml").write_text(ELECTION.replace("enabled: true", "enabled: false"))
    assert "election of a leader" not in call("rbac", playbook, "--config", str(tmp_path / "settings.yaml")).stdout


def test_other_forms_say_the_same(call, playbook):
    items = json.loads(call("rbac", playbook, "-o", "json").stdout)["items"]
    told = {
        "namespace": "kube-system",
        "group": "",
        "resources": ["pods"],
        "verbs": ["get", "delete"],
        "needed_by": ["action cilium.restart_agent"],
        "names": [],
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


def test_under_a_name_of_their_own_they_stand_beside_those_that_are_installed(call, playbook):
    ours, theirs = (
        list(yaml.safe_load_all(call("rbac", playbook, "-o", "yaml", *flags).stdout)) for flags in ((), ("--name", "mine.extra"))
    )
    assert {thing["metadata"]["name"] for thing in theirs} == {"mine.extra"}
    for one, other in zip(ours, theirs, strict=True):
        assert (one.get("rules"), one.get("subjects")) == (other.get("rules"), other.get("subjects"))
        assert "roleRef" not in other or other["roleRef"]["name"] == "mine.extra"
    refused = call("rbac", playbook, "--name", "a}: {b", "-o", "yaml")
    assert refused.exit_code == 2
    assert '--name: "a}: {b" is no name of an object' in refused.stderr


def test_the_word_shipped_is_the_playbooks_that_come_with_the_program(call, playbook):
    plain = call("rbac", "-o", "json").stdout
    assert call("rbac", "shipped", "-o", "json").stdout == plain
    both = json.loads(call("rbac", "shipped", playbook, "-o", "json").stdout)["items"]
    assert len(both) == len(json.loads(plain)["items"]) + 1, "pods/exec of the one that is mine"
