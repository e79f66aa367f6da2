"""kill -9 around a BGP shift: between the label and its arrival, around the patch, and while it is put back."""

from __future__ import annotations

import pytest
from recovery.steps import NODE, NODES, changes_of, states_of

ALERT = "UplinkBad"
LABEL, MARK = "remediator.dev/bgp-drain", "remediator.dev/bgp-withdrawn-by"
NODE_CONFIG = f"/ciliumbgpnodeconfigs/{NODE}"
"""The action's look whether the operator has deleted it: the label is set, nothing has arrived yet."""
PLAYBOOK = f"""
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {{name: withdraw, summary: A playbook of the recovery tests}}
when:
  alerts: [alertname="{ALERT}"]
  target: {{kind: Node}}
mode: auto
gates:
  attempts: {{max: 100, per: target, within: 1m}}
on_failure: undo
on_resolved: undo
ladder:
- name: only
  steps: [{{withdraw: {{action: bgp.withdraw_node, timeout: 90s, hold: 200ms}}}}]
verify:
  kube: {{kind: CiliumBGPNodeConfig, fields: "metadata.name=${{target.name}}"}}
  holds: size(objects) == 0
  within: 90s
  hold: 200ms
  every: 100ms
"""


@pytest.fixture
async def rig(make_rig):
    rig = await make_rig()
    (rig.folder / "playbooks" / "withdraw.yaml").write_text(PLAYBOOK)
    await rig.up()
    return rig


@pytest.fixture
async def first(rig):
    """The node as it was."""
    return await shape(rig)


async def shape(rig):
    node = await rig.cluster.node(NODE)
    return node["metadata"]["labels"], node["metadata"].get("annotations") or {}, node["spec"]


async def speaks(rig):
    tables = await rig.cluster.ask("GET", "/sim/routers")
    return any(NODE in nodes for table in tables.values() for nodes in table.values())


async def begun(rig):
    alert = await rig.cluster.fires(ALERT, NODE)
    await rig.deliver(alert)
    return alert


async def patches(rig):
    return sum(call["verb"] == "patch" and call["status"] < 300 and bool(call["audit_id"]) for call in await rig.cluster.calls())


async def withdrawn(rig, alert):
    """Ended healed with one label set, owned by the run, and the routers without routes."""
    run = await rig.ended(alert)
    assert (run["state"], run["reason"]) == ("healed", "healed"), (run["state"], run["detail"])
    labels, annotations, _ = await shape(rig)
    assert labels[LABEL] == "true"
    assert run["id"] in annotations[MARK]
    assert not await speaks(rig)
    assert [change["run"] for change in await rig.left_behind()] == [run["id"]]
    await rig.reckon()
    return run


async def undone(rig, first):
    """The node as it was, its routes back, and nothing left behind."""

    async def look():
        return await rig.left_behind() == []

    await rig.wait_for("nothing is left behind", look)
    assert await shape(rig) == first
    assert await speaks(rig)
    await rig.reckon()


async def test_6_2_between_label_and_convergence(rig, first):
    trap = rig.between.hold("GET", NODE_CONFIG)
    alert = await begun(rig)
    await rig.dies_at(trap)
    assert (await shape(rig))[0][LABEL] == "true"
    await rig.up()
    run = await withdrawn(rig, alert)
    assert states_of(run) == [("patch", "applied")]
    assert await patches(rig) == 1
    await rig.deliver(await rig.cluster.resolve(alert))
    await undone(rig, first)


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
async def test_around_the_label(rig, first, when):
    trap = rig.between.hold("PATCH", NODES, when)
    alert = await begun(rig)
    await rig.dies_at(trap)
    await rig.up()
    run = await withdrawn(rig, alert)
    assert states_of(run) == [*([("patch", "absent")] if when == "before" else []), ("patch", "applied")]
    assert await patches(rig) == 1


@pytest.mark.long
async def test_a_label_that_arrives_late(rig, first):
    """The dead daemon's patch reaches the API after the restarted one looked: its test of the resourceVersion fails there."""
    late = rig.between.hold("PATCH", NODES)
    alert = await begun(rig)
    await rig.until_reached(late)
    await rig.kill()
    await rig.up()
    await withdrawn(rig, alert)
    late.release()
    assert await patches(rig) == 1


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
async def test_while_it_is_put_back(rig, first, when):
    alert = await begun(rig)
    await withdrawn(rig, alert)
    undo = rig.between.hold("PATCH", NODES, when)
    await rig.deliver(await rig.cluster.resolve(alert))
    await rig.dies_at(undo)
    await rig.up()

    async def look():
        return await speaks(rig) and await rig.left_behind() == []

    await rig.wait_for("it speaks again", look)
    await undone(rig, first)
    run = await rig.ended(alert)
    assert changes_of(run)[0]["state"] == "undone"
    assert await patches(rig) == 2
