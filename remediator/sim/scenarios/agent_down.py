"""A Cilium agent hangs: it runs and answers nothing, until its pod is replaced.

In comes a running simulation; out comes one whose agent on node-3 no longer answers. It raises CiliumAgentDown for that node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.controllers.cilium import AGENT_TAINT
from remediator.sim.objects import dig
from remediator.sim.scenarios.base import Act, May, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.simulation import Simulation

NODE = "node-3"


async def _play(sim: Simulation) -> None:
    sim.cluster.kill_agent(NODE)


def _healed(sim: Simulation) -> bool:
    taints = dig(sim.cluster.get("Node", NODE), "spec.taints") or ()
    return sim.cluster.agent_works(NODE) and all(t.get("key") != AGENT_TAINT for t in taints)


SCENARIO = Scenario(
    name="agent-down",
    summary="A Cilium agent hangs until its pod is replaced",
    broken=f"The Cilium agent on {NODE} hangs: its process runs, its probes fail, nothing restarts it.",
    truth=Truth(
        target=f"Node/{NODE}",
        cause="The agent process is deadlocked.",
        cure="Replace the agent's pod on that node, and no other.",
        alerts=("CiliumAgentDown",),
        playbook="cilium-agent-down",
        may=(May(Act.RESTART_AGENT, f"Node/{NODE}", most=1),),
    ),
    play=_play,
    healed=_healed,
)
