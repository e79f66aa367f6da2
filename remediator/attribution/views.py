"""What all explanations look at: the tally, who is sound, who is accused, who is neither; and small words for sentences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.attribution.model import Ballot, Matrix, Rules
    from remediator.attribution.tally import Tally

__all__ = ["View", "counted", "listed"]

_MOST_NAMES = 5


@dataclass(frozen=True, kw_only=True)
class View:
    """One matrix, folded and voted on."""

    matrix: Matrix
    rules: Rules
    tally: Tally
    sound: frozenset[str]
    blamed: tuple[Ballot, ...]
    """Nodes that the sound ones accuse."""
    unclear: tuple[Ballot, ...]
    """Nodes that are neither sound nor accused."""

    @cached_property
    def zones(self) -> dict[str, str]:
        """Zone of each node; empty if it is not known."""
        return {place.name: place.zone for place in self.matrix.nodes}

    def all_over(self) -> tuple[int, int] | None:
        """Bad pairs and all pairs, if at least half are bad, also among those that are not sound, who are most, and no node is in all."""
        bad, total = self.tally.bad_pairs(), sum(map(len, self.tally.pairs.values())) // 2
        common = set(bad[0]).intersection(*bad) if bad else set()
        others = set(self.tally.names) - self.sound
        spread = (
            self.tally.among(others)[1] > 0 and 2 * len(bad) >= total > 0 and not common and 2 * len(self.sound) < len(self.tally.names)
        )
        return (len(bad), total) if spread else None

    def members(self, zone: str) -> frozenset[str]:
        """All nodes of a zone."""
        return frozenset(name for name, its in self.zones.items() if its == zone)


def listed(names: Sequence[str]) -> str:
    """The names, at most five of them."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def counted(count: int, what: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
