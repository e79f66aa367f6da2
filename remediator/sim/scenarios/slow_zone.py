"""Everything between one zone and the others is slow, and within it all is well: the zone's uplink, and no node of it.

In comes a running simulation; out comes one in which every pair across the border of zone-b is slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.alerting.rules import pair_latency
from remediator.sim.looks import intact
from remediator.sim.scenarios.base import ANYTHING, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.simulation import Simulation

ZONE = "zone-b"


async def _play(sim: Simulation) -> None:
    sim.rules.rules.append(pair_latency())
    sim.cluster.network.degrade_zone(ZONE, latency=0.040)


SCENARIO = Scenario(
    name="slow-zone",
    summary="The uplink of a zone is slow; a person must look, and no node may be touched",
    broken=f"Everything between {ZONE} and the other zones takes 40 ms longer; within it all is well.",
    truth=Truth(
        target="",
        cause="The uplink of one rack is congested.",
        cure="A person looks at the uplink; to restart or drain the zone's nodes would not help.",
        alerts=("CiliumPairLatencyCritical",),
        playbook="node-latency",
        must_not=(ANYTHING,),
        healable=False,
        says=("no_culprit",),
    ),
    play=_play,
    healed=intact,
)
