"""``egress.move_gateway`` on the simulated cluster: never two gateways, none that is dead, and exactly back."""

from __future__ import annotations

import pytest

from remediator.actions.egress import MOVED_BY
from remediator.kube import kinds
from remediator.model import ChangeState
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

ACTION = "egress.move_gateway"
GATEWAY = {"egress-node": "true"}


@pytest.fixture
def rate():
    """Slow enough that a busy machine is still in time."""
    return 30


async def label(stage, node, **labels):
    await stage.world.kube.patch(kinds.NODE, node, {"metadata": {"labels": labels}}, type="merge")
    await stage.until(lambda: all(copy(stage, node).get(key) == value for key, value in labels.items()))


def copy(stage, node):
    return stage.cluster.get("CiliumNode", node)["metadata"]["labels"]


def policy(name="egress", **gateway):
    spec = {"selectors": [{"podSelector": {}}], "destinationCIDRs": ["0.0.0.0/0"]}
    spec["egressGateway"] = {"nodeSelector": {"matchLabels": GATEWAY}, **gateway}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumEgressGatewayPolicy", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def laid_out(stage):
    """node-3 is the gateway, node-4 and node-5 stand by."""
    stage.cluster.create(policy())
    await label(stage, "node-3", **GATEWAY)
    for node in ("node-4", "node-5"):
        await label(stage, node, **{"remediator.dev/egress-standby": "true"})
    return len(stage.writes())


async def step(stage, **more):
    """A run that does not stand in the way of the next one."""
    done = await stage.step(ACTION, **more)
    await stage.over(done.run)
    return done


def gateways(stage):
    return [
        {name for name in stage.cluster.node_names() if GATEWAY.items() <= labels(name).items()}
        for labels in (lambda name: stage.cluster.get("Node", name)["metadata"]["labels"], lambda name: copy(stage, name))
    ]


def watched(stage):
    """The largest set of gateways that agents ever saw."""
    seen = []
    stage.cluster.store.subscribe(lambda _: seen.append(len(gateways(stage)[1])))
    return seen


def down(stage, node="node-3"):
    stage.cluster.kill_agent(node)
    return stage.until(lambda: not ready(stage, node))


def ready(stage, node):
    conditions = stage.cluster.agent_pod(node)["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def back(stage, node="node-3"):
    pod = stage.cluster.agent_pod(node)["metadata"]
    await stage.world.kube.delete(kinds.POD, pod["name"], "kube-system", uid=pod["uid"])
    await stage.until(lambda: (new := stage.cluster.agent_pod(node)) and new["metadata"]["uid"] != pod["uid"] and ready(stage, node))


async def test_a_dead_gateway_moves_and_comes_back_once_its_node_is(stage, laid_out):
    await down(stage)
    most = watched(stage)
    done = await stage.step(ACTION, lasting="10m")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert gateways(stage) == [{"node-4"}, {"node-4"}]
    assert max(most) == 1
    too_early = await undo(stage.world, done.run)
    assert (len(too_early.refused), too_early.undone) == (3, ())
    assert gateways(stage) == [{"node-4"}, {"node-4"}]
    await back(stage)
    assert len((await undo(stage.world, await stage.world.journal.run(done.run.id))).undone) == 3
    await stage.until(lambda: gateways(stage) == [{"node-3"}, {"node-3"}])
    assert max(most) == 1
    for node in ("node-3", "node-4"):
        assert MOVED_BY not in stage.cluster.get("Node", node)["metadata"].get("annotations", {})


async def test_a_planned_move_leaves_the_copy_to_the_agent(stage, laid_out):
    done = await stage.step(ACTION, lasting="10m", planned=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert [change.resource.key for change in done.run.steps[0].changes] == ["Node/node-3", "Node/node-4"]
    assert gateways(stage) == [{"node-4"}, {"node-4"}]


async def test_a_dry_run_changes_nothing(stage, laid_out):
    done = await stage.step(ACTION, dry_run=True)
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "would move the egress gateway from node-3 to node-4")
    assert gateways(stage) == [{"node-3"}, {"node-3"}]


async def test_what_cannot_be_moved_safely_is_refused(stage, laid_out):
    assert (await step(stage, node="node-2")).reason is Reason.TARGET_MISSING
    assert "egress-standby=none" in (await step(stage, standby="egress-standby=none")).detail
    await label(stage, "node-5", **GATEWAY)
    done = await step(stage)
    assert (done.reason, "node-5 is selected too" in done.detail) == (Reason.TARGET_AMBIGUOUS, True)
    assert len(stage.writes()) == laid_out + 1


@pytest.mark.parametrize(
    "gateway",
    [
        {"egressIP": "10.25.150.200"},
        {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "node-3"}}},
        {"nodeSelector": {"matchLabels": GATEWAY, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}},
    ],
)
async def test_a_policy_that_means_one_node_or_one_address_is_refused(stage, laid_out, gateway):
    stage.cluster.create(policy("other", **gateway))
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_AMBIGUOUS)
    assert len(stage.writes()) == laid_out


async def test_a_standby_that_is_not_ready_or_cordoned_is_passed_over(stage, laid_out):
    stage.wide()
    await down(stage, "node-4")
    done = await stage.step(ACTION, lasting="10m", planned=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert gateways(stage)[0] == {"node-5"}


async def test_undo_leaves_what_somebody_relabelled_since(stage, laid_out):
    done = await stage.step(ACTION, lasting="10m", planned=True)
    await label(stage, "node-4", **{"egress-node": "theirs"})
    told = await undo(stage.world, done.run)
    states = {one.resource.name: one.state for one in (await stage.world.journal.run(done.run.id)).steps[0].changes if not one.undoes}
    assert states["node-4"] is ChangeState.FOREIGN
    assert told.foreign
