"""A matrix as a person reads it and a record keeps it: one row an observer, one column a peer, the worst value of each, bounded in size.

In: a Matrix of any size. Out: a Table of at most 40 nodes, those with the most bad values first chosen; the rest is only counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from remediator.attribution.model import Table

if TYPE_CHECKING:
    from remediator.attribution.model import Matrix

__all__ = ["table"]

_MOST: Final = 40


def table(matrix: Matrix) -> Table:
    """The part of ``matrix`` that fits."""
    worst: dict[tuple[str, str], float] = {}
    for seen in matrix.observations:
        if seen.peer is not None and seen.value is not None:
            for pair in ((seen.observer, seen.peer),) if seen.ordered else ((seen.observer, seen.peer), (seen.peer, seen.observer)):
                worst[pair] = max(seen.value, worst.get(pair, seen.value))
    bad = Counter(name for pair, value in worst.items() if value > matrix.limit for name in pair)
    names = sorted({place.name for place in matrix.nodes}, key=lambda name: (-bad[name], name))
    shown = sorted(names[:_MOST])
    return Table(
        symptom=matrix.symptom,
        limit=matrix.limit,
        at=matrix.at,
        nodes=tuple(shown),
        rows=tuple(tuple(_short(worst.get((a, b))) for b in shown) for a in shown),
        left_out=len(names) - len(shown),
        sources=tuple(sorted({seen.source for seen in matrix.observations})),
        gaps=matrix.gaps,
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
