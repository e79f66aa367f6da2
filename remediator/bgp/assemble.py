"""Objects of one moment -> Routes: who announces what. Pure.

In: Objects. Out: Routes. Raises Unreadable where a selector cannot be evaluated: a wrong guess would count speakers that are none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remediator.bgp.model import Node, Prefix, PrefixKind, Routes
from remediator.bgp.objects import MARK
from remediator.bgp.selector import DRAIN_LABEL, NamedSelector, selects_node
from remediator.bgp.sessions import Peering, Speaking, agent_trouble
from remediator.model import evolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from remediator.bgp.advertise import Announced
    from remediator.bgp.objects import CiliumNode, Objects
    from remediator.kube.records import Node as KubeNode
    from remediator.kube.records import Pod

__all__ = ["assemble", "marked_by", "selectors"]

_ZONE = "topology.kubernetes.io/zone"
_CONFLICT = "cilium.io/ConflictingClusterConfig"
_UNKNOWN = ("CiliumPodIPPool", "Interface")


def selectors(objects: Objects) -> tuple[NamedSelector, ...]:
    """The node selector of every configuration."""
    found = [*(("CiliumBGPClusterConfig", c) for c in objects.cluster_configs), *(("CiliumBGPPeeringPolicy", p) for p in objects.policies)]
    return tuple(NamedSelector(name=_called(kind, thing), selector=thing["spec"].get("nodeSelector")) for kind, thing in found)


def assemble(objects: Objects) -> Routes:
    """See the module's first lines."""
    speaking = Speaking(objects)
    known = {node.name: node for node in objects.nodes}
    written = {config["metadata"]["name"] for config in objects.node_configs}
    agents = _by_node(objects.agents)
    named, keys = selectors(objects), tuple(_keys(objects))
    nodes: list[Node] = []
    spoken: list[tuple[str, list[Peering]]] = []
    for cilium in sorted(objects.cilium_nodes, key=lambda node: node.name):
        policies = [p for p in objects.policies if selects_node(p["spec"].get("nodeSelector"), cilium.labels)]
        agent = agent_trouble(agents.get(cilium.name, ()))
        peerings = speaking.peerings(cilium.name, cilium.spec.ipam.pod_cidrs, agent, policies)
        spoken.append((cilium.name, peerings))
        chosen = tuple(one.name for one in named if selects_node(one.selector, cilium.labels))
        node = _node(cilium, known.get(cilium.name), agent, chosen)
        configured = cilium.name in written
        lag = _lag(cilium, known.get(cilium.name), keys, chosen, written=configured)
        sessions = tuple(peering.session for peering in peerings)
        nodes.append(evolve(node, sessions=sessions, configured=configured or bool(policies), lag=lag))
    return Routes(
        version=objects.version,
        nodes=tuple(nodes),
        prefixes=tuple(_prefixes(spoken, objects.pods)),
        metrics=objects.metrics.state,
        metrics_detail=objects.metrics.detail,
        operator=objects.operator,
        conflicts=_conflicts(objects),
        pools=tuple(thing["metadata"]["name"] for thing in objects.pools),
        l2_policies=tuple(thing["metadata"]["name"] for thing in objects.l2_policies),
        notes=tuple(_notes(objects)),
    )


def marked_by(annotations: Mapping[str, str], by: str = MARK) -> dict[str, Any] | None:
    """What our mark says (run, at, reason, ...), or None if there is none; a garbled one is nobody's run."""
    text = annotations.get(by)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {"run": ""}
    return value if isinstance(value, dict) else {"run": ""}


def _by_node(pods: Iterable[Pod]) -> dict[str, list[Pod]]:
    found: dict[str, list[Pod]] = {}
    for pod in pods:
        found.setdefault(pod.spec.node_name, []).append(pod)
    return found


