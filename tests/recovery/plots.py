"""The stories of the crash tests, one for each action that changes something; with times that are worth waiting for."""

from __future__ import annotations

from datetime import timedelta

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


async def standby(simulation):
    """node-3 is the egress gateway, node-4 stands by."""
    cluster = simulation.cluster
    spec = {"selectors": [{"podSelector": {}}], "destinationCIDRs": ["0.0.0.0/0"]}
    spec["egressGateway"] = {"nodeSelector": {"matchLabels": {"egress": "yes"}}}
    cluster.create({"apiVersion": "cilium.io/v2", "kind": "CiliumEgressGatewayPolicy", "metadata": {"name": "egress"}, "spec": spec})
    kind = cluster.kind("Node")
    for name, key, value in (("node-3", "egress", "yes"), ("node-4", "remediator.dev/egress-standby", "true")):
        node = cluster.store.edit(kind, cluster.store.get(kind, name))
        node["metadata"]["labels"][key] = value
        cluster.store.replace(kind, node)


async def two_backends(simulation):
    """A route with two backends, of which the one that inherits is ready, and a controller that accepts whatever is written."""
    cluster = simulation.cluster
    labels = {"kubernetes.io/service-name": "green"}
    piece = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": []}
    endpoints = [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}]
    cluster.create({**piece, "metadata": {"name": "green-1", "namespace": "default", "labels": labels}, "endpoints": endpoints})
    refs = [{"group": "", "kind": "Service", "name": name, "port": 80, "weight": 1} for name in ("blue", "green")]
    spec = {"parentRefs": [{"name": "external"}], "rules": [{"backendRefs": refs}]}
    metadata = {"name": "grafana", "namespace": "default"}
    cluster.create({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec})
    kind = cluster.kind("HTTPRoute")

    def accept():
        route = cluster.store.edit(kind, cluster.store.get(kind, "grafana", "default"))
        told = {"status": "True", "reason": "x", "observedGeneration": route["metadata"]["generation"]}
        conditions = [{"type": one, **told} for one in ("Accepted", "ResolvedRefs")]
        route["status"] = {"parents": [{"parentRef": {"name": "external"}, "controllerName": "x", "conditions": conditions}]}
        cluster.store.replace(kind, route)

    def follow(change):
        known, told = change.obj["metadata"]["generation"], (change.obj.get("status") or {}).get("parents")
        if change.obj["kind"] == "HTTPRoute" and not (told and told[0]["conditions"][0]["observedGeneration"] == known):
            cluster.loop.after(timedelta(seconds=1), accept)

    accept()
    cluster.store.subscribe(follow, kind.table)


def _one(action, *parameters):
    return f"{{it: {{{', '.join((f'action: {action}', TIME, *parameters))}}}}}"


JOB = """\
apiVersion: batch/v1
kind: Job
spec:
  template:
    spec: {containers: [{name: check, image: "example.test/check:1"}]}
"""


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
    "node.taint": Plot(_one("node.taint", "key: example.test/suspect", "value: 'yes'"), undone=True),
    "workload.rollout_restart": Plot(_one("workload.rollout_restart", "ready_for: 1s"), kind="Deployment", name="whoami", namespace="apps"),
    "workload.delete_pod": Plot(_one("workload.delete_pod", "ready_for: 1s", *WHOAMI), node="node-2"),
    "workload.evict_pod": Plot(_one("workload.evict_pod", "ready_for: 1s", *WHOAMI), node="node-2"),
    "bgp.withdraw_node": Plot(_one("bgp.withdraw_node", "hold: 1s"), undone=True),
    "bgp.withdraw_peer": Plot(_one("bgp.withdraw_peer", "peer_config: peer-tor1", "hold: 1s"), undone=True),
    "egress.move_gateway": Plot(_one("egress.move_gateway", "planned: true"), undone=True, prepare=standby),
    "job.run": Plot(_one("job.run", "template: check.job.yaml", "namespace: apps"), files=(("check.job.yaml", JOB),)),
    "gateway.shift_weight": Plot(
        _one("gateway.shift_weight", "route: grafana", "namespace: default", "weights: {blue: 0}", "settle: 1s"),
        undone=True,
        prepare=two_backends,
    ),
    "bgp.deprefer": Plot(_one("bgp.deprefer", "advertisement: rack-a", "settle: 1s"), undone=True, prepare=two_racks),
}
"""action -> its story"""
