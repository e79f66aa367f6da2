"""A Cilium agent is Ready and yet stuck: the endpoints of its node wait for it to regenerate them, and it never does.

In comes a running simulation; out comes one in which a person on call must see it and restart the agent on node-3. A new agent regenerates
everything that it finds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.sim.alerting.rules import Rule
from remediator.sim.objects import dig
from remediator.sim.scenarios.base import Act, May, Scenario, Truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.prometheus.server import Prometheus
    from remediator.sim.simulation import Simulation
    from remediator.sim.store import Change

NODE = "node-3"
ALERT = "EndpointsOfNodeStuck"
_ENDPOINTS = ("cilium.io", "ciliumendpoints")


def _stuck(cluster: Cluster, _prometheus: Prometheus) -> Iterator[dict[str, str]]:
    if any(dig(one, "status.state") != "ready" for one in _endpoints(cluster)):
        yield {"node": NODE}


RULE = Rule(
    ALERT,
    _stuck,
    {"severity": "warning"},
    {"summary": "Endpoints on {node} wait to be regenerated, and its agent says that it is fine"},
    timedelta(seconds=30),
)


def _endpoints(cluster: Cluster) -> list[Obj]:
    address = cluster.node_address(NODE)
    return [one for one in cluster.store.list(_ENDPOINTS) if dig(one, "status.networking.node") == address]


def _set(cluster: Cluster, state: str) -> None:
    kind = cluster.kind("CiliumEndpoint")
    for one in _endpoints(cluster):
        copy = cluster.store.edit(kind, one)
        copy["status"]["state"] = state
        cluster.store.replace(kind, copy)


async def _play(sim: Simulation) -> None:
    cluster, old = sim.cluster, sim.cluster.agent_pod(NODE)
    uid = old["metadata"]["uid"] if old is not None else ""

    def changed(change: Change) -> None:
        pod = cluster.agent_pod(NODE)
        new = pod is not None and pod["metadata"]["uid"] != uid
        if change.table == ("", "pods") and cluster.is_agent(change.obj) and new and cluster.agent_works(NODE):
            cluster.loop.after(timedelta(seconds=3), _set, cluster, "ready")

    if RULE not in sim.rules.rules:
        sim.rules.rules.append(RULE)
    cluster.store.subscribe(changed)
    _ensure_endpoint(cluster)
    _set(cluster, "waiting-to-regenerate")


def _ensure_endpoint(cluster: Cluster) -> None:
    """The node has at least one endpoint, wherever the scheduler put the pods."""
    if not _endpoints(cluster):
        networking = {"addressing": [{"ipv4": cluster.next_pod_address(NODE)}], "node": cluster.node_address(NODE)}
        meta = {"name": "health", "namespace": "default"}
        status = {"id": 7, "networking": networking, "state": "ready"}
        cluster.store.add(cluster.kind("CiliumEndpoint"), {"metadata": meta, "status": status})


def _healed(sim: Simulation) -> bool:
    return sim.cluster.agent_works(NODE) and all(dig(one, "status.state") == "ready" for one in _endpoints(sim.cluster))


SCENARIO = Scenario(
    name="agent-restart",
    summary="A Cilium agent says that it is Ready and does no work; a person restarts it",
    broken=f"The Cilium agent on {NODE} is Ready, but its endpoints wait for it to regenerate them, and it never does.",
    truth=Truth(
        target=f"Node/{NODE}",
        cause="The agent's endpoint manager is deadlocked; its probes still answer.",
        cure="Replace the agent's pod on that node; the new agent regenerates what it finds.",
        alerts=(ALERT,),
        playbook="restart-agent",
        may=(May(Act.RESTART_AGENT, f"Node/{NODE}", most=1),),
    ),
    play=_play,
    healed=_healed,
    asks="its endpoints are stuck, and the agent says that it is fine",
)
