"""What acceptance tests stand on: the real control plane with a `cilium` DaemonSet, and playbooks with times short enough to wait for."""

from __future__ import annotations

import pytest

CILIUM = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "cilium", "namespace": "kube-system", "labels": {"k8s-app": "cilium"}},
    "spec": {
        "selector": {"matchLabels": {"k8s-app": "cilium"}},
        "template": {
            "metadata": {"labels": {"k8s-app": "cilium"}},
            "spec": {
                "hostNetwork": True,
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "cilium-agent", "image": "cilium"}],
            },
        },
    },
}


@pytest.fixture(scope="session")
def agents(control_plane):
    """node name -> the uid of its agent pod, once all five are ready."""
    control_plane.apply(CILIUM)

    def look():
        pods = control_plane.get("pods", "-n", "kube-system", "-l", "k8s-app=cilium")["items"]
        ready = {
            p["spec"]["nodeName"]: p["metadata"]["uid"]
            for p in pods
            if "deletionTimestamp" not in p["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", ()))
        }
        return ready if len(ready) == 5 else None

    return lambda: control_plane.wait_for("five ready agents", look)


@pytest.fixture
def agent_down(root):
    """The shipped playbook, with less patience; nothing else changed."""
    text = (root / "playbooks" / "cilium-agent-down.yaml").read_text()
    text = (
        text.replace("hold: 1m", "hold: 3s")
        .replace("cooldown: 30m", "cooldown: 1s")
        .replace("timeout: 30m,", "timeout: 2m, ready_for: 2s,")
    )
    assert text.count("hold: 3s") == 1
    assert "ready_for: 2s" in text
    return text.replace("runbook: docs/playbooks/cilium-agent-down.md", "")


@pytest.fixture
def agent_down_by_kube(agent_down):
    """The same without a question to Prometheus, for tests that run none."""
    text = "\n".join(line for line in agent_down.splitlines() if not line.lstrip().startswith(("- metrics:", "query: up{")))
    assert "prometheus" not in text
    return text


@pytest.fixture
def payload():
    """A webhook body as Alertmanager 0.25 sends it, for one or more alerts."""

    def make(*alerts, status="firing", truncated=0, **fields):
        return {
            "version": "4",
            "groupKey": '{}:{alertname="CiliumAgentDown"}',
            "truncatedAlerts": truncated,
            "status": status,
            "receiver": "remediator",
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.test",
            "alerts": list(alerts),
            **fields,
        }

    return make


@pytest.fixture
def one_alert():
    def make(status="firing", starts_at="2026-01-05T10:00:00Z", fingerprint="", **labels):
        return {
            "status": status,
            "labels": {"alertname": "CiliumAgentDown", "severity": "critical", **labels},
            "annotations": {},
            "startsAt": starts_at,
            "endsAt": "2026-01-05T10:30:00Z" if status == "resolved" else "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": fingerprint,
        }

    return make
