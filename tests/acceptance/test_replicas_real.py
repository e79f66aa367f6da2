"""Two daemons on one PostgreSQL database and a real API server: a person has the leader's own node drained, and the other one does it."""

from __future__ import annotations

import json

import pytest
from plugins.ground import NODE

pytestmark = [pytest.mark.controlplane, pytest.mark.postgres, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def replica(control_plane, daemon, postgres_database, monkeypatch):
    """replica("node"): one more, as if it ran there, with the playbooks that it comes with."""

    def start(node):
        monkeypatch.setenv("NODE_NAME", node)
        return daemon(
            store={"url": postgres_database},
            kubernetes={"kubeconfig": str(control_plane.remediator)},
            election={"enabled": True, "namespace": "kube-system"},
        )

    yield start
    control_plane.kubectl("delete", "lease", "remediator", "-n", "kube-system", "--ignore-not-found")


def leads(one):
    one.wait_for("it leads", lambda: one.get("/api/v1/status")["leader"], seconds=90)


def test_the_leaders_own_node_is_drained_by_the_other_one(replica, ground, control_plane):
    ground.plant(ground.deployment("web", 6), ground.pdb("web", maxUnavailable="34%"))
    first = replica(NODE)
    leads(first)
    second = replica("elsewhere")
    second.wait_for("it knows who leads", lambda: second.get("/api/v1/status")["ready_detail"].startswith("standby; "))
    drain = ("run", "drain-node", "--target", f"Node/{NODE}", "--wait", "--reason", "new memory")

    asked = second.cli(*drain)  # of the standby, who asks the leader
    assert asked.returncode != 0
    assert f"Node/{NODE} is left to another replica" in asked.stderr
    assert "ask again" in asked.stderr
    first.wait_for("it ends", lambda: first.program.ended)
    assert len(ground.pods()) == 6
    leads(second)
    done = second.cli(*drain)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "healed" in done.stdout
    assert ground.pods() == {}
    assert control_plane.get("node", NODE)["spec"]["unschedulable"] is True

    first.start()
    first.wait_for("it is a standby", lambda: first.get("/api/v1/status")["ready_detail"].startswith("standby; "))
    back = first.cli("run", "return-node", "--target", f"Node/{NODE}", "--wait", "--reason", "done")
    assert back.returncode == 0, back.stdout + back.stderr
    control_plane.wait_for("a node that takes pods", lambda: not control_plane.get("node", NODE)["spec"].get("unschedulable"))
    entries = [json.loads(line) for line in second.cli("journal", "export").stdout.splitlines()]
    assert [entry["ref"] for entry in entries if entry["kind"] == "hand_over"] == [f"Node/{NODE}"]
    assert second.cli("journal", "verify").returncode == 0