def _node(cilium: CiliumNode, node: KubeNode | None, agent: str, chosen: tuple[str, ...]) -> Node:
    mark = marked_by(node.annotations) if node is not None else None
    return Node(
        name=cilium.name,
        zone=cilium.labels.get(_ZONE, ""),
        agent_ready=not agent,
        agent=agent,
        configs=chosen,
        unschedulable=node is not None and node.spec.unschedulable,
        withdrawn_by=str(mark.get("run", "")) if mark else "",
        pod_cidrs=cilium.spec.ipam.pod_cidrs,
        labels=dict(cilium.labels),
    )


def _lag(cilium: CiliumNode, node: KubeNode | None, keys: tuple[str, ...], chosen: tuple[str, ...], *, written: bool) -> str:
    """What the agent or the operator has still to do: a shift is under way, or one of them is not at work."""
    if node is not None:
        behind = [key for key in keys if node.labels.get(key) != cilium.labels.get(key)]
        if behind:
            return f"its agent has still to copy {', '.join(behind)} to the CiliumNode"
    wanted = any(name.startswith("CiliumBGPClusterConfig/") for name in chosen)
    if wanted != written:
        return f"the operator has still to {'write' if wanted else 'delete'} its CiliumBGPNodeConfig"
    return ""


def _keys(objects: Objects) -> Iterator[str]:
    """Labels that decide who speaks."""
    yield DRAIN_LABEL
    seen = {DRAIN_LABEL}
    for one in selectors(objects):
        selector = one.selector or {}
        for key in (*(selector.get("matchLabels") or {}), *(e["key"] for e in selector.get("matchExpressions") or ())):
            if key not in seen:
                seen.add(key)
                yield key


def _prefixes(spoken: Iterable[tuple[str, list[Peering]]], pods: Mapping[str, int]) -> Iterator[Prefix]:
    """Every prefix that some node is to announce, with those that do."""
    speakers: dict[Announced, dict[str, tuple[str, ...]]] = {}
    perhaps: dict[Announced, dict[str, tuple[str, ...]]] = {}
    for node, peerings in spoken:
        for session, wanted in peerings:
            for family in session.families:
                for announced in wanted[family.afi].prefixes:
                    certain, doubtful = speakers.setdefault(announced, {}), perhaps.setdefault(announced, {})
                    if session.works:
                        peers = doubtful if family.trouble else certain
                        peers[node] = (*peers.get(node, ()), session.address)
    for one in sorted(speakers):
        count = pods.get(one.of, 0) if one.kind is PrefixKind.POD_CIDR else 0
        yield Prefix(
            prefix=one.prefix, kind=one.kind, of=one.of, policy=one.policy, speakers=speakers[one], perhaps=perhaps[one], pods=count
        )


def _conflicts(objects: Objects) -> dict[str, str]:
    """Read ``status``: the reason of these conditions is the same text whether they hold or not."""
    found = {}
    for config in objects.cluster_configs:
        for condition in (config.get("status") or {}).get("conditions") or ():
            if condition.get("type") == _CONFLICT and condition.get("status") == "True":
                words = condition.get("message") or "another ClusterConfig selects the same nodes"
                found[_called("CiliumBGPClusterConfig", config)] = words
    return found


def _notes(objects: Objects) -> Iterator[str]:
    for config in objects.cluster_configs:
        for condition in (config.get("status") or {}).get("conditions") or ():
            if condition.get("status") == "True" and condition.get("type") != _CONFLICT:
                yield f"{_called('CiliumBGPClusterConfig', config)}: {condition.get('type')}: {condition.get('message', '')}"
    for thing in objects.advertisements:
        for entry in thing["spec"].get("advertisements") or ():
            if entry.get("advertisementType") in _UNKNOWN:
                yield f"{_called('CiliumBGPAdvertisement', thing)}: routes of {entry['advertisementType']} are not looked at"


def _called(kind: str, thing: Mapping[str, Any]) -> str:
    return f"{kind}/{thing['metadata']['name']}"
