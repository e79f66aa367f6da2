"""The path between two nodes is slow, and both are fine with everybody else: no node is to blame, so nothing may be done to one.

In comes a running simulation; out comes one in which only the pair node-2 and node-5 is slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.alerting.rules import pair_latency
from remediator.sim.looks import intact
from remediator.sim.scenarios.base import ANYTHING, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.simulation import Simulation

ENDS = ("node-2", "node-5")


async def _play(sim: Simulation) -> None:
    sim.rules.rules.append(pair_latency())
    sim.cluster.network.degrade_link(*ENDS, latency=0.040)


SCENARIO = Scenario(
    name="slow-link",
    summary="The path between two nodes is slow; a person must look, and no node may be touched",
    broken=f"Between {ENDS[0]} and {ENDS[1]} everything takes 40 ms longer; both reach all others as before.",
    truth=Truth(
        target="",
        cause="A bad cable or port on the path between two nodes.",
        cure="A person looks at the path; to restart or drain either end would not help.",
        alerts=("CiliumPairLatencyCritical",),
        playbook="node-latency",
        must_not=(ANYTHING,),
        healable=False,
        says=("no_culprit",),
    ),
    play=_play,
    healed=intact,
)
