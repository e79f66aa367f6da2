"""What the tests that kill at chosen points share: where a request can be caught, how a run is begun, and what must be true at its end."""

from __future__ import annotations

NODE = "node-3"
AGENTS = r"/pods\?labelSelector=k8s-app(%3D|=)cilium&fieldSelector="
"""The restart's looks at the agent of its node."""
POD = r"/pods/cilium-"
VERIFY = r"/pods\?labelSelector=k8s-app(%3D|=)cilium(%2C|,)k8s-app&fieldSelector="
"""The verification's look at the same, which names the label twice so that it can be told from the restart's."""
NODES = f"/nodes/{NODE}"
CORDONED_BY = "remediator.dev/cordoned-by"


async def hung(rig, name="AgentHung"):
    """The agent hangs and its alert was taken; the alert."""
    await rig.cluster.hang(NODE)
    alert = await rig.cluster.fires(name, NODE)
    await rig.deliver(alert)
    return alert


def changes_of(run):
    return [change for step in run["steps"] for change in step["changes"]]


def states_of(run):
    return [(change["verb"], change["state"]) for change in changes_of(run)]


async def healed(rig, alert, before):
    """The run ended healed, the agent of its node was replaced once and no other; and the reckoning is in order."""
    run = await rig.ended(alert)
    assert (run["state"], run["reason"]) == ("healed", "healed"), (run["state"], run["detail"])
    await replaced_once(rig, before)
    await rig.reckon()
    return run


async def replaced_once(rig, before):
    after = await rig.cluster.whole()
    assert {name for name in before if before[name] != after[name]} == {NODE}
    deleted = [call for call in await rig.cluster.calls() if call["verb"] == "delete" and call["status"] < 300]
    assert [call["body"]["preconditions"]["uid"] for call in deleted] == [before[NODE]]


async def cordon_of(rig):
    """What is left of the cordon on the node: unschedulable, and our annotation."""
    node = await rig.cluster.node(NODE)
    return node["spec"].get("unschedulable", False), CORDONED_BY in (node["metadata"].get("annotations") or {})
