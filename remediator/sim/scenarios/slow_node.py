"""One node answers everybody slowly, and is answered slowly: every pair with it is bad, and half of the alerts name a healthy node.

In comes a running simulation; out comes one whose node-3 has a datapath that queues packets, until its agent is replaced.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.alerting.rules import pair_latency
from remediator.sim.looks import intact
from remediator.sim.scenarios.base import Act, May, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.simulation import Simulation
    from remediator.sim.store import Change

NODE = "node-3"


async def _play(sim: Simulation) -> None:
    cluster, old = sim.cluster, sim.cluster.agent_pod(NODE)
    uid = old["metadata"]["uid"] if old is not None else ""

    def changed(change: Change) -> None:
        pod = cluster.agent_pod(NODE)
        new = pod is not None and pod["metadata"]["uid"] != uid
        if change.table == ("", "pods") and cluster.is_agent(change.obj) and new and cluster.agent_works(NODE):
            cluster.loop.after(timedelta(seconds=3), cluster.network.restore_node, NODE)

    sim.rules.rules.append(pair_latency())
    cluster.store.subscribe(changed)
    cluster.network.degrade_node(NODE, latency=0.040)


SCENARIO = Scenario(
    name="slow-node",
    summary="One node is slow to all others, and half of the alerts name a healthy one",
    broken=f"Whatever goes from or to {NODE} takes 40 ms longer; each bad pair is an alert, and half of them name another node.",
    truth=Truth(
        target=f"Node/{NODE}",
        cause="The datapath of one node queues packets.",
        cure="Replace the agent's pod on that node, whichever node an alert names.",
        alerts=("CiliumPairLatencyCritical",),
        playbook="node-latency",
        may=(May(Act.RESTART_AGENT, f"Node/{NODE}", most=1),),
    ),
    play=_play,
    healed=intact,
)
