"""Reads from where the volumes of pods can be reached: claim, PersistentVolume, StorageClass.

In: the door to Kubernetes, and for each pod its claims and the classes of volumes that are made anew with it. Out: a Storage that answers
for one pod. Raised: KubeError. One list of claims, one of volumes, one of classes, each only if some pod needs it.
A claim that is bound asks for its volume's node affinity and its labels of zone and region (plugin volumezone); one that waits for
its pod asks for the ``allowedTopologies`` of its class (volumebinding).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from remediator.cluster.asks import node_terms
from remediator.cluster.constraints import Requirement
from remediator.kube import kinds
from remediator.kube.records import Object, Record
from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from remediator.kube import Kube

    Terms = tuple[tuple[Requirement, ...], ...]

T = TypeVar("T")

__all__ = ["Reach", "Storage", "Uses", "read_storage"]

_ZONES = {
    "topology.kubernetes.io/zone": "",
    "topology.kubernetes.io/region": "",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
"""Labels of volumes and of nodes, each with what a node may have in its place."""
_BETWEEN = "__"
"""Stands between several zones in the label of one volume (k8s.io/cloud-provider/volume/constants.go)."""
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


class _ClaimSpec(Record, frozen=True, kw_only=True):
    volume_name: str = ""
    access_modes: tuple[str, ...] = ()
    storage_class_name: str = ""


class _Phase(Record, frozen=True, kw_only=True):
    phase: str = ""


class _Claim(Object, frozen=True, kw_only=True):
    spec: _ClaimSpec = _ClaimSpec()
    status: _Phase = _Phase()

    @property
    def storage_class(self) -> str:
        return self.annotations.get(_OLD_CLASS) or self.spec.storage_class_name


class _Affinity(Record, frozen=True, kw_only=True):
    required: dict[str, Any] | None = None


class _VolumeSpec(Record, frozen=True, kw_only=True):
    node_affinity: _Affinity | None = None


class _Volume(Object, frozen=True, kw_only=True):
    spec: _VolumeSpec = _VolumeSpec()


class _Class(Object, frozen=True, kw_only=True):
    volume_binding_mode: str = "Immediate"
    allowed_topologies: tuple[dict[str, Any], ...] = ()


class Uses(Noun, frozen=True, kw_only=True):
    """What one pod uses."""

    claims: tuple[str, ...] = ()
    """Their names, in the pod's namespace."""
    made: tuple[str | None, ...] = ()
    """Classes of generic ephemeral volumes, which are made anew with the pod; None where it names none."""

    def __bool__(self) -> bool:
        return bool(self.claims or self.made)


class Reach(Noun, frozen=True, kw_only=True):
    """From where a pod's volumes can be reached."""

    volumes: tuple[Terms, ...] = ()
    alone: tuple[str, ...] = ()
    """``namespace/name`` of claims for one pod alone."""
    stuck: str = ""
    unjudged: tuple[str, ...] = ()


