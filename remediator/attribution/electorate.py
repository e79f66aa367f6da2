"""Who may vote, and how they vote on the rest.

A witness counts only if it is sound: it is fine with most of the others. A node that complains of everybody is a victim or a culprit, not
a witness. The sound nodes are the largest group whose members are good to one another but for a few; they vote on each node outside of it.
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
    for number in range(_ROUNDS):
        # It may grow at first and only shrinks afterwards, so that it settles.
        candidates = tally.names if number < 2 else sorted(group)
        changed = frozenset(name for name in candidates if _belongs(tally, name, group))
        if changed == group:
            break
        group = changed
    return group


def _belongs(tally: Tally, name: str, group: frozenset[str]) -> bool:
    """Whether it is good with three times as many of the group as it is bad with, by more than one single report."""
    words = {other: word for other, word in tally.pairs[name].items() if other in group}
    good = [other for other, word in words.items() if word is Word.GOOD]
    bad = len([word for word in words.values() if word is Word.BAD])
    return len(good) >= 3 * bad and sum(tally.reports(name, other)[0] for other in good[:2]) >= 2


def ballots(tally: Tally, sound: frozenset[str], hints: Iterable[Hint]) -> list[Ballot]:
    """One for each node that is not sound, the most accused first."""
    hinted = {hint.node for hint in hints}
    found = [_ballot(tally, name, sound, hinted) for name in tally.names if name not in sound]
    return sorted(found, key=lambda ballot: (-ballot.share, -len(ballot.against), ballot.node))


def _ballot(tally: Tally, name: str, sound: frozenset[str], hinted: set[str]) -> Ballot:
    votes: dict[Word | None, list[str]] = {Word.BAD: [], Word.GOOD: [], Word.MIXED: [], None: []}
    for voter in sorted(sound):
        votes[tally.vote(voter, name)].append(voter)
    # With two voters silence could as well be a coincidence beside a bad link, so there it does not count.
    mute = len(sound) > 2 and not tally.says[name] and all(tally.says[voter] for voter in sound)
    return Ballot(
        node=name,
        against=tuple(votes[Word.BAD]),
        favour=tuple(votes[Word.GOOD]),
        unsure=tuple(votes[Word.MIXED]),
        own=sum(tally.pairs[voter].get(name) is Word.BAD for voter in votes[None]),
        silent=len(votes[None]),
        reports=sum(tally.reports(voter, name)[1] for voter in votes[Word.BAD]),
        beside=("hint",) * (name in hinted) + ("mute",) * mute,
    )


def accused(ballot: Ballot, rules: Rules) -> bool:
    """Whether at least two sound nodes and most of those that voted are against it."""
    return len(ballot.against) >= 2 and ballot.share >= rules.share


def enough_heard(ballot: Ballot, others: int, rules: Rules) -> bool:
    """Whether enough is known of all ``others``: up to three others all of them, of whom evidence beside the votes can stand in for one.

    What only the accused reports of a pair is no vote, but neither is that pair unknown.
    """
    needed = others if others <= 3 else min(math.ceil(rules.heard * others), rules.heard_most)
    return ballot.heard + ballot.own + bool(ballot.beside) >= needed and 2 * len(ballot.against) >= needed
