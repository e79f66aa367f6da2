"""Which version of Cilium runs here, and whether it is one of those that remediator was built and tested for.

In: the images of the agents' containers. Out: the versions, and words about what is not as expected. An unknown version refuses nothing by
itself: kinds and rights are asked of the API server, metrics of Prometheus, and what is missing there refuses with its own reason. What a
name means may have changed, though, and nothing can tell that; so people are told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from remediator.kube import kinds, records
from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.kube import Kube

__all__ = ["NEWEST", "OLDEST", "Versions", "judge", "read_versions"]

OLDEST: Final = (1, 16)
NEWEST: Final = (1, 20)
"""Metrics, kinds and their fields were compared in the sources of these and what lies between."""
AGENT: Final = "cilium-agent"
"""The agents' container (install/kubernetes/cilium/templates/cilium-agent/daemonset.yaml)."""
_TAG: Final = re.compile(r"v?(\d+)\.(\d+)(\.\d+)?(?:[-+.].*)?", re.ASCII)
_HOLDS: Final = (
    "nothing is refused for that: what the API server or Prometheus lacks refuses by itself; "
    "but keep playbooks at mode suggest until you know that they fit"
)


class Versions(Noun, frozen=True, kw_only=True):
    """What the agents run. During an upgrade there are two."""

    found: tuple[str, ...] = ()
    agents: int = 0
    """How many there are: about as many as nodes."""
    trouble: str = ""
    """What is not as expected, and what then holds; empty if all is well."""

    def __str__(self) -> str:
        return "; ".join(part for part in (", ".join(self.found), self.trouble) if part)


def judge(images: Iterable[str]) -> Versions:
    """Of the agents' images, as ``quay.io/cilium/cilium:v1.17.2@sha256:...``."""
    each = list(images)
    every = sorted(set(each))
    read = {image: _version(image) for image in every}
    known = sorted({version for version in read.values() if version is not None})
    parts = []
    if not every:
        parts.append("no agent was found, so which version of Cilium runs here is not known")
    mute = [image for image, version in read.items() if version is None]
    if mute:
        parts.append(f"the agents' image {', '.join(mute[:3])} tells no version")
    strange = [_shown(version) for version in known if not OLDEST <= version[:2] <= NEWEST]
    if strange:
        parts.append(f"Cilium {', '.join(strange)} is outside of {_shown(OLDEST)} to {_shown(NEWEST)}, which remediator was tested with")
    words = f"{' and '.join(parts)}; {_HOLDS}" if parts else ""
    return Versions(found=tuple(map(_shown, known)), agents=len(each), trouble=words)


def _version(image: str) -> tuple[int, ...] | None:
    """From the tag; a digest alone tells none."""
    _, colon, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    told = _TAG.fullmatch(tag) if colon else None
    return tuple(int(part.lstrip(".")) for part in told.groups() if part is not None) if told else None


def _shown(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


async def read_versions(kube: Kube, namespace: str, selector: str) -> Versions:
    """Of the agents that are there now. Raises KubeError."""
    pods = await kube.list(kinds.POD, namespace, labels=selector, decode=records.Pod)
    containers = [(pod, one) for pod in pods.items for one in pod.spec.containers]
    return judge(one.image for _, one in containers if one.name == AGENT)
