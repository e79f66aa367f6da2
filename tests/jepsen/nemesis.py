"""What is done to the replicas, and when: drawn from a seed alone, so that a trial can be repeated.

Whom a strike at the leader meets is known only when it strikes; everything else stands beforehand.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["KINDS", "LEADER", "Strike", "schedule"]

LEADER = -1
"""In place of a replica's number: whoever leads then."""
KINDS = {
    "kill": (0.5, 6.0),
    "pause": (0.5, 20.0),
    "sessions": (0.0, 0.0),
    "database refused": (0.5, 12.0),
    "database silent": (0.5, 20.0),
    "cluster refused": (0.5, 15.0),
    "cluster silent": (0.5, 15.0),
    "database restarted": (0.0, 5.0),
}
"""What there is, with its shortest and its longest time in seconds. ``sessions``: PostgreSQL ends those of one replica."""


@dataclass(frozen=True)
class Strike:
    """One of them: when it begins, whom it meets, how long it lasts."""

    at: float
    kind: str
    replica: int
    lasts: float

    def __str__(self) -> str:
        whom = "the leader" if self.replica == LEADER else f"replica {self.replica}"
        return f"{self.at:6.1f} s: {self.kind}, {whom}, for {self.lasts:.1f} s"


def schedule(seed: int, seconds: float, *, replicas: int = 3, every: tuple[float, float] = (2.0, 8.0)) -> tuple[Strike, ...]:
    """Strikes over ``seconds``, with pauses between their beginnings; they may overlap. Every kind comes once before one comes again."""
    chance = random.Random(seed)
    found: list[Strike] = []
    at, left = chance.uniform(*every), list[str]()
    while at < seconds:
        left = left or chance.sample(list(KINDS), len(KINDS))
        kind = left.pop()
        shortest, longest = KINDS[kind]
        # Short ones are likelier: two thirds end before a lease does, so that somebody leads most of the time.
        lasts = shortest + (longest - shortest) * chance.random() ** 3
        found.append(Strike(at, kind, chance.choice((LEADER, *range(replicas))), round(lasts, 2)))
        at += chance.uniform(*every)
    return tuple(found)
