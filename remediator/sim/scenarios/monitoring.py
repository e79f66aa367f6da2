"""Signals that lie: dead scrape targets, storms, samples that are too old, a Prometheus that is gone, payloads that were cut."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.sim.alerting.symptoms import SCRAPE_DOWN
from remediator.sim.happenings import agent_hangs, also, slow_node, timeline
from remediator.sim.looks import agents_work
from remediator.sim.scenarios.base import ANYTHING, Act, May, Scenario, Truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.sim.simulation import Simulation

NODE = "node-3"
_TARGET = f"Node/{NODE}"
_PLAYBOOK = "cilium-agent-down"
_BACK = timedelta(minutes=10)


def _unreachable(job: str, node: str, *, back: bool = False) -> Callable[[Simulation], None]:
    """Prometheus cannot scrape a target, or can again."""

    def happen(sim: Simulation) -> None:
        (sim.prometheus.unreachable.discard if back else sim.prometheus.unreachable.add)((job, node))

    return happen


def _scraping(*, on: bool) -> Callable[[Simulation], None]:
    return lambda sim: setattr(sim.prometheus, "scraping", on)


def _answering(*, on: bool) -> Callable[[Simulation], Any]:
    """Prometheus answers 503, or as usual again."""
    if on:
        return lambda sim: sim.cluster.faults.clear()
    return lambda sim: sim.cluster.fail(path="^/prometheus", status=503, count=None)


def _scraped(sim: Simulation) -> bool:
    return not sim.prometheus.unreachable


SCENARIOS = (
    Scenario(
        name="scrape-down",
        summary="Prometheus cannot scrape an agent that is well",
        broken=f"A firewall rule keeps Prometheus from the metrics port of the agent on {NODE}; the agent itself is well.",
        truth=Truth(
            target="",
            cause="The scrape fails, not the agent.",
            cure="Leave the agent alone; somebody looks at the way of the scrape.",
            alerts=(SCRAPE_DOWN.name,),
            playbook=_PLAYBOOK,
            must_not=(ANYTHING,),
            healable=False,
            says=("stale_metric",),
        ),
        rules=(SCRAPE_DOWN,),
        play=timeline((0, _unreachable("cilium-agent", NODE))),
        lasts=timedelta(minutes=15),
        healed=_scraped,
        demo=False,
    ),
    Scenario(
        name="scrape-storm",
        summary="Prometheus loses its own network, and an alert fires for every node",
        broken="Prometheus can scrape nothing any more, so each of 24 agents looks as if it were dead.",
        truth=Truth(
            target="",
            cause="The network of Prometheus itself.",
            cure="Hold everything; the nodes are well.",
            alerts=(SCRAPE_DOWN.name,),
            playbook=_PLAYBOOK,
            must_not=(ANYTHING,),
            healable=False,
            says=("storm",),
        ),
        nodes=24,
        lasts=timedelta(minutes=15),
        rules=(SCRAPE_DOWN,),
        play=timeline((0, _unreachable("*", "*"))),
        healed=_scraped,
        demo=False,
    ),
    Scenario(
        name="metric-gone-stale",
        summary="A node was slow once, the samples stop, and the alert about it arrives late",
        broken=f"{NODE} was slow when Prometheus last took a sample; nobody knows how it is now, and the alert still counts as firing.",
        truth=Truth(
            target="",
            cause="Prometheus takes no samples any more; the node has recovered since.",
            cure="Do nothing on data of three minutes ago.",
            alerts=("NodeLatencyCritical",),
            playbook="node-latency",
            must_not=(ANYTHING,),
            healable=False,
            says=("unreadable",),
        ),
        play=timeline(
            (0, slow_node(NODE)),
            (85, also(_scraping(on=False), lambda sim: sim.cluster.network.heal())),
        ),
        healed=lambda sim: sim.prometheus.scraping,
        receiver={"group_wait": timedelta(minutes=3)},
        lasts=timedelta(minutes=15),
        demo=False,
    ),
    Scenario(
        name="prometheus-gone",
        summary="An agent hangs while Prometheus answers nothing for ten minutes",
        broken=f"The Cilium agent on {NODE} hangs; as soon as that has been reported, Prometheus is down.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked.",
            cure="Wait until Prometheus is back: without it nobody can tell whether it is one node or many. Then replace the agent's pod.",
            alerts=("CiliumAgentDown",),
            playbook=_PLAYBOOK,
            says=("unreadable",),
            may=(May(Act.RESTART_AGENT, _TARGET, most=1, after=_BACK),),
        ),
        play=timeline(
            (0, agent_hangs(NODE)),
            (42, also(_answering(on=False), _scraping(on=False))),
            (600, also(_answering(on=True), _scraping(on=True))),
        ),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="alerts-truncated",
        summary="Alertmanager cuts all alerts but one off its notification",
        broken="Two agents hang; the receiver takes one alert in a payload, so it tells of one and keeps the other back.",
        truth=Truth(
            target="",
            cause="Two agents are deadlocked, and the receiver's max_alerts is 1.",
            cure="Hold: how many nodes are concerned is unknown.",
            alerts=("CiliumAgentDown",),
            playbook=_PLAYBOOK,
            must_not=(ANYTHING,),
            healable=False,
            says=("truncated",),
        ),
        nodes=10,
        receiver={"max_alerts": 1},
        play=timeline((0, also(agent_hangs(NODE), agent_hangs("node-5")))),
        lasts=timedelta(minutes=15),
        healed=agents_work(NODE, "node-5"),
        demo=False,
    ),
)
