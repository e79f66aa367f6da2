"""Whether pods that leave a node fit elsewhere, as the scheduler judges by requests, node selectors, node affinity and taints. Pure.

In: the pods that would move, and what each other node has left. Out: which pods found no place, and what could not be judged.
The largest pod goes first, to the first node that takes it: that may miss a way to fit them all, never claim one that is none.
Not judged, and said: pod affinity, spread, volumes' topology, host ports, device claims, preemption, autoscalers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Fit", "Load", "Offer", "Requirement", "Taint", "Toleration", "Want", "fit", "shortened"]


class Taint(Noun, frozen=True, kw_only=True):
    """Of a node."""

    key: str
    value: str = ""
    effect: str = ""


class Toleration(Noun, frozen=True, kw_only=True):
    """Of a pod (core/v1 Toleration, ToleratesTaint)."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether the taint does not keep the pod off."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        return self.operator == "Exists" or (self.operator in ("", "Equal") and bool(self.key) and self.value == taint.value)


class Requirement(Noun, frozen=True, kw_only=True):
    """One expression of a node selector term."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def met(self, labels: Mapping[str, str]) -> bool:  # noqa: PLR0911 - one for each operator
        """Whether a node with these labels fits; an operator that is unknown here fits none."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                if value is None or not value.lstrip("-").isdecimal() or not self.values or not self.values[0].lstrip("-").isdecimal():
                    return False
                return int(value) > int(self.values[0]) if self.operator == "Gt" else int(value) < int(self.values[0])
            case _:
                return False


class Want(Noun, frozen=True, kw_only=True):
    """A pod that has to go somewhere else."""

    name: str
    requests: dict[str, float] = {}  # noqa: RUF012 - msgspec copies defaults
    selector: dict[str, str] = {}  # noqa: RUF012 - as above
    terms: tuple[tuple[Requirement, ...], ...] = ()
    """Required node affinity: one of them must be met whole."""
    tolerations: tuple[Toleration, ...] = ()
    unjudged: tuple[str, ...] = ()
    """What else it asks for that nobody looks at here."""

    def accepts(self, node: Offer) -> bool:
        """Whether it may run there, room aside."""
        if any(node.labels.get(key) != value for key, value in self.selector.items()):
            return False
        if self.terms and not any(all(one.met(node.labels) for one in term) for term in self.terms):
            return False
        hard = (taint for taint in node.taints if taint.effect in ("NoSchedule", "NoExecute"))
        return all(any(toleration.tolerates(taint) for toleration in self.tolerations) for taint in hard)


class Offer(Noun, frozen=True, kw_only=True):
    """A node that could take pods: Ready, not cordoned, not on its way out."""

    name: str
    labels: dict[str, str] = {}  # noqa: RUF012 - as above
    taints: tuple[Taint, ...] = ()
    allocatable: dict[str, float] = {}  # noqa: RUF012 - as above
    used: dict[str, float] = {}  # noqa: RUF012 - as above


class Load(Noun, frozen=True, kw_only=True):
    """What would move, and where it could go."""

    wants: tuple[Want, ...] = ()
    offers: tuple[Offer, ...] = ()


class Fit(Noun, frozen=True, kw_only=True):
    """How it went."""

    homeless: dict[str, str] = {}  # noqa: RUF012 - as above
    """Pods without a place, each with why."""
    unjudged: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - as above


def fit(load: Load, headroom: float) -> Fit:
    """Place every pod. ``headroom``: the part of each node that must stay free of requests."""
    room = {
        node.name: {key: size * (1 - headroom) - node.used.get(key, 0) for key, size in node.allocatable.items()} for node in load.offers
    }
    homeless: dict[str, str] = {}
    for pod in sorted(load.wants, key=_size, reverse=True):
        possible = [node.name for node in load.offers if pod.accepts(node)]
        place = next((name for name in possible if _holds(room[name], pod.requests)), None)
        if place is None:
            homeless[pod.name] = f"no room on {len(possible)} nodes that it may run on" if possible else "no other node may run it"
            continue
        for key, size in pod.requests.items():
            room[place][key] -= size
    return Fit(homeless=homeless, unjudged={pod.name: pod.unjudged for pod in load.wants if pod.unjudged})


def _size(pod: Want) -> tuple[float, float, str]:
    return pod.requests.get("memory", 0), pod.requests.get("cpu", 0), pod.name


def _holds(room: Mapping[str, float], requests: Mapping[str, float]) -> bool:
    return all(room.get(key, 0) >= size for key, size in requests.items() if size > 0)


def shortened(items: Iterable[str], most: int = 5) -> str:
    """The first of them, and how many more."""
    found = list(items)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
