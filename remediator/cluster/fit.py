"""Whether pods that leave a node fit elsewhere, as the scheduler judges. Pure.

In: the pods that would move, what each other node has left, and who is there. Out: where each pod found a place, which found none, and what
could not be judged. The largest pod goes first, to the fullest node that takes it, so that free nodes stay free for those that need them;
a pod that waits for others is tried again when some have come. That may miss a way to fit them all, never claim one that is none.
Judged: requests, node selector and affinity, taints, affinity to pods both ways, spread, volumes' topology, host ports.
Left out: device claims, attach limits of volumes, what other schedulers think, preemption, autoscalers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from remediator.cluster.neighbours import Neighbours
from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.cluster.constraints import Load, Offer, Want

__all__ = ["Fit", "fit", "shortened"]


class Fit(Noun, frozen=True, kw_only=True):
    """How it went."""

    places: dict[str, str] = {}  # noqa: RUF012 - msgspec copies defaults
    """The node of each pod that found one, in the order in which they went."""
    homeless: dict[str, str] = {}  # noqa: RUF012 - as above
    """Pods without a place, each with why."""
    unjudged: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - as above


def fit(load: Load, headroom: float) -> Fit:
    """Place every pod. ``headroom``: the part of each node that must stay free of requests."""
    moving = _Moving(load, headroom)
    waiting = sorted(load.wants, key=_size, reverse=True)
    while waiting:
        left = [pod for pod in waiting if not moving.place(pod)]
        waiting = [pod for pod in left if pod.waits_for_others] if len(left) < len(waiting) else []
    return Fit(places=moving.places, homeless=moving.homeless, unjudged={pod.name: pod.unjudged for pod in load.wants if pod.unjudged})


class _Moving:
    """Pods on their way, one after the other."""

    def __init__(self, load: Load, headroom: float) -> None:
        self.places: dict[str, str] = {}
        self.homeless: dict[str, str] = {}
        self._around = Neighbours(load)
        self._offers = sorted(load.offers, key=_fullness, reverse=True)
        self._room = {
            node.name: {key: size * (1 - headroom) - node.used.get(key, 0) for key, size in node.allocatable.items()}
            for node in load.offers
        }

    def place(self, pod: Want) -> bool:
        """Whether it found a place; why not is kept."""
        company = self._around.company(pod)
        against: Counter[str] = Counter()
        for node in self._offers:
            why = self._static(pod, node) or self._full(pod, node) or company.against(node)
            if not why:
                self._take(pod, node)
                return True
            against[why] += 1
        self.homeless[pod.name] = pod.stuck or _words(against)
        return False

    def _static(self, pod: Want, node: Offer) -> str:
        if pod.stuck or not pod.likes(node) or not pod.bears(node):
            return _FOREIGN
        return "" if pod.reaches(node) else "its volumes are not reached"

    def _full(self, pod: Want, node: Offer) -> str:
        return "" if _holds(self._room[node.name], pod.requests) else "no room"

    def _take(self, pod: Want, node: Offer) -> None:
        self.places[pod.name] = node.name
        self.homeless.pop(pod.name, None)
        self._around.add(pod, node.name)
        for key, size in pod.requests.items():
            if size > 0:
                self._room[node.name][key] -= size


_NEARLY = 1 - 1e-9
"""1.5 CPUs less 0.3 less 0.9 are a little less than 0.3."""
_FOREIGN = "it may not run"


def _words(against: Counter[str]) -> str:
    """By how many nodes each reason holds; nodes that its selectors and their taints leave out are not told."""
    told = [f"{why} on {count} nodes that it may run on" for why, count in sorted(against.items()) if why != _FOREIGN]
    return ", ".join(told) or "no other node may run it"


def _size(pod: Want) -> tuple[float, float, str]:
    return pod.requests.get("memory", 0), pod.requests.get("cpu", 0), pod.name


def _fullness(node: Offer) -> tuple[float, float]:
    """Of memory first, as with pods."""
    memory, cpu = (node.used.get(key, 0) / (node.allocatable.get(key, 0) or 1) for key in ("memory", "cpu"))
    return memory, cpu


def _holds(room: Mapping[str, float], requests: Mapping[str, float]) -> bool:
    return all(room.get(key, 0) >= size * _NEARLY for key, size in requests.items() if size > 0)


def shortened(items: Iterable[str], most: int = 5) -> str:
    """The first of them, and how many more."""
    found = list(items)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
