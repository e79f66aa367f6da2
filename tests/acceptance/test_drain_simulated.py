"""``drain-node`` and ``return-node`` from the command line against the simulated cluster, in processes of their own: runs everywhere."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest

pytestmark = pytest.mark.timeout(240)

NODE = "node-3"
RATE = 20


class Field:
    """The simulated cluster with a Deployment behind a budget on one node."""

    def __init__(self, simulation):
        self.simulation = simulation

    def pods(self):
        path = f"/api/v1/namespaces/apps/pods?fieldSelector=spec.nodeName%3D{NODE}"
        return [p for p in self.simulation.call("GET", path)["items"] if p["metadata"]["labels"].get("app") == "web"]

    def node(self):
        return self.simulation.call("GET", f"/api/v1/nodes/{NODE}")

    def patch(self, name, body):
        headers = {"Content-Type": "application/merge-patch+json"}
        request = Request(f"{self.simulation.url}/api/v1/nodes/{name}", json.dumps(body).encode(), headers, method="PATCH")
        urlopen(request, timeout=20).close()

    def plant(self, replicas, **budget):
        others = [f"node-{n}" for n in range(1, 6) if f"node-{n}" != NODE]
        for name in others:
            self.patch(name, {"spec": {"unschedulable": True}})
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
        self.simulation.call("POST", "/apis/apps/v1/namespaces/apps/deployments", deployment)
        pdb = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"selector": {"matchLabels": labels}, **budget},
        }
        self.simulation.call("POST", "/apis/policy/v1/namespaces/apps/poddisruptionbudgets", pdb)
        self.until(lambda: len([p for p in self.pods() if p["status"]["phase"] == "Running"]) == replicas)
        for name in others:
            self.patch(name, {"spec": {"unschedulable": None}})

    def until(self, look, seconds=60):
        import time

        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, "it never came about"
            time.sleep(0.1)


@pytest.fixture
def field(simulation_process):
    return Field(simulation_process(rate=RATE))


@pytest.fixture
def keeper(field, daemon):
    return daemon(**field.simulation.settings, modes={"*": "auto"})


def drain(keeper, *more):
    return keeper.cli("run", "drain-node", "--target", f"Node/{NODE}", "--reason", "test", *more)


def left(keeper):
    return keeper.get("/api/v1/changes?left_behind=true")["items"]


@pytest.mark.long
def test_drained_and_returned(keeper, field):
    field.plant(4, maxUnavailable=1)
    before = field.node()["spec"]
    done = drain(keeper, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert field.pods() == []
    told = done.stdout + done.stderr
    plan, first = told.index("at most 1 at a time"), told.index("evict Pod/apps/web")
    assert plan < first, "the plan is printed before anything happens"
    (cordon,) = left(keeper)
    assert cordon["state"] == "applied"
    back = keeper.cli("run", "return-node", "--target", f"Node/{NODE}", "--reason", "test", "--wait")
    assert back.returncode == 0, back.stdout + back.stderr
    field.until(lambda: field.node()["spec"] == before)
    assert left(keeper) == [], "nothing of the drain is left, whichever run put it back"


@pytest.mark.long
def test_a_sick_node_is_not_returned(keeper, field):
    assert drain(keeper, "--wait").returncode == 0
    field.simulation.call("POST", f"/sim/kubelets/{NODE}/stop")
    field.until(lambda: any(c["type"] == "Ready" and c["status"] == "Unknown" for c in field.node()["status"]["conditions"]))
    back = keeper.cli("run", "return-node", "--target", f"Node/{NODE}", "--reason", "test", "--wait")
    assert back.returncode != 0
    assert "agent_not_ready" in back.stdout + back.stderr
    assert field.node()["spec"]["unschedulable"] is True


def test_a_dry_run_changes_nothing_and_says_the_plan(keeper, field):
    field.plant(3, maxUnavailable=1)
    done = drain(keeper, "--dry-run", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "at most 1 at a time" in done.stdout + done.stderr
    assert len(field.pods()) == 3
    assert "unschedulable" not in field.node()["spec"]
    assert left(keeper) == []


def test_6_4_a_budget_that_never_yields_fails_in_time_and_says_which(keeper, field):
    field.plant(3, maxUnavailable=1)
    field.simulation.call("POST", "/sim/budgets/apps/web/hold")
    done = drain(keeper, "--set", "timeout=8s", "--wait")
    assert done.returncode == 1, done.stdout + done.stderr
    run = keeper.run_that_ended()
    assert (run["state"], run["reason"]) == ("failed", "pdb")
    why = keeper.why(run["id"])
    assert "apps/web (maxUnavailable 1" in why
    assert "The disruption budget web needs" in why
    assert "uncordoned" in why
    assert "unschedulable" not in field.node()["spec"]
    assert len(field.pods()) == 3
    assert left(keeper) == []


@pytest.mark.long
def test_a_cancelled_drain_stops_and_puts_its_cordon_back(keeper, field):
    field.plant(3, maxUnavailable=1)
    field.simulation.call("POST", "/sim/budgets/apps/web/hold")
    assert drain(keeper).returncode == 0
    run = keeper.wait_for("a run", lambda: keeper.get("/api/v1/runs")["items"])[0]["id"]
    field.until(lambda: field.node()["spec"].get("unschedulable"))
    assert keeper.cli("runs", "cancel", run, "--reason", "not now").returncode == 0
    ended = keeper.run_that_ended()
    assert (ended["state"], ended["reason"]) == ("cancelled", "cancelled_by")
    assert "unschedulable" not in field.node()["spec"]
    assert len(field.pods()) == 3
    assert left(keeper) == []


def test_how_it_stands_is_told_to_whoever_watches_the_run(keeper, field):
    """The plan, each 429, and the pods that are left, with what holds them up and what that budget allows, before the end."""
    field.plant(3, maxUnavailable=1)
    field.simulation.call("POST", "/sim/budgets/apps/web/hold")
    assert drain(keeper, "--set", "timeout=10s").returncode == 0
    run = keeper.wait_for("a run", lambda: keeper.get("/api/v1/runs")["items"])[0]["id"]
    watched = keeper.cli("runs", "watch", run)
    told = watched.stdout + watched.stderr
    order = ["plan: apps/web", "evict Pod/apps/web", "429 TooManyRequests", "pods left: 3 blocked_by_pdb", "failed after"]
    places = [told.find(words) for words in order]
    assert places == sorted(places), told
    assert -1 not in places, told
    assert "blocked_by_pdb: apps/web (maxUnavailable 1, allows" in told[: places[-1]]


@pytest.mark.long
def test_a_gate_that_turns_red_stops_it_and_the_cordon_goes_back(keeper, field):
    field.plant(3, maxUnavailable=1)
    field.simulation.call("POST", "/sim/budgets/apps/web/hold")
    assert drain(keeper).returncode == 0
    field.until(lambda: field.node()["spec"].get("unschedulable"))
    field.patch(NODE, {"metadata": {"annotations": {"remediator.dev/protected": "true"}}})
    ended = keeper.run_that_ended()
    assert (ended["state"], ended["reason"]) == ("failed", "protected"), ended["detail"]
    assert "unschedulable" not in field.node()["spec"]
    assert len(field.pods()) == 3
    assert left(keeper) == []


DRAIN_ON_ALERT = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: drain-on-alert}
when:
  alerts: ['alertname="NodeSlow"']
  target: {kind: Node}
mode: auto
gates: {cooldown: 1s}
ladder:
- name: drain
  steps:
  - drain: {action: node.drain, timeout: 10m}
verify:
  kube: {kind: Node, fields: "metadata.name=${target.name}"}
  holds: size(objects) == 1
  within: 1m
  hold: 1s
on_resolved: undo
"""


