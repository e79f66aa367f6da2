"""Cilium agents that fail, and what stands in the way of restarting them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.alerting.symptoms import AGENT_TAINTED
from remediator.sim.happenings import agent_hangs, agent_recovers, operator_gone, timeline
from remediator.sim.looks import agents_work
from remediator.sim.scenarios.base import ANYTHING, Act, May, MustNot, Scenario, Truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.sim.simulation import Simulation

NODE = "node-3"
_TARGET = f"Node/{NODE}"
_ALERT, _PLAYBOOK = "CiliumAgentDown", "cilium-agent-down"
_RESTART = May(Act.RESTART_AGENT, _TARGET, most=1)
_HOUR = timedelta(hours=1)


def _flaps(times: int) -> list[tuple[int, Callable[[Simulation], object]]]:
    """Down for 50 seconds, up for 70."""
    begins = range(0, times * 120, 120)
    return [(at + more, what(NODE)) for at in begins for more, what in ((0, agent_hangs), (50, agent_recovers))]


SCENARIOS = (
    Scenario(
        name="agent-crash-looping",
        summary="A Cilium agent crashes again and again, and so does every new one",
        broken=f"The Cilium agent on {NODE} crashes as soon as it has started, because its configuration is broken.",
        truth=Truth(
            target=_TARGET,
            cause="What the agent crashes on is on the node and survives its pod.",
            cure="A person reads its log; another restart hides the cause. To withdraw the node's routes is fine.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            may=(May(Act.WITHDRAW, _TARGET), May(Act.CORDON, _TARGET)),
            healable=False,
            says=("crash_looping",),
        ),
        play=timeline((0, agent_hangs(NODE, "crash_loop"))),
        lasts=timedelta(minutes=15),
        healed=agents_work(NODE),
    ),
    Scenario(
        name="agent-flapping",
        summary="The alert about a Cilium agent flaps for twenty minutes, whatever is done about it",
        broken=f"The readiness probe of the agent on {NODE} fails for 50 seconds every two minutes.",
        truth=Truth(
            target=_TARGET,
            cause="A probe that times out under load; a new agent does not change that.",
            cure="At most one restart; then leave it alone and tell a person.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            may=(_RESTART,),
            healable=False,
        ),
        play=timeline(*_flaps(10)),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="agent-two-alerts",
        summary="Two alerts name the same node for the same reason",
        broken=f"The Cilium agent on {NODE} hangs; one alert is about the agent, the other about the taint that follows.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked.",
            cure="Replace the agent's pod once, not once for each alert.",
            alerts=(_ALERT, AGENT_TAINTED.name),
            playbook=_PLAYBOOK,
            may=(_RESTART,),
        ),
        rules=(AGENT_TAINTED,),
        play=timeline((0, agent_hangs(NODE))),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="agents-common-cause",
        summary="Four of ten agents hang within a minute: one cause, and not four",
        broken="An upgrade of the hosts removes Cilium's rules, and the agents of node-2, 3, 5 and 8 hang one after the other.",
        truth=Truth(
            target="",
            cause="Something that all nodes have in common.",
            cure="Hold and call a person; restarts one by one would not help and hide what happened.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            must_not=(ANYTHING,),
            healable=False,
            says=("disturbance_budget",),
        ),
        nodes=10,
        play=timeline(*((at, agent_hangs(node)) for at, node in ((0, "node-2"), (5, NODE), (10, "node-5"), (15, "node-8")))),
        healed=agents_work("node-2", NODE, "node-5", "node-8"),
        demo=False,
    ),
    Scenario(
        name="agent-own-node",
        summary="The agent under the daemon itself hangs",
        broken=f"The Cilium agent on {NODE} hangs, and the daemon runs there.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked.",
            cure="Somebody else does it: a person, or another replica that runs elsewhere.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            must_not=(MustNot(None, _TARGET, "the daemon would cut off its own network"),),
            healable=False,
            says=("self",),
        ),
        own_node=NODE,
        settings={"cilium": {"health_port": 0}},  # the addresses of simulated nodes lead nowhere
        play=timeline((0, agent_hangs(NODE))),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="agent-without-operator",
        summary="An agent hangs while the Cilium operator is gone",
        broken=f"The Cilium operator was scaled to zero, and the agent on {NODE} hangs.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked, and nobody gives a new agent its node.",
            cure="The operator first; a new agent would wait for it.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            must_not=(MustNot(Act.RESTART_AGENT, "*", "the new agent would not come up"),),
            healable=False,
            says=("operator_down",),
        ),
        play=timeline((0, operator_gone()), (30, agent_hangs(NODE))),
        breaks=timedelta(seconds=30),
        lasts=timedelta(minutes=15),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="clock-leaps-forward",
        summary="The daemon's clock leaps forward by an hour in the middle of a restart, and back ten minutes later",
        broken=f"The Cilium agent on {NODE} hangs, and the clock of the daemon's node is wrong by an hour for ten minutes.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked; the time server of another node is wrong.",
            cure="Replace the agent's pod once, whatever the clock says.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            may=(_RESTART,),
        ),
        play=timeline((0, agent_hangs(NODE))),
        healed=agents_work(NODE),
        clock_is_off=((timedelta(seconds=75), _HOUR), (timedelta(seconds=675), timedelta(0))),
        demo=False,
    ),
    Scenario(
        name="clock-leaps-back",
        summary="The daemon's clock leaps back by an hour in the middle of a restart",
        broken=f"The Cilium agent on {NODE} hangs, and the clock of the daemon's node is set back by an hour for ten minutes.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked; the time server of another node is wrong.",
            cure="Replace the agent's pod once, whatever the clock says.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            may=(_RESTART,),
        ),
        play=timeline((0, agent_hangs(NODE))),
        healed=agents_work(NODE),
        clock_is_off=((timedelta(seconds=75), -_HOUR), (timedelta(seconds=675), timedelta(0))),
        demo=False,
    ),
)