class Storage:
    """Claims, volumes and classes at one moment."""

    def __init__(self, claims: Iterable[_Claim], volumes: Iterable[_Volume], classes: Iterable[_Class]) -> None:
        self._claims = {(claim.namespace, claim.name): claim for claim in claims}
        self._volumes = {volume.name: volume for volume in volumes}
        self._classes = {one.name: one for one in classes}
        self._default = next((one for one in self._classes.values() if one.annotations.get(_DEFAULT) == "true"), None)

    def once(self, namespace: str, name: str) -> bool:
        """Whether one pod alone may use the claim."""
        claim = self._claims.get((namespace, name))
        return claim is not None and "ReadWriteOncePod" in claim.spec.access_modes

    def reach(self, namespace: str, uses: Uses) -> Reach:
        """What the volumes of a pod ask for."""
        found = [self._claim(namespace, name) for name in uses.claims] + [self._made(name) for name in uses.made]
        return Reach(
            volumes=tuple(volume for one in found for volume in one.volumes),
            alone=tuple(f"{namespace}/{name}" for name in uses.claims if self.once(namespace, name)),
            stuck="; ".join(one.stuck for one in found if one.stuck),
            unjudged=tuple(sorted({words for one in found for words in one.unjudged})),
        )

    def _claim(self, namespace: str, name: str) -> Reach:
        claim = self._claims.get((namespace, name))
        if claim is None:
            return Reach(unjudged=("claims that are not there",))
        if claim.terminating or claim.status.phase == "Lost":
            return Reach(stuck=f"its claim {name} is {'being deleted' if claim.terminating else 'lost'}")
        if not claim.spec.volume_name:
            return self._made(claim.storage_class)
        volume = self._volumes.get(claim.spec.volume_name)
        if volume is None:
            return Reach(stuck=f"the volume {claim.spec.volume_name} of its claim {name} does not exist")
        return Reach(volumes=tuple(_asks(volume)))

    def _made(self, name: str | None) -> Reach:
        """Of a volume that does not exist yet."""
        one = self._default if name is None else self._classes.get(name)
        if one is None:
            return Reach(unjudged=("volumes of an unknown class",))
        if one.volume_binding_mode != "WaitForFirstConsumer":
            return Reach(unjudged=("volumes that are bound before their pod has a node",))
        terms = tuple(filter(None, map(_topology, one.allowed_topologies)))
        return Reach(volumes=(terms,) if terms else (), unjudged=("volumes that are still to be made",))


def _topology(term: Mapping[str, Any]) -> tuple[Requirement, ...]:
    expressions = term.get("matchLabelExpressions") or ()
    return tuple(Requirement(key=str(one["key"]), operator="In", values=tuple(one.get("values") or ())) for one in expressions)


def _asks(volume: _Volume) -> Iterator[Terms]:
    if affinity := node_terms(volume.spec.node_affinity.required if volume.spec.node_affinity else None):
        yield affinity
    for key, now in _ZONES.items():
        if key in volume.labels:
            yield tuple(_zone(key, now, tuple(volume.labels[key].split(_BETWEEN))))


def _zone(key: str, now: str, values: tuple[str, ...]) -> Iterator[tuple[Requirement, ...]]:
    """A node without any such label is taken for one of the only zone."""
    yield (Requirement(key=key, operator="In", values=values),)
    yield tuple(Requirement(key=each, operator="DoesNotExist") for each in _ZONES)
    if now:
        yield Requirement(key=key, operator="DoesNotExist"), Requirement(key=now, operator="In", values=values)


async def read_storage(kube: Kube, used: Iterable[tuple[str, Uses]]) -> Storage:
    """What stands behind what is ``used``: for each pod its namespace and its uses."""
    wanted = [(namespace, uses) for namespace, uses in used if uses]
    names = {(namespace, name) for namespace, uses in wanted for name in uses.claims}
    if not wanted:
        return Storage((), (), ())
    claims = [claim for claim in (await _claims(kube, {namespace for namespace, _ in names})) if (claim.namespace, claim.name) in names]
    bound = any(claim.spec.volume_name for claim in claims)
    loose = any(uses.made for _, uses in wanted) or any(not claim.spec.volume_name for claim in claims)
    volumes, classes = await asyncio.gather(
        _listed(kube, kinds.PERSISTENT_VOLUME, _Volume, wanted=bound), _listed(kube, kinds.STORAGE_CLASS, _Class, wanted=loose)
    )
    return Storage(claims, volumes, classes)


async def _claims(kube: Kube, namespaces: set[str]) -> list[_Claim]:
    """Of the one namespace that is concerned, or of all."""
    if not namespaces:
        return []
    one = next(iter(namespaces)) if len(namespaces) == 1 else ""
    return (await kube.list(kinds.PERSISTENT_VOLUME_CLAIM, one, decode=_Claim)).items


async def _listed(kube: Kube, kind: kinds.Kind, record: type[T], *, wanted: bool) -> list[T]:
    return (await kube.list(kind, decode=record)).items if wanted else []
