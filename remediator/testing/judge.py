"""What somebody did to a cluster, from its request log, and whether that was right, by the truth of a scenario. Pure.

``deeds`` reads the log: what took effect and disturbs, or gives back, with its target. ``judge`` holds it against the truth: what disturbs
and is not allowed is wrong, and so is what the truth forbids by name. Notes, Events, Leases and dry runs disturb nobody and are no deeds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from remediator.sim.routing import LABEL
from remediator.sim.scenarios import Act

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime, timedelta

    from remediator.sim.calls import Logged
    from remediator.sim.scenarios import May, Truth

__all__ = ["MARKS", "Deed", "Place", "Score", "deeds", "judge", "tries"]

_DRAIN = "remediator.dev/bgp-drain"
MARKS = ("events", "leases.coordination.k8s.io", "events.events.k8s.io")
_WORKLOADS = {"deployments.apps": "Deployment", "daemonsets.apps": "DaemonSet", "statefulsets.apps": "StatefulSet"}


@dataclass(frozen=True)
class Place:
    """Where a pod was, and whether it was a Cilium agent."""

    node: str
    agent: bool = False


@dataclass(frozen=True)
class Deed:
    """One thing that was done."""

    at: datetime
    act: Act
    target: str
    """``Kind/[namespace/]name``"""
    what: str = ""
    """The pod, where the target is its node."""
    why: str = field(default="", compare=False)
    """Of what is wrong: why it is."""

    def __str__(self) -> str:
        """For people."""
        what = f" ({self.what})" if self.what else ""
        return f"{self.at:%H:%M:%S} {self.act} {self.target}{what}{f': WRONG, {self.why}' if self.why else ''}"


@dataclass(frozen=True)
class Score:
    """How somebody did in one scenario."""

    scenario: str
    healable: bool
    wrong: tuple[Deed, ...]
    """What should not have been done."""
    done: tuple[Deed, ...]
    healed_after: timedelta | None
    """From the moment in which it broke, on the simulated clock; None: not healed, or broken again at the end."""
    calls: int
    """Requests to the API server."""
    claims: tuple[str, ...] = ()
    """Runs that are recorded as healed while the cluster was not whole."""

    @property
    def healed(self) -> bool:
        """Whether it was whole at the end."""
        return self.healed_after is not None


def judge(truth: Truth, done: Iterable[Deed], *, broke: datetime) -> tuple[Deed, ...]:
    """What of that was wrong, oldest first."""
    wrong: list[Deed] = []
    used: Counter[May] = Counter()
    for deed in sorted(done, key=lambda deed: deed.at):
        permit = next((may for may in truth.may if _covers(may, deed, broke) and not 0 < may.most <= used[may]), None)
        no = next((no for no in truth.must_not if no.act in (None, deed.act) and fnmatchcase(deed.target, no.target)), None)
        if no is not None:
            wrong.append(replace(deed, why=no.because))
        elif permit is not None:
            used[permit] += 1
        elif deed.act.disruptive:
            wrong.append(replace(deed, why="it is not among what is right, or too early, or once too often"))
    return tuple(wrong)


def _covers(may: May, deed: Deed, broke: datetime) -> bool:
    return may.act is deed.act and fnmatchcase(deed.target, may.target) and deed.at >= broke + may.after


# --- reading the log -------------------------------------------------------------------------------------------------


def deeds(log: Iterable[Logged], pods: Mapping[tuple[str, str], Place]) -> tuple[Deed, ...]:
    """What took effect. ``pods``: namespace and name of every pod that ever was, and where."""
    return tuple(deed for entry in log if entry.service == "kubernetes" and entry.writes for deed in _deeds(entry, pods))


def _deeds(entry: Logged, pods: Mapping[tuple[str, str], Place]) -> Iterator[Deed]:
    if entry.resource in MARKS or tries(entry.body):
        return
    if entry.resource == "pods":
        yield from _on_pod(entry, pods)
    elif entry.resource == "nodes":
        for act in _on_node(entry):
            yield Deed(entry.at, act, f"Node/{entry.name}")
    elif entry.resource in _WORKLOADS:
        yield Deed(entry.at, Act.ROLLOUT, f"{_WORKLOADS[entry.resource]}/{entry.namespace}/{entry.name}")
    else:
        yield Deed(entry.at, Act.OTHER, "/".join(part for part in (entry.resource, entry.namespace, entry.name) if part))


def _on_pod(entry: Logged, pods: Mapping[tuple[str, str], Place]) -> Iterator[Deed]:
    place = pods.get((entry.namespace, entry.name), Place("?"))
    target, what = f"Node/{place.node}", f"{entry.namespace}/{entry.name}"
    if entry.subresource == "eviction":
        yield Deed(entry.at, Act.EVICT, target, what)
    elif entry.verb == "delete":
        yield Deed(entry.at, Act.RESTART_AGENT if place.agent else Act.DELETE_POD, target, what)
    else:
        yield Deed(entry.at, Act.OTHER, target, what)


def _on_node(entry: Logged) -> Iterator[Act]:
    if entry.verb not in ("patch", "update"):
        yield Act.OTHER
        return
    for path, value in _altered(entry.body):
        match path:
            case ("spec", "unschedulable"):
                yield Act.CORDON if value else Act.UNCORDON
            case ("spec", "taints", *_):
                yield Act.TAINT
            case ("metadata", "labels", label):
                yield _labelled(label, value)
            case ("metadata", *_):
                pass  # notes
            case _:
                yield Act.OTHER


def _labelled(label: str, value: Any) -> Act:
    if label == _DRAIN:
        return Act.WITHDRAW if value is not None else Act.ANNOUNCE
    if label in LABEL:
        return Act.ANNOUNCE if value == LABEL[label] else Act.WITHDRAW
    return Act.OTHER


def _altered(body: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and new value (None: taken away) of everything that a patch alters: a JSON patch, or a merge of some kind."""
    if isinstance(body, list):
        for operation in body:
            if operation.get("op") in ("add", "replace", "remove"):
                path = tuple(part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
                value = operation.get("value")
                yield from _leaves(path, value) if isinstance(value, dict) else [(path, value)]
    elif isinstance(body, dict):
        yield from _leaves((), {part: body[part] for part in ("metadata", "spec") if part in body})


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves((*path, key), inner)
    else:
        yield path, value


def tries(body: Any) -> bool:
    """Whether it is a dry run by its body, as evictions say it."""
    return isinstance(body, dict) and bool((body.get("deleteOptions") or {}).get("dryRun") or body.get("dryRun"))
