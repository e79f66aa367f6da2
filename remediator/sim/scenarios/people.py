"""People and other tools at work: windows, marks, cordons, GitOps, and drains that somebody gets in the way of."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.happenings import (
    agent_hangs,
    also,
    annotate,
    as_soon_as,
    cordoned,
    label,
    labelled,
    lossy_uplink,
    people_cordon,
    people_uncordon,
    timeline,
)
from remediator.sim.looks import agents_work, announces, emptied, neither
from remediator.sim.scenarios.base import ANYTHING, Act, May, MustNot, Scenario, Truth

if TYPE_CHECKING:
    from remediator.sim.simulation import Simulation

NODE = "node-3"
_TARGET = f"Node/{NODE}"
_ALERT, _PLAYBOOK = "CiliumAgentDown", "cilium-agent-down"
_DRAIN = "remediator.dev/bgp-drain"
_OVER = timedelta(minutes=15)
_APP = "ledger"


def _workload(sim: Simulation) -> None:
    """Two or three pods a node, that stop slowly and leave one after the other."""
    labels = {"app": _APP}
    template = {
        "metadata": {"labels": labels, "annotations": {"controlplane/stop-after": "20s"}},
        "spec": {"containers": [{"name": _APP, "image": f"example.test/{_APP}:1"}], "terminationGracePeriodSeconds": 30},
    }
    meta = {"name": _APP, "namespace": "apps"}
    spec = {"replicas": 10, "selector": {"matchLabels": labels}, "template": template}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    sim.cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
    sim.cluster.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": dict(meta), "spec": budget})


SCENARIOS = (
    Scenario(
        name="maintenance-window",
        summary="An agent hangs while people upgrade switches",
        broken=f"The Cilium agent on {NODE} hangs in a maintenance window that goes on for a quarter of an hour.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked, or the switch upgrade makes it look so.",
            cure="Nothing as long as the window is open; then replace the agent's pod, since the alert still fires.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            says=("maintenance",),
            may=(May(Act.RESTART_AGENT, _TARGET, most=1, after=_OVER),),
        ),
        settings={"maintenance": [{"name": "switch upgrade", "since": "2026-01-05T09:00:00Z", "until": "2026-01-05T10:16:00Z"}]},
        play=timeline((0, agent_hangs(NODE))),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="node-paused",
        summary="An agent hangs on a node that a person works on",
        broken=f"Somebody debugs {NODE}, has paused remediator for it, and stops the agent.",
        truth=Truth(
            target=_TARGET,
            cause="A person.",
            cure="Leave the node to the one who paused it.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            must_not=(ANYTHING,),
            healable=False,
            says=("paused",),
        ),
        play=timeline((0, also(annotate(NODE, "remediator.dev/pause", "debugging"), agent_hangs(NODE)))),
        lasts=timedelta(minutes=15),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="upgrade-elsewhere",
        summary="An agent hangs while an admin has two other nodes out of service",
        broken=f"An admin upgrades node-1 and node-2 of five, both cordoned, and the agent on {NODE} hangs.",
        truth=Truth(
            target=_TARGET,
            cause="The agent process is deadlocked.",
            cure="Wait until the admin has given the nodes back; then replace the agent's pod.",
            alerts=(_ALERT,),
            playbook=_PLAYBOOK,
            says=("disturbance_budget",),
            may=(May(Act.RESTART_AGENT, _TARGET, most=1, after=_OVER),),
            must_not=(MustNot(Act.UNCORDON, "*", "the cordons are the admin's"),),
        ),
        play=timeline(
            (0, also(people_cordon("node-1"), people_cordon("node-2"), agent_hangs(NODE))),
            (900, also(people_uncordon("node-1"), people_uncordon("node-2"))),
        ),
        healed=agents_work(NODE),
        demo=False,
    ),
    Scenario(
        name="drain-uncordoned",
        summary="An admin lifts the cordon in the middle of a drain",
        broken=f"A person asks for {NODE} to be drained; a second later an admin, who needs it, uncordons it.",
        truth=Truth(
            target=_TARGET,
            cause="Two people who do not talk to one another.",
            cure="Hands off: the admin was later. Cordon it once, and not again.",
            alerts=(),
            playbook="drain-node",
            may=(May(Act.CORDON, _TARGET, most=1), May(Act.EVICT, _TARGET)),
            healable=False,
            says=("step_failed",),
        ),
        play=timeline((0, also(_workload, as_soon_as(cordoned(NODE), people_uncordon(NODE))))),
        lasts=timedelta(minutes=15),
        healed=emptied(NODE),
        asks="a new kernel",
        demo=False,
    ),
    Scenario(
        name="drain-of-a-cordoned-node",
        summary="A node that an admin has cordoned is to be drained, and a budget never yields",
        broken=f"{NODE} was cordoned by an admin; a person asks for a drain, and the budget of {_APP} is stuck.",
        truth=Truth(
            target=_TARGET,
            cause="A PodDisruptionBudget that never allows anything.",
            cure="Evict what may go, give up at the deadline, and leave the admin's cordon as it was.",
            alerts=(),
            playbook="drain-node",
            may=(May(Act.EVICT, _TARGET),),
            must_not=(MustNot(Act.UNCORDON, _TARGET, "the cordon is the admin's"), MustNot(Act.DELETE_POD, "*", "past the budget")),
            healable=False,
            says=("pdb",),
        ),
        play=timeline((0, also(_workload, lambda sim: sim.cluster.hold_budget(_APP, "apps"))), (30, people_cordon(NODE))),
        healed=emptied(NODE),
        asks="a new kernel",
        demo=False,
    ),
    Scenario(
        name="pdb-deadlock",
        summary="A budget that never yields keeps a node from being drained",
        broken=f"A person asks for {NODE} to be drained, and the budget of {_APP} allows no disruption, ever.",
        truth=Truth(
            target=_TARGET,
            cause="A PodDisruptionBudget that never allows anything.",
            cure="Evict what may go, give up at the deadline, take the cordon back, and say which budget it was.",
            alerts=(),
            playbook="drain-node",
            may=(May(Act.CORDON, _TARGET, most=1), May(Act.EVICT, _TARGET)),
            must_not=(MustNot(Act.DELETE_POD, "*", "past the budget"),),
            healable=False,
            says=("pdb",),
        ),
        play=timeline((0, also(_workload, lambda sim: sim.cluster.hold_budget(_APP, "apps")))),
        healed=emptied(NODE),
        asks="a new kernel",
        demo=False,
    ),
    Scenario(
        name="gitops-reverts",
        summary="Argo CD takes back within a second what a withdrawal writes on the node",
        broken=f"The uplink of {NODE} loses packets; a person shifts BGP away, and Argo CD removes the label each time it sees it.",
        truth=Truth(
            target=_TARGET,
            cause="The node's labels are managed in Git.",
            cure="Try once, see that it does not last, and say so. A label that is written again and again is a fight.",
            alerts=(),
            playbook="shift-bgp-away",
            may=(May(Act.WITHDRAW, _TARGET, most=1),),
            healable=False,
            says=("step_failed",),
        ),
        play=timeline((0, also(lossy_uplink(NODE), as_soon_as(labelled(NODE, _DRAIN), label(NODE, _DRAIN, None), again=True)))),
        lasts=timedelta(minutes=15),
        healed=neither(announces(NODE)),
        asks="its uplink loses packets",
        demo=False,
    ),
)
