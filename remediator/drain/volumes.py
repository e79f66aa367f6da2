"""Which volumes the pods of a node use, and whether they are detached: only a VolumeAttachment that is gone proves that.

In: pods. Out: names of PersistentVolumes. Nothing is changed. (Karpenter, node/termination/controller.go: pod, claim, volume, attachment.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.kube.records import Object, Pod, Record

if TYPE_CHECKING:
    from remediator.kube import Kube

__all__ = ["attached", "claims_of", "volumes_of"]


class _ClaimSpec(Record, frozen=True, kw_only=True):
    volume_name: str = ""


class _Claim(Object, frozen=True, kw_only=True):
    spec: _ClaimSpec = _ClaimSpec()


class _Source(Record, frozen=True, kw_only=True):
    persistent_volume_name: str = ""


class _AttachmentSpec(Record, frozen=True, kw_only=True):
    node_name: str = ""
    source: _Source = _Source()


class _Attachment(Object, frozen=True, kw_only=True):
    spec: _AttachmentSpec = _AttachmentSpec()


def claims_of(pod: Pod) -> tuple[str, ...]:
    """Names of the pod's PersistentVolumeClaims, those of generic ephemeral volumes included."""
    named = [str((volume.persistent_volume_claim or {}).get("claimName", "")) for volume in pod.spec.volumes]
    named += [f"{pod.name}-{volume.name}" for volume in pod.spec.volumes if volume.ephemeral is not None]
    return tuple(name for name in named if name)


async def volumes_of(kube: Kube, pod: Pod) -> tuple[str, ...]:
    """Names of the PersistentVolumes behind the pod's claims. Raises KubeError."""
    found = []
    for name in claims_of(pod):
        try:
            claim = await kube.get(kinds.PERSISTENT_VOLUME_CLAIM, name, pod.namespace, decode=_Claim)
        except NotFound:
            continue
        if claim.spec.volume_name:
            found.append(claim.spec.volume_name)
    return tuple(found)


async def attached(kube: Kube, node: str, volumes: frozenset[str]) -> tuple[str, ...]:
    """Those of ``volumes`` that are still attached to the node. Raises KubeError."""
    listing = await kube.list(kinds.VOLUME_ATTACHMENT, decode=_Attachment)
    here = (one.spec.source.persistent_volume_name for one in listing.items if one.spec.node_name == node)
    return tuple(sorted(volumes.intersection(here)))
