"""Latency and loss between nodes, where a new agent does not help, where nobody is to blame, and where it ends by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.alerting.rules import pair_latency
from remediator.sim.alerting.symptoms import LATENCY_WARNING, LOSS
from remediator.sim.happenings import also, as_soon_as, cordoned, slow_node, timeline
from remediator.sim.looks import all_of, announces, emptied, intact, neither
from remediator.sim.objects import dig
from remediator.sim.scenarios.base import ANYTHING, Act, May, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.happenings import Happening
    from remediator.sim.simulation import Simulation

NODE = "node-3"
_TARGET = f"Node/{NODE}"
_AN_HOUR = timedelta(hours=1)
_PAIRS = pair_latency()
_OUT_OF_SERVICE = (
    May(Act.RESTART_AGENT, _TARGET, most=1),
    May(Act.WITHDRAW, _TARGET, most=1),
    May(Act.CORDON, _TARGET, most=1),
    May(Act.EVICT, _TARGET),
)


def _lossy(node: str, loss: float) -> Happening:
    return lambda sim: sim.cluster.network.degrade_node(node, loss=loss)


def _mends(sim: Simulation) -> None:
    sim.cluster.network.heal()


def _prober_lies(node: str) -> Happening:
    """What the node measures itself is wrong, what others measure of it is fine."""

    def happen(sim: Simulation) -> None:
        for other in sim.cluster.node_names():
            if other != node:
                sim.cluster.network.degrade_pair(node, other, latency=0.040)

    return happen


def _schedulable(sim: Simulation) -> bool:
    return not dig(sim.cluster.get("Node", NODE), "spec.unschedulable")


SCENARIOS = (
    Scenario(
        name="lossy-nic",
        summary="The network card of a node loses packets, whatever the agent does",
        broken=f"The network card of {NODE} loses 5 % of all packets.",
        truth=Truth(
            target=_TARGET,
            cause="A bad network card.",
            cure="One restart may be tried; then take the node out of service and call a person.",
            alerts=(LOSS.name,),
            playbook="node-packet-loss",
            may=_OUT_OF_SERVICE,
        ),
        rules=(LOSS,),
        play=timeline((0, _lossy(NODE, 0.05))),
        lasts=_AN_HOUR,
        healed=all_of(emptied(NODE), neither(announces(NODE))),
        demo=False,
    ),
    Scenario(
        name="slow-node-for-good",
        summary="One node is slow to all others, and a new agent does not help",
        broken=f"A bad cable makes whatever goes from or to {NODE} take 40 ms longer.",
        truth=Truth(
            target=_TARGET,
            cause="The node's only cable.",
            cure="One restart may be tried; then take the node out of service and call a person.",
            alerts=("NodeLatencyCritical",),
            playbook="node-latency",
            may=_OUT_OF_SERVICE,
        ),
        play=timeline((0, slow_node(NODE))),
        lasts=_AN_HOUR,
        healed=all_of(emptied(NODE), neither(announces(NODE))),
        demo=False,
    ),
    Scenario(
        name="resolved-in-mid-drain",
        summary="A slow node is well again while it is being drained",
        broken=f"{NODE} is slow, a new agent does not help, and somebody replaces the cable as soon as it is cordoned.",
        truth=Truth(
            target=_TARGET,
            cause="The node's only cable, until it is replaced.",
            cure="Stop, and give the node its routes and its work back.",
            alerts=("NodeLatencyCritical",),
            playbook="node-latency",
            may=_OUT_OF_SERVICE,
        ),
        play=timeline((0, also(slow_node(NODE), as_soon_as(cordoned(NODE), _mends)))),
        lasts=_AN_HOUR,
        healed=all_of(intact, announces(NODE), _schedulable),
        demo=False,
    ),
    Scenario(
        name="slow-node-a-little",
        summary="One node is a little slow: enough for a warning, not for an action",
        broken=f"Whatever goes from or to {NODE} takes 8 ms longer.",
        truth=Truth(
            target="",
            cause="Load.",
            cure="Keep the evidence and touch nothing.",
            alerts=(LATENCY_WARNING.name,),
            playbook="node-latency-warning",
            must_not=(ANYTHING,),
            healable=False,
        ),
        rules=(LATENCY_WARNING,),
        play=timeline((0, slow_node(NODE, 0.008))),
        lasts=timedelta(minutes=15),
        healed=intact,
        demo=False,
    ),
    Scenario(
        name="prober-lies",
        summary="One node measures that all others are slow, and they see nothing of it",
        broken="The prober on node-2 is starved of CPU, so everybody looks slow from there.",
        truth=Truth(
            target="",
            cause="The measurement, not the network.",
            cure="Touch no node: an alert names each of the four others.",
            alerts=(_PAIRS.name,),
            playbook="node-latency",
            must_not=(ANYTHING,),
            healable=False,
            says=("no_culprit",),
        ),
        rules=(_PAIRS,),
        play=timeline((0, _prober_lies("node-2"))),
        lasts=timedelta(minutes=15),
        healed=intact,
        demo=False,
    ),
    Scenario(
        name="two-slow-nodes",
        summary="Two nodes are slow at the same time",
        broken="Whatever goes from or to node-2 or node-6 takes 40 ms longer.",
        truth=Truth(
            target="",
            cause="Something that both have in common.",
            cure="Hold and call a person: two at once are seldom two faults.",
            alerts=(_PAIRS.name,),
            playbook="node-latency",
            must_not=(ANYTHING,),
            healable=False,
            says=("no_culprit",),
        ),
        nodes=8,
        rules=(_PAIRS,),
        play=timeline((0, also(slow_node("node-2"), slow_node("node-6")))),
        lasts=timedelta(minutes=15),
        healed=intact,
        demo=False,
    ),
)
