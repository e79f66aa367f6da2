"""Who may vote, and how they vote on the rest.

A witness counts only if it is sound: it is fine with most of the others. A node that complains of everybody is a victim or a culprit, not
a witness. The sound nodes are the largest group whose members are mostly good to one another; they vote on each node outside of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from remediator.attribution.model import Ballot
from remediator.attribution.tally import Tally, Word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.attribution.model import Hint, Rules

__all__ = ["accused", "ballots", "enough_heard", "sound_nodes"]

_ROUNDS = 6


def sound_nodes(tally: Tally) -> frozenset[str]:
    """The largest group found whose members are mostly good to one another; empty if no pair is good."""
    friends = {name: {b for b, word in said.items() if word is Word.GOOD} for name, said in tally.pairs.items()}
    if not any(friends.values()):
        return frozenset()
    first = max(tally.names, key=lambda name: len(friends[name]))
    group = frozenset(friends[first] | {first})
    for _ in range(_ROUNDS):
        changed = frozenset(name for name in tally.names if _belongs(tally, name, group))
        if changed == group:
            break
        group = changed
    return group


def _belongs(tally: Tally, name: str, group: frozenset[str]) -> bool:
    words = [word for other, word in tally.pairs[name].items() if other in group]
    good, bad = words.count(Word.GOOD), words.count(Word.BAD)
    return good > 0 and good >= bad


def ballots(tally: Tally, sound: frozenset[str], hints: Iterable[Hint]) -> list[Ballot]:
    """One for each node that is not sound, the most accused first."""
    hinted: dict[str, int] = {}
    for hint in hints:
        hinted[hint.node] = hinted.get(hint.node, 0) + 1
    found = [_ballot(tally, name, sound, hinted.get(name, 0)) for name in tally.names if name not in sound]
    return sorted(found, key=lambda ballot: (-ballot.share, -len(ballot.against), ballot.node))


def _ballot(tally: Tally, name: str, sound: frozenset[str], hints: int) -> Ballot:
    votes: dict[Word | None, list[str]] = {Word.BAD: [], Word.GOOD: [], Word.MIXED: [], None: []}
    for voter in sorted(sound):
        votes[tally.vote(voter, name)].append(voter)
    return Ballot(
        node=name,
        against=tuple(votes[Word.BAD]),
        favour=tuple(votes[Word.GOOD]),
        unsure=tuple(votes[Word.MIXED]),
        silent=len(votes[None]),
        reports=sum(tally.reports(voter, name) for voter in votes[Word.BAD]) + min(hints, 1),
    )


def accused(ballot: Ballot, rules: Rules) -> bool:
    """Whether at least two sound nodes and most of those that voted are against it."""
    return len(ballot.against) >= 2 and ballot.share >= rules.share


def enough_heard(ballot: Ballot, others: int, rules: Rules, *, hinted: bool) -> bool:
    """Whether enough of all ``others`` voted; up to three others all of them must have, of whom a hint can stand in for one."""
    needed = others if others <= 3 else min(math.ceil(rules.heard * others), rules.heard_most)
    return ballot.heard + hinted >= needed and 2 * len(ballot.against) >= min(others, needed)
