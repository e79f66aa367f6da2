"""Cordon and uncordon on the real API server: one patch, ours alone to lift, and nothing left when it is undone."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

CORDON = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: hold}
ladder:
- name: cordon
  steps:
  - cordon: {action: node.cordon}
verify:
  kube: {kind: Node, fields: 'metadata.name=${target.name}'}
  holds: size(objects) == 1 && has(objects[0].spec.unschedulable) && objects[0].spec.unschedulable
  within: 1m
  hold: 0s
"""


@pytest.fixture
def keeper(control_plane, daemon):
    return daemon(playbooks=[CORDON], kubernetes={"kubeconfig": str(control_plane.remediator)})


def shape(node):
    return {
        "labels": node["metadata"]["labels"],
        "annotations": {k: v for k, v in node["metadata"].get("annotations", {}).items() if "remediator" in k},
        "spec": node["spec"],
    }


def test_cordon_verify_undo_leaves_the_node_as_it_was(keeper, control_plane):
    before = shape(control_plane.get("node", "node-5"))
    assert keeper.cli("run", "hold", "--target", "Node/node-5", "--wait", "--reason", "test").returncode == 0
    cordoned = control_plane.wait_for("the taint", lambda: _tainted(control_plane.get("node", "node-5")))
    run = keeper.run_that_ended()
    assert json.loads(cordoned["metadata"]["annotations"]["remediator.dev/cordoned-by"])["run"] == run["id"]
    assert run["state"] == "healed"
    (left,) = json.loads(keeper.cli("changes", "list", "-o", "json").stdout)["items"]
    assert (left["run"], left["state"]) == (run["id"], "applied")

    assert keeper.cli("runs", "undo", run["id"]).returncode == 0
    control_plane.wait_for("the node as it was", lambda: shape(control_plane.get("node", "node-5")) == before)
    keeper.wait_for("nothing left", lambda: not keeper.get("/api/v1/changes?left_behind=true")["items"])


def test_somebody_elses_cordon_is_left_alone(keeper, control_plane):
    control_plane.kubectl("cordon", "node-4")
    try:
        before = len(control_plane.writes())
        assert keeper.cli("run", "hold", "--target", "Node/node-4", "--wait").returncode == 0
        run = keeper.run_that_ended()
        assert "somebody else" in run["steps"][0]["outcome"]
        assert len(control_plane.writes()) == before
    finally:
        control_plane.kubectl("uncordon", "node-4")


def _tainted(node):
    return node if any(t["key"] == "node.kubernetes.io/unschedulable" for t in node["spec"].get("taints", ())) else None
