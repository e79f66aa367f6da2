"""kill -9 in the middle of a drain: it goes on where it was, and no pod is evicted twice."""

from __future__ import annotations

from collections import Counter

import pytest
from recovery.steps import CORDONED_BY, NODE

EVICTION = r"/eviction\?field"
"""An eviction that is no dry run."""
PODS = 10


@pytest.fixture
async def rig(make_rig, root):
    """A rig with the shipped playbook, one eviction at a time, and ten pods on the node."""
    rig = await make_rig()
    text = (root / "playbooks" / "drain-node.yaml").read_text()
    for old, new in (
        ("hold: 5s", "hold: 300ms\n  every: 100ms"),
        ("action: node.drain", "action: node.drain\n      parallel: 1\n      quiet_for: 1s"),
    ):
        assert old in text
        text = text.replace(old, new)
    (rig.folder / "playbooks" / "drain.yaml").write_text(text.replace("runbook: docs/playbooks/drain-node.md", ""))
    await plant(rig.cluster)
    await rig.up()
    return rig


async def plant(cluster):
    others = [f"node-{n}" for n in range(1, 6) if f"node-{n}" != NODE]
    for name in others:
        await cluster.patch(f"/nodes/{name}", {"spec": {"unschedulable": True}})
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
    spec = {"replicas": PODS, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    await cluster.ask("POST", "/apis/apps/v1/namespaces/default/deployments", deployment)
    from recovery.rig import until

    async def running():
        return len([p for p in await on_node(cluster) if p["status"]["phase"] == "Running"]) == PODS

    await until("ten pods on the node", running)
    for name in others:
        await cluster.patch(f"/nodes/{name}", {"spec": {"unschedulable": None}})


async def on_node(cluster):
    path = f"/api/v1/namespaces/default/pods?fieldSelector=spec.nodeName%3D{NODE}"
    return (await cluster.ask("GET", path))["items"]


async def evictions(rig):
    """uid -> how many evictions of it took effect, and how many were sent for pods of the namespace default."""
    calls = [c for c in await rig.cluster.calls() if c["path"].endswith("/eviction") and "/default/" in c["path"]]
    uids = [c["body"]["deleteOptions"]["preconditions"]["uid"] for c in calls]
    return Counter(uids), {c["body"]["deleteOptions"]["preconditions"]["uid"] for c in calls if c["status"] == 201}


async def begun(rig):
    """The run that a person asked for."""
    body = {"playbook": "drain-node", "target": f"Node/{NODE}", "reason": "test", "by": "test"}
    async with rig._session.post(f"{rig.url}/api/v1/runs", json=body) as answer:
        assert answer.status == 201, await answer.text()
        return (await answer.json())["id"]


async def ended(rig, run):
    async def look():
        found = await rig.get(f"/api/v1/runs/{run}")
        return found if found["ended_at"] else None

    return await rig.wait_for("the run ended", look)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_fourth_of_ten_evictions(rig, when):
    mine = {p["metadata"]["uid"] for p in await on_node(rig.cluster)}
    traps = [rig.between.hold("POST", rf"/namespaces/default/pods/[^/]*{EVICTION}") for _ in range(3)]
    last = rig.between.hold("POST", rf"/namespaces/default/pods/[^/]*{EVICTION}", when)
    run = await begun(rig)
    for trap in traps:
        await rig.until_reached(trap)
        trap.release()
    await rig.dies_at(last)
    _, done = await evictions(rig)
    assert len(done) == (3 if when == "before" else 4)
    await rig.up()
    over = await ended(rig, run)
    assert (over["state"], over["reason"]) == ("healed", "healed"), over["detail"]
    sent, done = await evictions(rig)
    assert done == mine
    assert set(sent.values()) == {1}, "a pod was evicted twice"
    assert await on_node(rig.cluster) == []
    changes = over["steps"][0]["changes"]
    lost = 1 if when == "before" else 0
    states = Counter((c["verb"], c["state"]) for c in changes if c["resource"].get("namespace", "") in ("", "default"))
    assert states == Counter({("patch", "applied"): 1, ("evict", "kept"): PODS} | ({("evict", "absent"): lost} if lost else {}))
    (left,) = await rig.left_behind()
    assert (left["verb"], left["run"]) == ("patch", run)
    assert over["steps"][0]["attempts"] == 2
    report = await rig.get("/api/v1/journal/verify")
    assert report["ok"], report["problems"]
    await rig.call("POST", f"/api/v1/runs/{run}/undo", {"by": "test", "reason": "over"})

    async def as_it_was():
        node = await rig.cluster.node(NODE)
        return not node["spec"].get("unschedulable") and CORDONED_BY not in (node["metadata"].get("annotations") or {})

    await rig.wait_for("the cordon is lifted", as_it_was)
