"""A node's uplink loses packets while the node goes on announcing addresses, so part of the clients suffer until it stops.

In comes a running simulation; out comes one whose node-3 has a bad uplink. Routers send traffic there as long as they have routes to it;
the alert ends when they have none. No shipped playbook takes it: a person shifts BGP away.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.alerting.rules import Rule
from remediator.sim.scenarios.base import Act, May, Scenario, Truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.cluster import Cluster
    from remediator.sim.prometheus.server import Prometheus
    from remediator.sim.simulation import Simulation

NODE = "node-3"
ALERT = "UplinkLosesClients"


def _suffering(cluster: Cluster, _prometheus: Prometheus) -> Iterator[dict[str, str]]:
    for node in sorted(cluster.bgp.lossy):
        if any(routes for heard in cluster.bgp.heard_from(node) for routes in heard.routes.values()):
            yield {"node": node}


RULE = Rule(
    ALERT,
    _suffering,
    {"severity": "critical"},
    {"summary": "Clients that are routed to {node} lose packets on its uplink"},
    timedelta(seconds=30),
)


async def _play(sim: Simulation) -> None:
    if RULE not in sim.rules.rules:
        sim.rules.rules.append(RULE)
    sim.cluster.bgp.lossy.add(NODE)


def _healed(sim: Simulation) -> bool:
    return not any(_suffering(sim.cluster, sim.prometheus))


SCENARIO = Scenario(
    name="bgp-shift",
    summary="A node with a bad uplink goes on announcing addresses until BGP is shifted away",
    broken=f"The uplink of {NODE} loses packets, and the routers send a fifth of all clients there.",
    truth=Truth(
        target=f"Node/{NODE}",
        cause="The node's uplink loses packets.",
        cure="Withdraw the node's routes; the other nodes announce the same addresses.",
        alerts=(ALERT,),
        playbook="shift-bgp-away",
        may=(May(Act.WITHDRAW, f"Node/{NODE}", most=1),),
    ),
    play=_play,
    healed=_healed,
    asks="its uplink loses packets",
)
