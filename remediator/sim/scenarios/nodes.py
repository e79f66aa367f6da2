"""Nodes that die, the last that speaks, the control plane, and partitions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.happenings import agent_hangs, also, control_plane, cut_off, kubelet_dies, label, lossy_uplink, timeline
from remediator.sim.looks import agents_work, announces, ready
from remediator.sim.routing import LABEL
from remediator.sim.scenarios.base import ANYTHING, Act, May, MustNot, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.happenings import Happening

_HALF_A_MINUTE = timedelta(seconds=30)


def _silent(*nodes: str) -> Happening:
    return also(*(label(node, name, None) for node in nodes for name in LABEL))


SCENARIOS = (
    Scenario(
        name="kubelet-dead",
        summary="The kubelet of a node dies",
        broken="node-4's kubelet is dead, so nothing starts or stops there, and its agent counts as not ready.",
        truth=Truth(
            target="Node/node-4",
            cause="The node lost power, or its kubelet is gone.",
            cure="Take it out of BGP, cordon and drain it; to restart its agent is pointless, since nobody would start a new one.",
            alerts=("NodeFailure", "CiliumAgentDown"),
            playbook="node-down",
            may=(May(Act.WITHDRAW, "Node/node-4"), May(Act.CORDON, "Node/node-4"), May(Act.EVICT, "Node/node-4")),
            must_not=(MustNot(Act.RESTART_AGENT, "Node/*", "a pod that is deleted there only hangs"),),
            healable=False,
            says=("agent_not_ready",),
        ),
        play=timeline((0, kubelet_dies("node-4"))),
        healed=ready("node-4"),
        demo=False,
    ),
    Scenario(
        name="last-speaker-dead",
        summary="The only node that announces addresses dies",
        broken="node-4 alone speaks BGP, and its kubelet is dead.",
        truth=Truth(
            target="Node/node-4",
            cause="The node lost power, and nobody else announces its addresses.",
            cure="Cordon it, have its pods replaced and call a person; if it still forwards, to withdraw it would cut off the last path.",
            alerts=("NodeFailure",),
            playbook="node-down",
            may=(May(Act.CORDON, "Node/node-4"), May(Act.EVICT, "Node/node-4")),
            must_not=(MustNot(Act.WITHDRAW, "Node/*", "it is the last path"),),
            healable=False,
        ),
        play=timeline((0, _silent("node-1", "node-2", "node-3", "node-5")), (30, kubelet_dies("node-4"))),
        breaks=_HALF_A_MINUTE,
        lasts=timedelta(minutes=15),
        healed=ready("node-4"),
        demo=False,
    ),
    Scenario(
        name="last-speaker-asked",
        summary="A person wants the only node that announces addresses out of BGP",
        broken="node-3 alone speaks BGP, its uplink loses packets, and a person asks for it to be withdrawn.",
        truth=Truth(
            target="Node/node-3",
            cause="The node's uplink loses packets.",
            cure="Refuse: bad service is better than none. Another speaker first.",
            alerts=(),
            playbook="shift-bgp-away",
            must_not=(ANYTHING,),
            healable=False,
            says=("route_coverage",),
        ),
        play=timeline((0, _silent("node-1", "node-2", "node-4", "node-5")), (30, lossy_uplink("node-3"))),
        breaks=_HALF_A_MINUTE,
        lasts=timedelta(minutes=10),
        healed=lambda sim: "node-3" not in sim.cluster.bgp.lossy and announces("node-3")(sim),
        asks="its uplink loses packets",
        demo=False,
    ),
    Scenario(
        name="control-plane-member-down",
        summary="An agent hangs on a control plane node while another of three is down",
        broken="node-1, 2 and 3 are the control plane; node-2 is dead, and the agent on node-3 hangs.",
        truth=Truth(
            target="Node/node-3",
            cause="The agent process is deadlocked; the quorum hangs on this node.",
            cure="node-2 first; until then nothing on the other two.",
            alerts=("CiliumAgentDown", "NodeFailure"),
            playbook="cilium-agent-down",
            may=(May(Act.CORDON, "Node/node-2"), May(Act.WITHDRAW, "Node/node-2"), May(Act.EVICT, "Node/node-2")),
            must_not=(
                MustNot(None, "Node/node-3", "two of three members would be gone"),
                MustNot(None, "Node/node-1", "it is one of the two that are left"),
            ),
            healable=False,
            says=("quorum",),
        ),
        nodes=10,
        play=timeline((0, also(control_plane("node-1", "node-2", "node-3"), kubelet_dies("node-2"))), (30, agent_hangs("node-3"))),
        breaks=_HALF_A_MINUTE,
        healed=agents_work("node-3"),
        demo=False,
    ),
    Scenario(
        name="control-plane-agent",
        summary="An agent hangs on one of three control plane nodes, and the other two are well",
        broken="node-1, 2 and 3 are the control plane; the agent on node-2 hangs.",
        truth=Truth(
            target="Node/node-2",
            cause="The agent process is deadlocked.",
            cure="Replace the agent's pod: the quorum does not hang on this node.",
            alerts=("CiliumAgentDown",),
            playbook="cilium-agent-down",
            may=(May(Act.RESTART_AGENT, "Node/node-2", most=1),),
        ),
        nodes=7,
        play=timeline((0, control_plane("node-1", "node-2", "node-3")), (30, agent_hangs("node-2"))),
        breaks=_HALF_A_MINUTE,
        healed=agents_work("node-2"),
        demo=False,
    ),
    Scenario(
        name="partition-on-the-large-side",
        summary="Three of eight nodes are cut off, and the daemon is with the five",
        broken="A switch dies, and node-6, 7 and 8 are cut off from the others and from the API server.",
        truth=Truth(
            target="",
            cause="The network is partitioned; the three go on serving on their side.",
            cure="Hold everything and call a person.",
            alerts=("NodeFailure",),
            playbook="network-partition",
            must_not=(ANYTHING,),
            healable=False,
            says=("partition",),
        ),
        nodes=8,
        play=timeline((0, cut_off("node-6", "node-7", "node-8"))),
        healed=ready("node-6", "node-7", "node-8"),
        demo=False,
    ),
    Scenario(
        name="partition-on-the-small-side",
        summary="Three of five nodes are cut off, and the daemon is with the two",
        broken="node-3, 4 and 5 are out of reach; whoever is there thinks the same of the daemon.",
        truth=Truth(
            target="",
            cause="The network is partitioned, and it is us who are on the small side.",
            cure="Hold everything: those that look dead carry the service.",
            alerts=("NodeFailure",),
            playbook="network-partition",
            must_not=(ANYTHING,),
            healable=False,
            says=("partition",),
        ),
        play=timeline((0, cut_off("node-3", "node-4", "node-5"))),
        lasts=timedelta(minutes=15),
        healed=ready("node-3", "node-4", "node-5"),
        demo=False,
    ),
    Scenario(
        name="partition-and-agent",
        summary="Three of eight nodes are cut off, and the agent of a fourth hangs",
        broken="node-6, 7 and 8 are cut off; a minute later the agent on node-3 hangs, on our side.",
        truth=Truth(
            target="Node/node-3",
            cause="The network is partitioned; on node-3 the agent process is deadlocked.",
            cure="Hold until the partition is over: what is left has no room for one more disturbance.",
            alerts=("NodeFailure", "CiliumAgentDown"),
            playbook="cilium-agent-down",
            must_not=(ANYTHING,),
            healable=False,
            says=("partition",),
        ),
        nodes=8,
        play=timeline((0, cut_off("node-6", "node-7", "node-8")), (60, agent_hangs("node-3"))),
        healed=ready("node-6", "node-7", "node-8"),
        demo=False,
    ),
)
