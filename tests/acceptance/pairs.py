"""A run that two replicas of the daemon share: one begins it, another one ends it."""

from __future__ import annotations

RESTART = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: restart}
ladder:
- name: restart
  steps:
  - restart: {action: cilium.restart_agent, timeout: 5m, ready_for: 20s}
  - cordon: {action: node.cordon}
verify:
  kube: {kind: Pod, namespace: kube-system, labels: k8s-app=cilium, fields: 'spec.nodeName=${target.name}'}
  holds: size(objects) == 1
  within: 5m
  hold: 1s
"""
REQUEST = {"playbook": "restart", "target": "Node/node-3", "by": "test", "reason": "to see"}


def leads(one):
    one.wait_for("it leads", lambda: one.get("/api/v1/status")["leader"], seconds=90)


def sent(cluster, verb, path):
    calls = cluster.call("GET", "/sim/requests")["items"]
    return [call for call in calls if call["verb"] == verb and path in call["path"] and "dryRun" not in str(call)]


def deletes(cluster):
    return sent(cluster, "delete", "/pods/")


def cordons(cluster):
    return sent(cluster, "patch", "/nodes/node-3")


def holder(cluster):
    return cluster.call("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/remediator")["spec"]["holderIdentity"]


def begin(leader, cluster):
    """A run whose delete has been sent, and whose cordon is still to come."""
    run = leader.call("POST", "/api/v1/runs", REQUEST)["id"]
    leader.wait_for("the delete", lambda: [c for s in leader.get(f"/api/v1/runs/{run}")["steps"] for c in s["changes"]])
    leader.wait_for("it took effect", lambda: len(deletes(cluster)) == 1)
    return run


def reckon(one, cluster, run):
    ended = one.run_that_ended(seconds=180)
    assert (ended["id"], ended["state"]) == (run, "healed"), ended["detail"]
    assert (len(deletes(cluster)), len(cordons(cluster))) == (1, 1), "every call is sent once, whoever sends it"
    assert one.cli("journal", "verify").returncode == 0
