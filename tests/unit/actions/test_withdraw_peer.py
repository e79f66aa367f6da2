"""``bgp.withdraw_peer`` on the simulated cluster: one router loses its routes, keeps its sessions, and gets them back."""

from __future__ import annotations

import json

import pytest

from remediator.actions.bgp_peer import NONE
from remediator.bgp.objects import MARK
from remediator.kube import kinds
from remediator.model import ChangeState
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

ACTION = "bgp.withdraw_peer"
TOR1, TOR2 = "10.25.150.1", "10.25.150.2"


@pytest.fixture
def rate():
    """Slow enough that a busy machine is still in time."""
    return 30


def step(stage, **more):
    return stage.step(ACTION, **{"lasting": "15m", **more})


def config(stage, name="peer-tor1"):
    found = stage.cluster.get("CiliumBGPPeerConfig", name)
    return found["spec"], found["metadata"].get("annotations", {})


async def by_hand(stage, kind, name, body):
    await stage.world.kube.patch(kind, name, body, type="merge")


async def test_the_routes_go_and_the_sessions_stay(stage):
    done = await step(stage, peer_config="peer-tor1")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert stage.cluster.bgp.table(TOR1) == {}
    assert len(stage.cluster.bgp.table(TOR2)) == 2
    assert all(h.up for node in stage.cluster.node_names() for h in stage.cluster.bgp.heard_from(node))
    spec, annotations = config(stage)
    assert spec["families"][0]["advertisements"] == NONE
    assert json.loads(annotations[MARK])["previous"] == {"0": {"matchLabels": {"advertise": "bgp"}}}
    assert [verb for verb, _ in stage.writes()] == ["patch"]


async def test_undo_puts_the_selectors_back_and_waits_for_the_routes(stage):
    before, table = config(stage), stage.cluster.bgp.table(TOR1)
    done = await step(stage, peer_config="peer-tor1")
    undone = await undo(stage.world, done.run)
    assert undone.undone == ("CiliumBGPPeerConfig/peer-tor1 announces again",)
    assert config(stage) == before
    assert stage.cluster.bgp.table(TOR1) == table


async def test_undo_leaves_what_somebody_changed_since(stage):
    done = await step(stage, peer_config="peer-tor1")
    theirs = [{"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "new"}}}]
    await by_hand(stage, kinds.BGP_PEER_CONFIG, "peer-tor1", {"spec": {"families": theirs}})
    assert (await undo(stage.world, done.run)).foreign
    assert config(stage)[0]["families"] == theirs
    run = await stage.world.journal.run(done.run.id)
    assert run.steps[0].changes[0].state is ChangeState.FOREIGN


async def test_refuses_a_configuration_that_a_second_router_shares(stage):
    spec = stage.cluster.get("CiliumBGPClusterConfig", "cilium-bgp")["spec"]
    spec["bgpInstances"][0]["peers"][1]["peerConfigRef"]["name"] = "peer-tor1"
    await by_hand(stage, kinds.BGP_CLUSTER_CONFIG, "cilium-bgp", {"spec": {"bgpInstances": spec["bgpInstances"]}})
    before = len(stage.writes())
    done = await step(stage, peer_config="peer-tor1")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_AMBIGUOUS)
    assert f"shared by the routers {TOR1}, {TOR2}" in done.detail
    assert len(stage.writes()) == before


async def test_trap_11_refuses_what_argo_cd_would_revert(stage):
    mark = {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "net:cilium.io/CiliumBGPPeerConfig:/peer-tor1"}}}
    await by_hand(stage, kinds.BGP_PEER_CONFIG, "peer-tor1", mark)
    done = await step(stage, peer_config="peer-tor1")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.GITOPS_MANAGED)
    assert "Argo CD manages it" in done.detail


async def test_refuses_where_the_other_router_does_not_hear_enough(stage):
    stage.wide()
    for node in ("node-1", "node-2", "node-3", "node-4"):
        stage.cluster.bgp.cut.add((node, TOR2))
    await stage.until(lambda: len(stage.cluster.bgp.table(TOR2)["10.25.150.223/32"]) == 1)
    await stage.until(lambda: "active" in json.dumps(stage.cluster.get("CiliumBGPNodeConfig", "node-4")))
    done = await step(stage, peer_config="peer-tor1")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.ROUTE_COVERAGE)
    assert stage.writes() == []


async def test_refuses_while_an_agent_that_speaks_is_not_ready(stage):
    stage.wide()
    stage.cluster.kill_agent("node-4")
    done = await step(stage, peer_config="peer-tor1")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.AGENT_NOT_READY)


async def test_says_what_is_missing_where_the_target_is_no_peer_config(stage):
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)
    assert "peer_config is not given" in done.detail


async def test_a_dry_run_tells_the_plan_and_changes_nothing(stage):
    before = config(stage)
    done = await step(stage, dry_run=True, peer_config="peer-tor1")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (plan,) = [e.data for e in done.run.steps[0].evidence if e.name == "plan"]
    assert plan[0].startswith(f"withdraw all routes from {TOR1} on 5 nodes")
    assert config(stage) == before
    assert stage.writes() == []
