from __future__ import annotations

from datetime import timedelta

from remediator.sim.happenings import (
    agent_hangs,
    as_soon_as,
    cordoned,
    cut_off,
    lossy_uplink,
    people_cordon,
    people_uncordon,
    slow_node,
    timeline,
)
from remediator.sim.looks import agents_work, all_of, announces, emptied, intact, neither, ready


async def test_a_cluster_that_is_whole(sim):
    assert all_of(agents_work("node-1", "node-3"), ready("node-3"), announces("node-3"), intact)(sim)
    assert not emptied("node-3")(sim), "CoreDNS runs there"
    assert neither(emptied("node-3"))(sim)


async def test_each_look_sees_what_is_wrong(sim):
    agent_hangs("node-3")(sim)
    assert (agents_work("node-3")(sim), announces("node-3")(sim), agents_work("node-2")(sim)) == (False, False, True)
    slow_node("node-2")(sim)
    assert not intact(sim)
    cut_off("node-4")(sim)
    await sim.run_for(timedelta(minutes=1))
    assert (ready("node-4")(sim), ready("node-3")(sim)) == (False, True)
    assert not all_of(ready("node-3"), ready("node-4"))(sim)
    assert not neither(ready("node-3"), ready("node-4"))(sim)


async def test_a_node_is_empty_when_only_daemons_are_left(sim):
    for pod in sim.cluster.indexes.pods_on("node-3"):
        if pod["metadata"]["ownerReferences"][0]["kind"] != "DaemonSet":
            sim.cluster.store.remove(sim.cluster.kind("Pod"), pod)
    assert emptied("node-3")(sim)


async def test_what_happens_happens_in_its_time_and_once(sim):
    await timeline(
        (0, as_soon_as(cordoned("node-3"), people_uncordon("node-3"))), (10, people_cordon("node-3")), (20, lossy_uplink("node-2"))
    )(sim)

    def is_cordoned():
        return bool(sim.cluster.get("Node", "node-3")["spec"].get("unschedulable"))

    await sim.run_for(timedelta(seconds=10))
    assert (is_cordoned(), sim.cluster.bgp.lossy) == (True, set())
    await sim.run_for(timedelta(seconds=1))
    assert not is_cordoned()
    await sim.run_for(timedelta(seconds=9))
    assert sim.cluster.bgp.lossy == {"node-2"}
    people_cordon("node-3")(sim)
    await sim.run_for(timedelta(seconds=5))
    assert is_cordoned(), "only the first time"
