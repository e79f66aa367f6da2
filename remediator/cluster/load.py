"""Reads what would have to move off a node, and what the other nodes have left.

In: the door to Kubernetes and the node's name. Out: a Load. Raised: KubeError; Unreadable for a quantity that is none.
The request of a pod is that of its containers and sidecars together, or of its largest init container where that is more, plus its overhead
(kubernetes: pkg/api/v1/resource, PodRequests).
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from remediator.cluster.fit import Load, Offer, Requirement, Taint, Toleration, Want
from remediator.errors import Unreadable
from remediator.kube import kinds, records
from remediator.kube.records import MIRROR, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.kube import Kube

__all__ = ["quantity", "read_load"]

_CORDON = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
"""What a cordon is to the scheduler (pkg/scheduler/framework/plugins/nodeunschedulable)."""
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?", re.ASCII)
_BINARY = {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}
_FACTORS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, **{letter: 1e3**power for power, letter in enumerate("kMGTPE", 1)}, **_BINARY}


class _Resources(Record, frozen=True, kw_only=True):
    requests: dict[str, str] = {}  # noqa: RUF012 - msgspec copies defaults


class _Container(Record, frozen=True, kw_only=True):
    resources: _Resources = _Resources()
    restart_policy: str = ""
    ports: tuple[dict[str, Any], ...] = ()


class _Spec(Record, frozen=True, kw_only=True):
    node_name: str = ""
    containers: tuple[_Container, ...] = ()
    init_containers: tuple[_Container, ...] = ()
    overhead: dict[str, str] = {}  # noqa: RUF012 - as above
    node_selector: dict[str, str] = {}  # noqa: RUF012 - as above
    affinity: dict[str, Any] = {}  # noqa: RUF012 - as above
    tolerations: tuple[dict[str, Any], ...] = ()
    topology_spread_constraints: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    resource_claims: tuple[dict[str, Any], ...] = ()


class _Phase(Record, frozen=True, kw_only=True):
    phase: str = ""


class _Pod(records.Object, frozen=True, kw_only=True):
    spec: _Spec = _Spec()
    status: _Phase = _Phase()


class _NodeStatus(records.NodeStatus, frozen=True, kw_only=True):
    allocatable: dict[str, str] = {}  # noqa: RUF012 - as above


class _Node(records.Node, frozen=True, kw_only=True):
    status: _NodeStatus = _NodeStatus()


def quantity(text: str) -> float:
    """``100m``, ``1.5``, ``2Gi``, ``1e3`` as a number. Raises Unreadable."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise Unreadable("a quantity", f'"{text}" is none')
    number, exponent, suffix = found.groups()
    return float(number + (exponent or "")) * _FACTORS.get(suffix or "", 1)


async def read_load(kube: Kube, target: str) -> Load:
    """What would leave the node ``target`` for good.

    Daemon pods and static pods stay, those that are done or on their way out go by themselves, and a pod that tolerates the cordon may come
    back to where it was.
    """
    nodes, pods = await asyncio.gather(kube.list(kinds.NODE, decode=_Node), kube.list(kinds.POD, decode=_Pod))
    alive = [pod for pod in pods.items if pod.status.phase not in ("Succeeded", "Failed")]
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for pod in alive:
        used[pod.spec.node_name].update(_requests(pod))
    leaving = [_want(pod) for pod in alive if pod.spec.node_name == target and _moves(pod)]
    wants = tuple(pod for pod in leaving if not any(toleration.tolerates(_CORDON) for toleration in pod.tolerations))
    offers = [node for node in nodes.items if node.name != target and node.ready and not node.unschedulable and not node.terminating]
    return Load(wants=wants, offers=tuple(_offer(node, used[node.name]) for node in offers))


def _moves(pod: _Pod) -> bool:
    owner = pod.controller
    return MIRROR not in pod.annotations and not pod.terminating and (owner is None or owner.kind != "DaemonSet")


def _offer(node: _Node, used: Mapping[str, float]) -> Offer:
    return Offer(
        name=node.name,
        labels=node.labels,
        taints=tuple(Taint(key=taint.key, value=taint.value, effect=taint.effect) for taint in node.spec.taints),
        allocatable={key: quantity(size) for key, size in node.status.allocatable.items()},
        used=dict(used),
    )


def _want(pod: _Pod) -> Want:
    node = (pod.spec.affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = node.get("nodeSelectorTerms") or ()
    return Want(
        name=f"{pod.namespace}/{pod.name}",
        requests=_requests(pod),
        selector=pod.spec.node_selector,
        terms=tuple(tuple(map(_requirement, term.get("matchExpressions") or ())) for term in terms if term.get("matchExpressions")),
        tolerations=tuple(map(_toleration, pod.spec.tolerations)),
        unjudged=tuple(_unjudged(pod, terms)),
    )


def _requirement(expression: Mapping[str, Any]) -> Requirement:
    return Requirement(key=str(expression["key"]), operator=str(expression["operator"]), values=tuple(expression.get("values") or ()))


def _toleration(one: Mapping[str, Any]) -> Toleration:
    return Toleration(**{key: str(value) for key, value in one.items() if key in Toleration.__struct_fields__})


def _unjudged(pod: _Pod, terms: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    spec = pod.spec
    for name in ("podAffinity", "podAntiAffinity"):
        if (spec.affinity.get(name) or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            yield name
    if any(one.get("whenUnsatisfiable") == "DoNotSchedule" for one in spec.topology_spread_constraints):
        yield "topology spread"
    if any("persistentVolumeClaim" in volume or "ephemeral" in volume for volume in spec.volumes):
        yield "volumes"
    if any(port.get("hostPort") for container in spec.containers for port in container.ports):
        yield "host ports"
    if spec.resource_claims:
        yield "device claims"
    if any("matchFields" in term for term in terms):
        yield "affinity by fields"


def _requests(pod: _Pod) -> dict[str, float]:
    """Sidecars (init containers that are restarted always) run beside the others and beside later init containers."""
    main = _sum(container for container in pod.spec.containers)
    sidecars: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for container in pod.spec.init_containers:
        now = _sum([container])
        if container.restart_policy == "Always":
            sidecars.update(now)
        most |= sidecars if container.restart_policy == "Always" else sidecars + now
    main.update(sidecars)
    total = main | most
    total.update({key: quantity(size) for key, size in pod.spec.overhead.items()})
    return {**total, "pods": 1}


def _sum(containers: Iterable[_Container]) -> Counter[str]:
    total: Counter[Any] = Counter()
    for container in containers:
        total.update({key: quantity(size) for key, size in container.resources.requests.items()})
    return total
