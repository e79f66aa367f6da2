"""Reads what would have to move off a node, what the other nodes have left, and who is there.

In: the door to Kubernetes and the node's name. Out: a Load. Raised: KubeError; Unreadable for a quantity that is none.
Nodes, the node's pods and then all pods are listed always; namespaces, claims, volumes and classes only if a pod that moves asks for
something there.
A pod's successor is taken to ask for what the pod does: nobody can know a template that its controller has not used yet.
The request of a pod is that of its containers and sidecars together, or of its largest init container where that is more, plus its overhead
(kubernetes: pkg/api/v1/resource, PodRequests).
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from remediator.cluster import asks
from remediator.cluster.claims import Storage, Uses, read_storage
from remediator.cluster.constraints import Load, Offer, Resident, Taint, Term, Want
from remediator.errors import Unreadable
from remediator.kube import kinds, records
from remediator.kube.records import MIRROR, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from remediator.cluster.constraints import Port
    from remediator.kube import Kube

    T = TypeVar("T")

__all__ = ["quantity", "read_load"]

_CORDON = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
"""What a cordon is to the scheduler (pkg/scheduler/framework/plugins/nodeunschedulable)."""
_TURN = 500
"""Pods or nodes that are added up before the event loop gets its turn."""
_SCHEDULER = "default-scheduler"
_IN_LINE = ("awsElasticBlockStore", "gcePersistentDisk", "iscsi", "rbd")
"""Volumes that some scheduler plugin keeps off nodes where others use them (volumerestrictions)."""
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
    scheduler_name: str = _SCHEDULER


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
    nodes, here = await asyncio.gather(
        kube.list(kinds.NODE, decode=_Node), kube.list(kinds.POD, fields=f"spec.nodeName={target}", decode=_Pod)
    )
    leaving = [pod for pod in here.items if _alive(pod) and _moves(pod)]
    storage = await read_storage(kube, [(pod.namespace, _uses(pod)) for pod in leaving])
    wants = [_want(pod, storage) for pod in leaving]
    # Of each pod only what counts is kept: in a cluster of 100,000 all of them whole are 300 MB.
    reduce = _Reduction(target, storage, social=any(want.affinity or want.anti or want.spread for want in wants))
    pods = [pod for pod in (await kube.collect(kinds.POD, reduce.pod)).items if pod is not None]
    used: dict[str, Counter[str]] = defaultdict(Counter)
    async for node_name, requests, _ in _by_turns(pods):
        used[node_name].update(requests)
    residents = tuple(resident for _, _, resident in pods if resident is not None)
    offers: list[Offer] = []
    others: list[Offer] = []
    async for node in _by_turns(nodes.items):
        takes = node.name != target and node.ready and not node.unschedulable and not node.terminating
        (offers if takes else others).append(_offer(node, used[node.name], cordon=node.name == target))
    return Load(
        wants=tuple(wants),
        offers=tuple(offers),
        others=tuple(others),
        residents=residents,
        namespaces=await _namespaces(kube, [*(term for pod in residents for term in pod.anti), *_terms(wants)]),
    )


async def _by_turns(things: Iterable[T]) -> AsyncIterator[T]:
    """Each of them; the event loop has its turn now and then, which all of a large cluster would keep it from for 150 ms."""
    for number, thing in enumerate(things, start=1):
        yield thing
        if not number % _TURN:
            await asyncio.sleep(0)


def _alive(pod: _Pod) -> bool:
    return pod.status.phase not in ("Succeeded", "Failed")


def _moves(pod: _Pod) -> bool:
    owner = pod.controller
    daemon = owner is not None and owner.kind == "DaemonSet"
    back = any(toleration.tolerates(_CORDON) for toleration in map(asks.toleration, pod.spec.tolerations))
    return MIRROR not in pod.annotations and not pod.terminating and not daemon and not back


def _terms(wants: Iterable[Want]) -> Iterator[Term]:
    for pod in wants:
        yield from pod.affinity
        yield from pod.anti


async def _namespaces(kube: Kube, terms: Iterable[Term]) -> dict[str, dict[str, str]]:
    """An empty selector takes every namespace, whatever its labels."""
    if not any(term.namespace_selector for term in terms):
        return {}
    return {one.name: one.labels for one in (await kube.list(kinds.NAMESPACE, decode=records.Namespace)).items}


def _offer(node: _Node, used: Mapping[str, float], *, cordon: bool = False) -> Offer:
    taints = tuple(Taint(key=taint.key, value=taint.value, effect=taint.effect) for taint in node.spec.taints)
    return Offer(
        name=node.name,
        labels=node.labels,
        taints=(*taints, _CORDON) if cordon else taints,
        allocatable={key: quantity(size) for key, size in node.status.allocatable.items()},
        used=dict(used),
    )


class _Reduction:
    """Makes of each pod of the cluster what counts of it. What many pods ask for alike is kept once."""

    def __init__(self, target: str, storage: Storage, *, social: bool) -> None:
        self._target = target
        self._storage = storage
        self._social = social
        """Whether a pod that moves looks for others, so that it could mind all of them."""
        self._decode = msgspec.json.Decoder(_Pod).decode
        self._asked: dict[tuple[tuple[str, float], ...], dict[str, float]] = {}

    def pod(self, raw: bytes | msgspec.Raw) -> tuple[str, dict[str, float], Resident | None] | None:
        """Its node, what it asks for, and who it is if it could mind a pod that moves; None for one that is done."""
        pod = self._decode(raw)
        if not _alive(pod):
            return None
        requests = _requests(pod)
        requests = self._asked.setdefault(tuple(requests.items()), requests)
        node = sys.intern(pod.spec.node_name)
        stays = node and not (node == self._target and (_moves(pod) or pod.terminating))
        return node, requests, self._resident(pod) if stays else None

    def _resident(self, pod: _Pod) -> Resident | None:
        """Whoever keeps others away counts in any case."""
        alone = tuple(f"{pod.namespace}/{name}" for name in _uses(pod).claims if self._storage.once(pod.namespace, name))
        anti, ports = _pod_terms(pod, "podAntiAffinity"), tuple(_ports(pod.spec))
        if not (self._social or alone or anti or ports):
            return None
        return Resident(
            name=f"{pod.namespace}/{pod.name}",
            labels=pod.labels,
            anti=anti,
            ports=ports,
            claims=alone,
            node=pod.spec.node_name,
            terminating=pod.terminating,
        )


def _want(pod: _Pod, storage: Storage) -> Want:
    reach = storage.reach(pod.namespace, _uses(pod))
    return Want(
        name=f"{pod.namespace}/{pod.name}",
        labels=pod.labels,
        anti=_pod_terms(pod, "podAntiAffinity"),
        ports=tuple(_ports(pod.spec)),
        claims=reach.alone,
        requests=_requests(pod),
        selector=pod.spec.node_selector,
        terms=asks.asked_of_nodes(pod.spec.affinity),
        tolerations=tuple(map(asks.toleration, pod.spec.tolerations)),
        affinity=_pod_terms(pod, "podAffinity"),
        spread=asks.spreads(pod.spec.topology_spread_constraints, pod.labels),
        volumes=reach.volumes,
        stuck=reach.stuck,
        unjudged=(*reach.unjudged, *_unjudged(pod)),
    )


def _pod_terms(pod: _Pod, kind: str) -> tuple[Term, ...]:
    return asks.pod_terms(pod.spec.affinity, kind, pod.namespace, pod.labels)


def _ports(spec: _Spec) -> Iterator[Port]:
    """Of containers and sidecars; init containers are gone when others could mind."""
    for container in (*spec.containers, *(one for one in spec.init_containers if one.restart_policy == "Always")):
        yield from (asks.port(port) for port in container.ports if port.get("hostPort"))


def _uses(pod: _Pod) -> Uses:
    """A volume that is made anew with its pod leaves nothing behind of the old one's claim."""
    volumes = pod.spec.volumes
    made = [volume["ephemeral"].get("volumeClaimTemplate") or {} for volume in volumes if volume.get("ephemeral")]
    return Uses(
        claims=tuple(str(volume["persistentVolumeClaim"]["claimName"]) for volume in volumes if volume.get("persistentVolumeClaim")),
        made=tuple((template.get("spec") or {}).get("storageClassName") for template in made),
    )


def _unjudged(pod: _Pod) -> Iterator[str]:
    if any(kind in volume for volume in pod.spec.volumes for kind in _IN_LINE):
        yield "volumes without a claim"
    if pod.spec.resource_claims:
        yield "device claims"
    if pod.spec.scheduler_name != _SCHEDULER:
        yield f"scheduler {pod.spec.scheduler_name}"


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
