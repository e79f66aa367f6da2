"""``remediator run drain-node`` and ``return-node`` as a person types them, against the real API server."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from plugins.ground import NODE

pytestmark = [pytest.mark.controlplane, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def keeper(control_plane, daemon):
    """The daemon with the playbooks that it comes with."""
    return daemon(kubernetes={"kubeconfig": str(control_plane.remediator)})


def shape(node):
    annotations = {k: v for k, v in node["metadata"].get("annotations", {}).items() if "remediator" in k}
    return {"labels": node["metadata"]["labels"], "annotations": annotations, "spec": node["spec"]}


def test_drain_and_return_leave_the_node_as_it_was(keeper, ground, control_plane):
    before = shape(control_plane.get("node", NODE))
    ground.plant(ground.deployment("web", 6), ground.pdb("web", maxUnavailable="34%"))
    tried = keeper.cli("run", "drain-node", "--target", f"Node/{NODE}", "--dry-run", "--wait", "--reason", "test")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert len(ground.pods()) == 6
    done = keeper.cli("run", "drain-node", "--target", f"Node/{NODE}", "--wait", "--reason", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "healed" in done.stdout
    assert ground.pods() == {}
    told = done.stderr + done.stdout
    assert f"{ground.namespace}/web" in told, "the plan is printed"
    back = keeper.cli("run", "return-node", "--target", f"Node/{NODE}", "--wait", "--reason", "test")
    assert back.returncode == 0, back.stdout + back.stderr
    control_plane.wait_for("the node as it was", lambda: shape(control_plane.get("node", NODE)) == before)


@pytest.mark.long
def test_6_4_a_budget_that_never_yields_fails_in_time_and_the_cordon_goes_back(keeper, ground, control_plane):
    before = shape(control_plane.get("node", NODE))
    ground.plant(ground.deployment("web", 3), ground.pdb("web", minAvailable=3))
    nowhere = ground.deployment("stuck", 1, labels={"app": "web", "part": "stuck"}, nodeSelector={"kubernetes.io/hostname": "nowhere"})
    control_plane.kubectl("apply", "-n", ground.namespace, "-f", "-", stdin=json.dumps(nowhere))

    def seen():
        return control_plane.get("pdb", "web", "-n", ground.namespace)["status"]["expectedPods"] == 4

    control_plane.wait_for("the budget counts four", seen)
    done = keeper.cli("run", "drain-node", "--target", f"Node/{NODE}", "--set", "timeout=10s", "--wait", "--reason", "test")
    assert done.returncode == 1, done.stdout + done.stderr
    run = keeper.run_that_ended()
    assert (run["state"], run["reason"]) == ("failed", "pdb")
    (step,) = run["steps"]
    took = datetime.fromisoformat(step["ended_at"]) - datetime.fromisoformat(step["started_at"])
    assert timedelta(seconds=10) <= took < timedelta(seconds=45), "its deadline, and a busy machine"
    why = keeper.why(run["id"])
    assert f"{ground.namespace}/web (minAvailable 3, allows 0 now: 3 of 4 healthy, 3 needed)" in why
    assert "uncordoned" in why
    assert len(ground.pods()) == 3
    control_plane.wait_for("the node as it was", lambda: shape(control_plane.get("node", NODE)) == before)
    assert keeper.get("/api/v1/changes?left_behind=true")["items"] == []
