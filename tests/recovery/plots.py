"""The stories of the crash tests, one for each action that changes something; with times that are worth waiting for."""

from __future__ import annotations

from recovery.crash import Plot

TIME = "timeout: 3h"
CORDON = f"cordon: {{action: node.cordon, {TIME}}}"
WHOAMI = ("namespace: apps", "labels: app=whoami", "fields: 'spec.nodeName=${target.name}'")
UNCORDON = f"uncordon: {{action: node.uncordon, {TIME}}}"


async def two_racks(simulation):
    """One router hears the services by an advertisement of its own, so that there is another to prefer."""
    cluster = simulation.cluster
    found = cluster.get("CiliumBGPAdvertisement", "services")
    metadata = {"name": "rack-a", "labels": {"advertise": "rack-a"}}
    cluster.create({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement", "metadata": metadata, "spec": found["spec"]})
    kind = cluster.kind("CiliumBGPPeerConfig")
    peer = cluster.store.edit(kind, cluster.store.get(kind, "peer-tor1"))
    peer["spec"]["families"] = [{"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "rack-a"}}}]
    cluster.store.replace(kind, peer)


def _one(action, *parameters):
    return f"{{it: {{{', '.join((f'action: {action}', TIME, *parameters))}}}}}"


PLOTS = {
    "alertmanager.silence": Plot(_one("alertmanager.silence", "duration: 1d"), undone=True),
    "node.cordon": Plot(_one("node.cordon"), undone=True),
    "node.uncordon": Plot(f"{{{CORDON}}}, {{{UNCORDON}}}"),
    "node.drain": Plot(_one("node.drain", "parallel: 1", "quiet_for: 1s", "headroom: 10m"), undone=True, node="node-2"),
    "cilium.restart_agent": Plot(_one("cilium.restart_agent", "ready_for: 1s")),
    "cilium.restart_envoy": Plot(_one("cilium.restart_envoy", "ready_for: 1s")),
    "cilium.restart_operator": Plot(
        _one("cilium.restart_operator", "ready_for: 1s"), kind="Deployment", name="cilium-operator", namespace="kube-system"
    ),
    "workload.rollout_restart": Plot(_one("workload.rollout_restart", "ready_for: 1s"), kind="Deployment", name="whoami", namespace="apps"),
    "workload.delete_pod": Plot(_one("workload.delete_pod", "ready_for: 1s", *WHOAMI), node="node-2"),
    "workload.evict_pod": Plot(_one("workload.evict_pod", "ready_for: 1s", *WHOAMI), node="node-2"),
    "bgp.withdraw_node": Plot(_one("bgp.withdraw_node", "hold: 1s"), undone=True),
    "bgp.withdraw_peer": Plot(_one("bgp.withdraw_peer", "peer_config: peer-tor1", "hold: 1s"), undone=True),
    "bgp.deprefer": Plot(_one("bgp.deprefer", "advertisement: rack-a", "settle: 1s"), undone=True, prepare=two_racks),
}
"""action -> its story"""
