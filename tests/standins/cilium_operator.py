"""Cilium's operator for CRDs of 1.18 and later (v2), which the real one of the control plane (1.17) does not know. One thread.

It does what the tests need of it, in the way the real one does it (``operator/pkg/bgpv2/cluster.go``):

- a CiliumBGPNodeConfig for each CiliumNode whose labels a CiliumBGPClusterConfig selects, owned by it; gone with the match;
- edits of a CiliumBGPNodeConfig by hand are put right, and a second config for the same node is refused and said so in its conditions;
- the three conditions of CiliumBGPClusterConfig, whose status ``True`` is a problem;
- for each Service of type LoadBalancer that a CiliumLoadBalancerIPPool selects, the first free address.
"""

from __future__ import annotations

import ipaddress
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from standins.api import Api, ApiError, Object, selects

if TYPE_CHECKING:
    from pathlib import Path

_TICK = 0.25
_CRDS = "/apis/cilium.io/v2"
_GONE_OR_CHANGED = (404, 409)


class CiliumOperator:
    """It, from :meth:`start` to :meth:`close`. One that does not run is one that is down: nothing happens."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live, name="cilium-operator", daemon=True)
        self.failures: list[Exception] = []

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join(30)

    def _live(self) -> None:
        self._api = Api(self._kubeconfig)
        while not self._end.wait(_TICK):
            for duty in (self._keep_node_configs, self._give_addresses):
                try:
                    duty()
                except ApiError as error:
                    if error.code not in _GONE_OR_CHANGED:  # the next round sees what became of it
                        self.failures.append(error)
                except Exception as error:  # noqa: BLE001 - as with the agents: never silently
                    self.failures.append(error)
        self._api.close()

    def _keep_node_configs(self) -> None:
        nodes = self._api.items(f"{_CRDS}/ciliumnodes")
        peer_configs = {one["metadata"]["name"] for one in self._api.items(f"{_CRDS}/ciliumbgppeerconfigs")}
        for config in self._api.items(f"{_CRDS}/ciliumbgpclusterconfigs"):
            own = {one["metadata"]["name"]: one for one in self._api.items(f"{_CRDS}/ciliumbgpnodeconfigs")}
            chosen = {n["metadata"]["name"] for n in nodes if selects(config["spec"].get("nodeSelector"), _labels(n), absent=True)}
            foreign = {owner for name in chosen & own.keys() if (owner := _owner(own[name])["name"]) != config["metadata"]["name"]}
            for name in chosen:
                self._keep(name, own.get(name), config)
            for name in own.keys() - chosen:
                if _owner(own[name])["uid"] == config["metadata"]["uid"]:
                    self._api.delete(f"{_CRDS}/ciliumbgpnodeconfigs/{name}")
            self._judge(config, chosen, foreign, peer_configs)

    def _keep(self, name: str, found: Object | None, config: Object) -> None:
        spec = {"bgpInstances": [_instance(one) for one in config["spec"]["bgpInstances"]]}
        if found is None:
            owner = {"apiVersion": config["apiVersion"], "kind": config["kind"], "controller": True}
            owner |= {"name": config["metadata"]["name"], "uid": config["metadata"]["uid"]}
            new = {"apiVersion": "cilium.io/v2", "kind": "CiliumBGPNodeConfig", "metadata": {"name": name, "ownerReferences": [owner]}}
            self._api.create(f"{_CRDS}/ciliumbgpnodeconfigs", {**new, "spec": spec})
        elif _owner(found)["uid"] == config["metadata"]["uid"] and found["spec"] != spec:
            self._api.replace(f"{_CRDS}/ciliumbgpnodeconfigs/{name}", {**found, "spec": spec})

    def _judge(self, config: Object, chosen: set[str], foreign: set[str], peer_configs: set[str]) -> None:
        peers = (peer for instance in config["spec"]["bgpInstances"] for peer in instance.get("peers", ()))
        absent = {peer["peerConfigRef"]["name"] for peer in peers if "peerConfigRef" in peer} - peer_configs
        problems = {
            "ConflictingClusterConfig": ", ".join(sorted(foreign)),
            "MissingPeerConfigs": ", ".join(sorted(absent)),
            "NoMatchingNode": "" if chosen else "No node matches spec.nodeSelector",
        }
        before = {one["type"]: one for one in config.get("status", {}).get("conditions", ())}
        after = [_condition(kind, problem, before, config) for kind, problem in problems.items()]
        if after != list(before.values()):
            path = f"{_CRDS}/ciliumbgpclusterconfigs/{config['metadata']['name']}/status"
            self._api.replace(path, {**config, "status": {"conditions": after}})

    def _give_addresses(self) -> None:
        services = [one for one in self._api.items("/api/v1/services") if one["spec"]["type"] == "LoadBalancer"]
        taken = {given["ip"] for one in services for given in one["status"].get("loadBalancer", {}).get("ingress", ())}
        pools = [one["spec"] for one in self._api.items(f"{_CRDS}/ciliumloadbalancerippools") if not one["spec"].get("disabled")]
        for service in services:
            address = None if service["status"].get("loadBalancer", {}).get("ingress") else _free(pools, _labels(service), taken)
            if address:
                taken.add(address)
                metadata = service["metadata"]
                path = f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}/status"
                self._api.patch(path, {"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}})


def _labels(thing: Object) -> dict[str, str]:
    return dict(thing["metadata"].get("labels", {}))


def _owner(node_config: Object) -> Object:
    owners = node_config["metadata"].get("ownerReferences", ())
    return next((one for one in owners if one["kind"] == "CiliumBGPClusterConfig"), {"name": "", "uid": ""})


def _instance(instance: Object) -> Object:
    kept = {key: instance[key] for key in ("name", "localASN", "localPort") if key in instance}
    peers = [{key: peer[key] for key in ("name", "peerAddress", "peerASN", "peerConfigRef") if key in peer} for peer in instance["peers"]]
    return {**kept, "peers": peers}


def _condition(kind: str, problem: str, before: dict[str, Object], config: Object) -> Object:
    kind = f"cilium.io/{kind}"
    now: dict[str, Any] = {
        "type": kind,
        "status": "True" if problem else "False",
        "reason": kind.removeprefix("cilium.io/"),
        "message": problem,
    }
    now["observedGeneration"] = config["metadata"]["generation"]
    was = before.get(kind)
    same = was is not None and was["status"] == now["status"]
    now["lastTransitionTime"] = was["lastTransitionTime"] if same and was else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return now


def _free(pools: list[Object], labels: dict[str, str], taken: set[str]) -> str | None:
    for pool in pools:
        if selects(pool.get("serviceSelector"), labels, absent=True):
            for block in pool.get("blocks", ()):
                for address in ipaddress.ip_network(block["cidr"]).hosts():
                    if str(address) not in taken:
                        return str(address)
    return None
