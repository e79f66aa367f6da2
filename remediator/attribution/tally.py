"""The observations of a matrix folded into what each node says of each other one, and what the two ends together say of a pair.

In: a Matrix and the Rules. Out: words (good, bad, mixed) and counts. Left out: nodes that the matrix does not list, a node on itself,
values between clear and limit, and missing ones.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from remediator.attribution.model import Matrix, Rules

__all__ = ["Tally", "Word"]


class Word(Enum):
    """What is said of a node or a pair."""

    GOOD = auto()
    BAD = auto()
    MIXED = auto()
    """The ends, or two sources, contradict one another."""


class Tally:
    """Who says what of whom."""

    def __init__(self, matrix: Matrix, rules: Rules) -> None:
        self.names = sorted({place.name for place in matrix.nodes})
        self.overall: dict[str, Word] = {}
        """What an observer says of all its peers together (no peer named)."""
        self.lost: set[tuple[str, str]] = set()
        """Reports by which nothing gets through at all."""
        self._counts: dict[str, dict[str, list[int]]] = {name: {} for name in self.names}
        self._reports: dict[tuple[str, str], list[int]] = {}
        self._fold(matrix, rules)
        self.says = {a: {b: _word(*counts) for b, counts in said.items()} for a, said in self._counts.items()}
        self.pairs: dict[str, dict[str, Word]] = {name: {} for name in self.names}
        for a, b in self._both_ends():
            self.pairs[a][b] = self.pairs[b][a] = _together(self.says[a].get(b), self.says[b].get(a))

    def _fold(self, matrix: Matrix, rules: Rules) -> None:
        limit, clear, total = matrix.limit, matrix.limit * rules.clear, matrix.symptom.total
        for seen in matrix.observations:
            a, b, value = seen.observer, seen.peer, seen.value
            if value is None or a not in self._counts or clear < value <= limit:
                continue
            if b is None:
                self.overall[a] = Word.BAD if value > limit else Word.GOOD
                continue
            if a == b or b not in self._counts:
                continue
            self._reports.setdefault((a, b) if a < b else (b, a), [0, 0])[value > limit] += 1
            for one, other in ((a, b),) if seen.ordered else ((a, b), (b, a)):
                self._counts[one].setdefault(other, [0, 0])[value > limit] += 1
                if value >= total:
                    self.lost.add((one, other))

    def _both_ends(self) -> Iterator[tuple[str, str]]:
        for a, said in self.says.items():
            yield from ((a, b) for b in said if a < b or a not in self.says[b])

    def vote(self, voter: str, on: str) -> Word | None:
        """What ``voter`` says of ``on``; mixed if ``on`` says otherwise of it; None if it says nothing itself."""
        return self.pairs[voter].get(on) if on in self.says[voter] else None

    def reports(self, a: str, b: str) -> tuple[int, int]:
        """Single reports, from either end, by which the pair is good, and by which it is bad."""
        good, bad = self._reports.get((a, b) if a < b else (b, a), (0, 0))
        return good, bad

    def is_lost(self, a: str, b: str) -> bool:
        """Whether by every end that reports it nothing gets through between the two."""
        return all((x, y) in self.lost for x, y in ((a, b), (b, a)) if y in self.says[x])

    def between(self, group: Iterable[str], others: Iterable[str]) -> tuple[int, int]:
        """Good and bad pairs between two groups that have no node in common."""
        words = [self.pairs[a].get(b) for a in group for b in others]
        return words.count(Word.GOOD), words.count(Word.BAD)

    def among(self, group: Iterable[str]) -> tuple[int, int]:
        """Good and bad pairs within a group."""
        members = set(group)
        words = [word for a in members for b, word in self.pairs[a].items() if a < b and b in members]
        return words.count(Word.GOOD), words.count(Word.BAD)

    def bad_pairs(self) -> list[tuple[str, str]]:
        """All of them, in order."""
        return [(a, b) for a in self.names for b, word in sorted(self.pairs[a].items()) if a < b and word is Word.BAD]


def _word(good: int, bad: int) -> Word:
    if good and bad:
        return Word.MIXED
    return Word.BAD if bad else Word.GOOD


def _together(one: Word | None, other: Word | None) -> Word:
    if one is None or other is None:
        return one or other or Word.MIXED
    return one if one is other else Word.MIXED
