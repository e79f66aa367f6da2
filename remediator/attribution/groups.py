"""Several nodes are accused at once: a partition, a zone, a path of the fabric, or several bad nodes.

In: a View with at least two accused. Out: a Finding that never names one node. Dead nodes and nodes beyond a partition look the same from
here unless somebody on the other side still reports; what cannot be told apart is nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.attribution.model import Finding, Kind
from remediator.attribution.tally import Word
from remediator.attribution.views import counted, listed

if TYPE_CHECKING:
    from remediator.attribution.views import View

__all__ = ["no_shape", "shape"]

_MOSTLY = 0.8


def shape(view: View) -> Finding | None:
    """What at least two accused nodes have in common; None if there is no such thing."""
    tally, group = view.tally, tuple(sorted(ballot.node for ballot in view.blamed))
    if len(group) < 2:
        return None
    good, bad = tally.among(group)
    zone = _zone(view, frozenset(group))
    confidence = round(sum(ballot.share for ballot in view.blamed) / len(group), 3)
    about = f"{counted(len(view.sound), 'sound node')} and {listed(group)}"
    if good > bad and _is_lost(view, group):
        words = f"nothing gets through between {about}, while the latter reach one another: a partition"
        return Finding(kind=Kind.PARTITION, nodes=group, zone=zone, confidence=confidence, words=words)
    if not good + bad and 2 * len(group) >= len(tally.names) and _is_lost(view, group):
        words = (
            f"nothing gets through between {about}, who are most of the cluster: this is the small side of a partition, or they are dead"
        )
        return Finding(kind=Kind.PARTITION, nodes=group, zone=zone, confidence=round(confidence / 2, 3), words=words)
    if zone is not None:
        words = f"zone {zone} is what the bad pairs have in common: everything between {about} is bad"
        return Finding(kind=Kind.ZONE, nodes=group, zone=zone, confidence=confidence, words=words)
    if good + bad and good >= _MOSTLY * (good + bad) and not view.unclear:
        words = f"the path between {about} is bad, both sides are fine within: the fabric between them, no node"
        return Finding(kind=Kind.FABRIC, nodes=group, confidence=confidence, words=words)
    return None


def no_shape(view: View) -> Finding:
    """At least two accused nodes without anything in common."""
    group = tuple(sorted(ballot.node for ballot in view.blamed))
    if any(view.tally.among(group)):
        words = f"{counted(len(group), 'node')} are bad at the same time: {listed(group)}; one cause is not in sight"
    else:
        words = (
            f"{listed(group)} are bad to all others and do not report on one another: dead nodes and the far side of a partition look alike"
        )
    return Finding(kind=Kind.NOBODY, nodes=group, words=words)


def _is_lost(view: View, group: tuple[str, ...]) -> bool:
    bad = [(a, b) for a in group for b in view.sound if view.tally.pairs[a].get(b) is Word.BAD]
    return sum(view.tally.is_lost(a, b) for a, b in bad) >= _MOSTLY * len(bad)


def _zone(view: View, group: frozenset[str]) -> str | None:
    """The zone of at least two nodes that is the same as the accused ones (those unclear left aside), or as the sound ones."""
    unclear = {ballot.node for ballot in view.unclear}
    for side in (group, view.sound):
        zones = {view.zones.get(name, "") for name in side}
        zone = zones.pop()
        if not zones and zone and len(view.members(zone)) > 1 and view.members(zone) - unclear <= side:
            return zone
    return None
