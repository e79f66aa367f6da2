"""What a restart of an agent may break meanwhile, for the record: nothing here forbids it, a person or another gate weighs it.

In: the door to Kubernetes and a node. Out: sentences. The judging functions are pure; what cannot be read is said, never taken for absent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from remediator.cilium.sessions import established, peer_configs
from remediator.errors import KubeError
from remediator.kube import kinds, records
from remediator.kube.errors import NotFound
from remediator.kube.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from remediator.kube import Kube

__all__ = [
    "agent_config",
    "collect",
    "cordon_of_others",
    "dns_proxy",
    "node_config",
    "only_dns",
    "through_service",
    "without_graceful_restart",
]

DNS_SELECTOR = "k8s-app=kube-dns"
_POLICY = Kind("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies")
_CLUSTERWIDE = Kind("cilium.io", "v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", namespaced=False)
_VERSIONS = ("v2", "v2alpha1")
"""Of the BGP kinds, newest first: v2 since Cilium 1.18, v2alpha1 before."""


def dns_proxy(policies: Iterable[Mapping[str, Any]], namespaces: Iterable[str]) -> str:
    """Pods under a policy with DNS rules get no answer while the agent, which is their DNS proxy, is away (cilium#21059, #16364)."""
    here = set(namespaces)
    names = sorted(
        f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}".lstrip("/")
        for one in policies
        if one["metadata"].get("namespace", "") in (*here, "") and _asks_names(one)
    )
    return f"DNS proxy in use: lookups of pods under {', '.join(names[:5])} fail until the new agent is ready" if names else ""


def _asks_names(policy: Mapping[str, Any]) -> bool:
    specs = [policy.get("spec") or {}, *(policy.get("specs") or ())]
    rules = [rule for spec in specs for rule in spec.get("egress") or ()]
    return any(
        rule.get("toFQDNs") or any((port.get("rules") or {}).get("dns") is not None for port in rule.get("toPorts") or ()) for rule in rules
    )


def without_graceful_restart(config: dict[str, Any] | None, peers: Mapping[str, dict[str, Any] | None]) -> str:
    """Peers withdraw the node's routes at once, and get them back with the session (Cilium docs, BGP control plane operation).

    Where the node is the last speaker of an address, ``cilium.restart_agent`` refuses as ``route_coverage``. ``peers``:
    CiliumBGPPeerConfigs by name.
    """
    up, configs = established(config), peer_configs(config)
    bare = sorted(name for name in up if not _graceful(peers.get(configs.get(name, ""))))
    return (
        f"graceful restart is off for BGP sessions {', '.join(bare)}: their routes are withdrawn until the session is back" if bare else ""
    )


def _graceful(peer: dict[str, Any] | None) -> bool:
    return bool((((peer or {}).get("spec") or {}).get("gracefulRestart") or {}).get("enabled"))


def through_service(daemonset: dict[str, Any] | None, config: Mapping[str, str]) -> str:
    """With kube-proxy replaced, an agent that looks for the API server behind a ClusterIP needs itself to find it (cilium#30609)."""
    if daemonset is None or config.get("kube-proxy-replacement") not in ("true", "strict"):
        return ""
    spec = ((daemonset.get("spec") or {}).get("template") or {}).get("spec") or {}
    agent: dict[str, Any] = next((c for c in spec.get("containers") or () if c.get("name") == "cilium-agent"), {})
    named = any(e.get("name") == "KUBERNETES_SERVICE_HOST" for e in agent.get("env") or ()) or config.get("k8s-api-server-urls")
    return "" if named else "the agent finds the API server through its own datapath (k8sServiceHost is not set), as kube-proxy is replaced"


def only_dns(pods: Iterable[records.Pod], node: str) -> str:
    """The cluster's DNS has no ready pod on another node."""
    ready = [pod for pod in pods if pod.ready]
    alone = ready and all(pod.node_name == node for pod in ready)
    return f"every ready DNS pod of the cluster ({', '.join(pod.name for pod in ready)}) runs on {node}" if alone else ""


def cordon_of_others(node: dict[str, Any], *, ours: bool) -> str:
    """Somebody else cordoned the node and may be draining it. ``ours``: whether a cordon that it carries is remediator's."""
    cordoned = bool((node.get("spec") or {}).get("unschedulable"))
    return f"{node['metadata']['name']} was cordoned by somebody else, who may be draining it" if cordoned and not ours else ""


async def node_config(kube: Kube, node: str) -> dict[str, Any] | None:
    """The node's CiliumBGPNodeConfig in the version that the cluster serves; None where it speaks no BGP."""
    return await _first(kube, "CiliumBGPNodeConfig", "ciliumbgpnodeconfigs", node)


async def agent_config(kube: Kube, namespace: str) -> Mapping[str, str]:
    """What every agent starts with; empty where there is no such ConfigMap."""
    try:
        found = await kube.get(kinds.CONFIG_MAP, "cilium-config", namespace)
    except NotFound:
        return {}
    return found.get("data") or {}


async def _first(kube: Kube, kind: str, plural: str, name: str) -> dict[str, Any] | None:
    for version in _VERSIONS:
        try:
            return await kube.get(Kind("cilium.io", version, kind, plural, namespaced=False), name)
        except NotFound:
            continue
    return None


async def collect(
    kube: Kube, *, namespace: str, daemonset: str, node: str, config: dict[str, Any] | None, pods: Iterable[str]
) -> list[str]:
    """Every sentence about this node. ``pods``: the namespaces that have pods on it."""
    found = await asyncio.gather(
        _said("DNS policies", _dns(kube, pods)),
        _said("graceful restart", _graceful_restart(kube, config)),
        _said("the agent's way to the API server", _way(kube, namespace, daemonset)),
        _said("DNS pods", _dns_pods(kube, namespace, node)),
    )
    return [words for words in found if words]


async def _said(what: str, look: Awaitable[str]) -> str:
    try:
        return await look
    except KubeError as error:
        return f"{what} could not be looked at: {error}"


async def _dns(kube: Kube, pods: Iterable[str]) -> str:
    policies: list[dict[str, Any]] = []
    for kind in (_POLICY, _CLUSTERWIDE):
        try:
            policies += (await kube.list(kind)).items
        except NotFound:
            continue  # the CRD is not installed, so there is no such policy
    return dns_proxy(policies, pods)


async def _graceful_restart(kube: Kube, config: dict[str, Any] | None) -> str:
    names = sorted({name for name in peer_configs(config).values() if name})
    peers = {name: await _first(kube, "CiliumBGPPeerConfig", "ciliumbgppeerconfigs", name) for name in names}
    return without_graceful_restart(config, peers)


async def _way(kube: Kube, namespace: str, daemonset: str) -> str:
    config = await agent_config(kube, namespace)
    return through_service(await kube.get(kinds.DAEMONSET, daemonset, namespace), config) if config else ""


async def _dns_pods(kube: Kube, namespace: str, node: str) -> str:
    return only_dns((await kube.list(kinds.POD, namespace, labels=DNS_SELECTOR, decode=records.Pod)).items, node)
