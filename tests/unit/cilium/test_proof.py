from __future__ import annotations

import msgspec

from remediator.cilium import proof
from remediator.kube.records import CiliumEndpoint, Node, Pod


def pod(uid, *, ready=True, restarts=0):
    status = {"conditions": [{"type": "Ready", "status": str(ready)}], "containerStatuses": [{"name": "c", "restartCount": restarts}]}
    return msgspec.convert({"metadata": {"name": f"cilium-{uid}", "uid": uid}, "status": status}, Pod)


def test_after_a_pod_of_a_new_uid_is_ready():
    assert proof.new_pod([pod("new")], "old") == ""
    assert "no new pod" in proof.new_pod([pod("old")], "old")
    assert "not ready" in proof.new_pod([pod("new", ready=False)], "old")
    assert "not ready" in proof.new_pod([pod("new"), pod("newer")], "old"), "two successors are none that can be judged"


def test_after_it_stays_without_a_restart():
    assert proof.failed_again(pod("a", restarts=2), pod("a", restarts=2)) == ""
    assert "crash_looping" in proof.failed_again(pod("a", restarts=1), pod("a"))
    assert "was replaced by cilium-b" in proof.failed_again(pod("b"), pod("a"))


def test_after_the_taint_is_gone():
    taints = [{"key": "node.cilium.io/agent-not-ready", "effect": "NoSchedule"}]
    tainted = msgspec.convert({"metadata": {"name": "node-3"}, "spec": {"taints": taints}}, Node)
    assert "still carries" in proof.taint_gone(tainted)
    other = msgspec.convert({"metadata": {"name": "node-3"}, "spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}}, Node)
    assert proof.taint_gone(other) == ""


def test_after_the_cilium_node_is_there():
    assert proof.cilium_node(object(), "node-3") == ""
    assert "node-3" in proof.cilium_node(None, "node-3")


def endpoint(node, state):
    return msgspec.convert({"metadata": {"name": "x"}, "status": {"state": state, "networking": {"node": node}}}, CiliumEndpoint)


def test_after_every_endpoint_of_the_node_is_ready():
    found = [endpoint("10.0.0.3", "ready"), endpoint("10.0.0.3", "regenerating"), endpoint("10.0.0.1", "invalid")]
    assert proof.endpoints(found, ["10.0.0.3", "fd00::3"]) == "1 of 2 endpoints are not ready (regenerating)"
    assert proof.endpoints(found[:1], ["10.0.0.3"]) == ""
    assert proof.endpoints([endpoint("fd00::3", "")], ["10.0.0.3", "fd00::3"]) == "1 of 1 endpoints are not ready (without state)"
    assert proof.endpoints([], ["10.0.0.3"]) == ""
