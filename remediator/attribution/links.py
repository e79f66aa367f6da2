"""Pairs are bad but no node is accused: one link, or nothing that can be named.

In: a View without accused nodes. Out: a Finding link or nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.attribution.model import Finding, Kind
from remediator.attribution.tally import Word
from remediator.attribution.views import counted, listed

if TYPE_CHECKING:
    from remediator.attribution.views import View

__all__ = ["explain"]

_STRAY = 0.05
"""Of all pairs at most that many may be bad beside the link."""


def explain(view: View) -> Finding:
    """What bad pairs without an accused node mean."""
    tally, bad = view.tally, view.tally.bad_pairs()
    confirmed = [pair for pair in bad if pair[1] in tally.says[pair[0]] and pair[0] in tally.says[pair[1]]]
    total = sum(map(len, tally.pairs.values())) // 2
    link = confirmed[0] if len(confirmed) == 1 else bad[0] if len(bad) == 1 else None
    if link is not None and len(bad) - 1 <= _STRAY * total and all(_fine_elsewhere(view, end, link) for end in link):
        words = f"only the link between {link[0]} and {link[1]} is bad; both ends are fine with the others"
        confidence = min(1.0, tally.reports(*link)[1] / 2)
        return Finding(kind=Kind.LINK, nodes=link, confidence=confidence, words=words)
    suspects = tuple(ballot.node for ballot in view.unclear if ballot.against)
    named = f", most of all towards {listed(suspects)}" if suspects else ""
    return Finding(kind=Kind.NOBODY, nodes=suspects, words=f"{counted(len(bad), 'pair')} of {total} are bad{named}; no node is agreed upon")


def _fine_elsewhere(view: View, end: str, link: tuple[str, str]) -> bool:
    words = [word for other, word in view.tally.pairs[end].items() if other not in link]
    return words.count(Word.GOOD) > 3 * words.count(Word.BAD)