def test_an_alert_that_resolves_mid_way_stops_the_drain_and_the_cordon_goes_back(field, daemon):
    """As an alert brings it, with a real webhook: pods that went stay gone, the others stay, the node takes pods again."""
    keeper = daemon(playbooks=[DRAIN_ON_ALERT], **field.simulation.settings)
    field.plant(3, maxUnavailable=1)
    field.simulation.call("POST", "/sim/budgets/apps/web/hold")
    hook = {"url": f"{keeper.url}/api/v1/alerts", "token": "webhook-token-of-the-test", "group_wait": "1s", "group_interval": "5s"}
    field.simulation.call("POST", "/sim/receivers", hook)
    labels = {"alertname": "NodeSlow", "node": NODE}

    def post(**more):
        field.simulation.call("POST", "/alertmanager/api/v2/alerts", [{"labels": labels, "annotations": {}, **more}])

    began = field.simulation.call("GET", "/sim/clock")["now"]
    post(startsAt=began)
    field.until(lambda: field.node()["spec"].get("unschedulable"))
    keeper.wait_for("the cordon's record", lambda: ("Node", "applied") in [(c["resource"]["kind"], c["state"]) for c in left(keeper)])
    post(startsAt=began, endsAt=field.simulation.call("GET", "/sim/clock")["now"])
    ended = keeper.run_that_ended()
    assert (ended["state"], ended["reason"]) == ("cancelled", "resolved_meanwhile"), ended["detail"]
    assert "unschedulable" not in field.node()["spec"]
    assert "remediator.dev/cordoned-by" not in field.node()["metadata"].get("annotations", {})
    assert len(field.pods()) == 3
    assert left(keeper) == []
    assert ended["undoing_at"] is not None
    why = keeper.why(ended["id"])
    assert "The alert resolved before the run was through." in why
    assert "uncordoned" in why
    (episode,) = keeper.wait_for("the end of the episode", lambda: resolved(keeper))
    assert episode["run"] == ended["id"]


def resolved(keeper):
    return [episode for episode in keeper.get("/api/v1/alerts?all=true")["items"] if episode["resolved_at"]]
