from __future__ import annotations

import pytest

from remediator.actions import Cilium
from remediator.cluster.model import Cluster, Node, Own, Pod
from remediator.gates import Unread
from remediator.gates.self import Settings
from remediator.model import Target, evolve
from remediator.reasons import Reason


def pod(app, node, **fields):
    return Pod(name=f"{app}-{node}".lower(), namespace="kube-system", node=node, app=app, **fields)


def cluster(*needed, api="", **broken):
    nodes = tuple(Node(name=f"node-{n}", addresses=(f"10.0.0.{n}",), **broken.get(f"node_{n}", {})) for n in range(1, 6))
    return Cluster(nodes=nodes, needed=needed, api=api)


def own(node="", pod=""):
    return Own(node=node, namespace="remediator" if pod else "", pod=pod)


@pytest.fixture
def says(judge, case, snapshot):
    def verdict(shape, mine=None, target=case.target, **fields):
        facts = snapshot(cluster=shape, **({"own": mine} if mine is not None else {}))
        return judge("self", evolve(case, target=target, **fields), facts)

    return verdict


def test_the_node_of_the_daemon(says):
    verdict = says(cluster(), own("node-3"))
    assert verdict.reason is Reason.SELF
    assert verdict.detail == "this daemon runs on node-3"
    assert says(cluster(), own("node-4")).allowed


def test_the_pod_of_the_daemon(says):
    mine, other = (Target(kind="Pod", namespace="remediator", name=name) for name in ("remediator-0", "remediator-1"))
    assert says(cluster(), own("node-3", "remediator-0"), mine).detail == "the target is this daemon's own pod"
    assert says(cluster(), own("node-3", "remediator-0"), other).allowed


def test_a_pod_of_the_same_name_is_no_node(says):
    assert says(cluster(), own("node-3"), Target(kind="Pod", namespace="x", name="node-3")).allowed


def test_outside_of_the_cluster_there_is_no_such_node(says):
    verdict = says(cluster(), own())
    assert (verdict.allowed, verdict.detail) == (True, "this daemon runs on no node of the cluster, or NODE_NAME does not say")


def test_the_node_by_which_the_daemon_reaches_the_api_server(says):
    verdict = says(cluster(api="10.0.0.3"))
    assert verdict.reason is Reason.SELF
    assert verdict.detail == "this daemon reaches the API server at 10.0.0.3, which is that node"
    assert says(cluster(api="10.0.0.4")).allowed
    assert says(cluster(api="10.96.0.1")).allowed, "the address of a service is on no node"


@pytest.mark.parametrize(("setting", "allowed"), [("allow", True), ("refuse", False)])
def test_a_playbook_may_accept_it(says, setting, allowed):
    settings = {"self": Settings.model_validate(setting)}
    assert says(cluster(), own("node-3"), settings=settings).allowed is allowed
    assert says(cluster(pod("CoreDNS", "node-3")), settings=settings).allowed is allowed


def test_what_disturbs_nothing_may_go_there(says):
    assert says(cluster(), own("node-3"), disruptive=False).allowed


@pytest.mark.parametrize("app", ["CoreDNS", "Prometheus", "Alertmanager", "API server"])
def test_the_last_of_what_everybody_needs(says, app):
    verdict = says(cluster(pod(app, "node-3")))
    assert verdict.reason is Reason.SELF
    assert verdict.detail == f"the last ready {app} runs there"
    assert says(cluster(pod(app, "node-3"), pod(app, "node-4"))).allowed
    assert says(cluster(pod(app, "node-4"))).allowed


def test_another_that_does_not_work_is_none(says):
    here = pod("CoreDNS", "node-3")
    assert not says(cluster(here, pod("CoreDNS", "node-4", ready=False))).allowed
    assert not says(cluster(here, pod("CoreDNS", "node-4"), node_4={"ready": "Unknown"})).allowed
    assert not says(cluster(here, evolve(here, name="second"))).allowed, "both are on the target"


def test_one_that_is_broken_already_has_nothing_to_lose(says):
    assert says(cluster(pod("CoreDNS", "node-3", ready=False))).allowed


def test_it_says_how_many_there_are_elsewhere(says):
    shape = cluster(pod("CoreDNS", "node-3"), pod("CoreDNS", "node-4"), pod("Prometheus", "node-5"))
    assert says(shape, own("node-1")).detail == "this daemon runs on node-1; 1 of CoreDNS ready elsewhere; 1 of Prometheus ready elsewhere"


def test_what_cannot_be_read_refuses(says):
    assert says(Unread(detail="no")).reason is Reason.UNREADABLE
    assert says(cluster(), Unread(detail="no")).reason is Reason.UNREADABLE


async def test_the_downward_api_says_where_the_daemon_runs(stage, monkeypatch):
    """As deploy/ sets it: an alert about the daemon's own node restarts nothing there."""
    monkeypatch.setenv("NODE_NAME", "node-3")
    stage.world.cilium = Cilium(health_port=0)  # else the daemon looks whom it reaches in a network that is simulated
    done = await stage.step("cilium.restart_agent", node="node-3")
    assert (str(done.end), done.reason) == ("refused", Reason.SELF)
    assert stage.writes() == []
    elsewhere = await stage.world.journal.run(done.run.id)
    assert {v.gate: v.detail for v in elsewhere.gates}["self"].startswith("this daemon runs on node-3")
