"""What a test leaves behind on the control plane of the session is seen and named, and what it may leave is not."""

from __future__ import annotations

import pytest
from plugins.leftovers import READY, WATCHED, left_behind

NODE = {"labels": {}, "annotations": {}, "spec": {}, "ready": ["True"]}
BEFORE = {"Node/node-4": NODE, "Namespace/default": {}, "Agents/node-4": READY, "DaemonSet/cilium": {"updateStrategy": "RollingUpdate"}}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("Node/node-4", {**NODE, "ready": ["Unknown"]}, "Node/node-4: ready was ['True'], is ['Unknown']"),
        ("Node/node-4", None, "Node/node-4 is gone"),
        ("Node/node-9", NODE, f"Node/node-9 was not there before: {NODE}"),
        ("Agents/node-4", {"state": "not ready"}, "Agents/node-4: state was ready, is not ready"),
        ("Agents/node-4", None, "Agents/node-4 is gone"),
        ("Agents/node-9", READY, f"Agents/node-9 was not there before: {READY}"),
        ("Namespace/mine", {}, "Namespace/mine was not there before"),
        ("DaemonSet/cilium", {"updateStrategy": "OnDelete"}, "DaemonSet/cilium: updateStrategy was RollingUpdate, is OnDelete"),
    ],
)
def test_a_difference_is_named(key, value, words):
    after = {name: shape for name, shape in {**BEFORE, key: value}.items() if shape is not None}
    assert left_behind(BEFORE, after) == [words]


def test_agents_may_come_up():
    bare = {key: shape for key, shape in BEFORE.items() if key not in ("Agents/node-4", "DaemonSet/cilium")}
    assert left_behind(bare, BEFORE) == []
    assert left_behind({**BEFORE, "Agents/node-4": {"state": "ending and not ready"}}, BEFORE) == []
    assert left_behind({**BEFORE, "Agents/node-9": {"state": "ending"}}, BEFORE) == []


LEASE = """\
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: left, namespace: kube-system}
"""
CILIUM_NODE = """\
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: left}
spec: {}
"""


@pytest.mark.controlplane
def test_each_kind_of_mess_is_seen_on_a_real_one_and_when_it_is_gone(control_plane, pytestconfig):
    watched = pytestconfig.stash[WATCHED]
    before = watched.things()
    assert {f"Node/node-{number}" for number in range(1, 6)} < before.keys()
    control_plane.kubectl("cordon", "node-5")
    control_plane.kubectl("create", "namespace", "left")
    control_plane.kubectl("apply", "-f", "-", stdin=f"{LEASE}---\n{CILIUM_NODE}")
    after = control_plane.wait_for("the taint", lambda: _tainted(watched))
    told = left_behind(before, after)
    assert [words.partition(" ")[0] for words in told] == ["Lease/kube-system/left", "Namespace/left", "Node/node-5:", "ciliumnodes/left"]
    assert "'unschedulable': True" in told[2]
    control_plane.kubectl("uncordon", "node-5")
    control_plane.kubectl("delete", "namespace", "left", "--wait=false")
    control_plane.kubectl("delete", "lease/left", "ciliumnode/left", "-n", "kube-system")
    assert watched.since(before) == []


def _tainted(watched):
    found = watched.things()
    if found["Node/node-5"]["spec"].get("taints"):
        return found
    watched.forget()
    return None
