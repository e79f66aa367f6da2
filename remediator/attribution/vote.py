"""The judgement: which explanation fits what was observed between the nodes.

In: a Matrix, hints of other open episodes, the Rules. Out: a Finding. Pure. A node is blamed only if every other explanation is ruled out:
the sound nodes agree on it and on nobody else, they are most of the cluster, enough of them were heard, the rest is quiet, and its zone
works without it. Whatever falls short is nobody, with the matrix attached, and the words say which of these it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.attribution import groups, links
from remediator.attribution.electorate import accused, ballots, enough_heard, sound_nodes
from remediator.attribution.model import Ballot, Finding, Hint, Kind, Matrix, Rules
from remediator.attribution.table import table
from remediator.attribution.tally import Tally, Word
from remediator.attribution.views import View, counted, listed
from remediator.model import evolve

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["judge"]

_MOST_BALLOTS = 20
_DEFAULT = Rules()


def judge(matrix: Matrix, hints: Iterable[Hint] = (), rules: Rules = _DEFAULT) -> Finding:
    """What explains ``matrix``."""
    tally = Tally(matrix, rules)
    sound = sound_nodes(tally)
    all_ballots = ballots(tally, sound, hints)
    view = View(
        matrix=matrix,
        rules=rules,
        tally=tally,
        sound=sound,
        blamed=tuple(b for b in all_ballots if accused(b, rules)),
        unclear=tuple(b for b in all_ballots if not accused(b, rules)),
    )
    found = _explain(view)
    attached = None if found.kind is Kind.NODE else table(matrix)
    return evolve(found, sound=len(sound), ballots=tuple(all_ballots[:_MOST_BALLOTS]), matrix=attached)


def _explain(view: View) -> Finding:
    if not view.tally.bad_pairs():
        return _no_bad_pair(view)
    if (spread := view.all_over()) is not None and groups.shape(view) is None:
        bad, total = spread
        words = f"{bad} of {total} pairs are bad, all over the cluster"
        return Finding(kind=Kind.FABRIC, confidence=round(bad / total, 3), words=words)
    if len(view.blamed) == 1:
        return _one_accused(view, view.blamed[0])
    if view.blamed:
        return groups.shape(view) or groups.no_shape(view)
    return links.explain(view)


def _no_bad_pair(view: View) -> Finding:
    tally = view.tally
    if any(tally.pairs.values()):
        lone = [name for name in tally.names if _only_it_complains(tally, name)]
        if lone:
            words = f"only {listed(lone)} itself reports trouble, its peers see none towards it: its own prober is suspect, not the network"
            return Finding(kind=Kind.NOBODY, nodes=tuple(lone), words=words)
        return Finding(kind=Kind.NOBODY, words="no pair is bad by every end that reports it")
    slow = [name for name, word in sorted(tally.overall.items()) if word is Word.BAD]
    if slow:
        words = f"{listed(slow)} see trouble towards their peers, but which peers is not measured: an observer is named, not a culprit"
        return Finding(kind=Kind.NOBODY, nodes=tuple(slow), words=words)
    return Finding(kind=Kind.NOBODY, words="nothing was observed between any two nodes")


def _only_it_complains(tally: Tally, name: str) -> bool:
    said = list(tally.says[name].values())
    return len(said) >= 2 and 2 * said.count(Word.BAD) > len(said)


def _one_accused(view: View, ballot: Ballot) -> Finding:
    """The node, if nothing stands against it; else nobody, and why."""
    doubt = _doubt(view, ballot)
    voted = f"{len(ballot.against)} of {ballot.heard} sound nodes that voted say that {ballot.node} is bad"
    if doubt:
        return Finding(kind=Kind.NOBODY, nodes=(ballot.node,), words=f"{voted}, but {doubt}")
    others = len(view.tally.names) - 1
    words = f"{voted}, and they are fine with one another: {len(view.sound)} of {others} other nodes are sound"
    confidence = round(ballot.share * min(1.0, len(view.sound) / others), 3)
    return Finding(kind=Kind.NODE, node=ballot.node, nodes=(ballot.node,), confidence=confidence, words=words)


def _doubt(view: View, ballot: Ballot) -> str:
    """Why this node is not blamed; empty if it is."""
    rules, total = view.rules, len(view.tally.names)
    unclear = [b.node for b in view.unclear]
    if len(unclear) > int(rules.unclear * total):
        return f"{listed(unclear)} cannot be cleared"
    if 2 * len(view.sound) <= total:
        return f"only {len(view.sound)} of {counted(total, 'node')} are sound, so it may be us who are on the wrong side"
    if not enough_heard(ballot, total - 1, rules):
        return f"only {ballot.heard} of {counted(total - 1, 'other node')} voted"
    if ballot.reports + 2 * bool(ballot.beside) < rules.reports:
        return f"only {counted(ballot.reports, 'report')} speak against it; {rules.reports} are needed"
    good, bad = view.tally.among(view.sound)
    if bad > rules.stray * (good + bad):
        return f"{bad} of {good + bad} pairs among the others are bad, too"
    return _doubt_of_its_zone(view, ballot.node)


def _doubt_of_its_zone(view: View, node: str) -> str:
    """A node is told apart from its zone only if the zone reaches the others without it."""
    zone = view.zones.get(node, "")
    inside = {name for name in view.sound if view.zones.get(name) == zone}
    outside = view.sound - inside
    if not zone or not outside:
        return ""
    if view.members(zone) - {node}:
        good, bad = view.tally.between(inside, outside)
        return "" if good > bad else f"no other node of zone {zone} is seen to reach the other zones"
    # Alone in its zone: then the other zones must be seen to reach one another, or it is one path between two zones.
    return (
        ""
        if _zones_reach_one_another(view, outside)
        else f"it is alone in zone {zone}, and no other two zones are seen to reach one another"
    )


def _zones_reach_one_another(view: View, nodes: frozenset[str]) -> bool:
    zones = {view.zones.get(name, "") for name in nodes}
    return any(
        view.tally.pairs[a].get(b) is Word.GOOD
        for zone in zones
        for a in nodes
        if view.zones.get(a) == zone
        for b in nodes
        if view.zones.get(b) != zone
    )
