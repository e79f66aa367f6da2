"""Attribution: 10,000 generated cases from a fixed seed; nobody who is not bad may be blamed, and one bad node should be found.

Every second case has exactly one bad node; the others are links, zones, observers, two nodes, partitions, the whole fabric, and mere noise.
Beside it a naive policy on the same cases: one alert per target whose 95th percentile over all observers is above the limit; act on the
target of the first one that arrives.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.attribution_cases import RIGHT, Case, case, size
from benchmarks.table import Row
from remediator.attribution import Kind, judge

if TYPE_CHECKING:
    from remediator.attribution import Finding

CASES, SEED = 10_000, 20260105
SIZES = ((3, 3), (4, 6), (7, 20), (21, 60), (61, 200))


@dataclass
class Score:
    """Blamed nodes, and how many of them are bad."""

    right: int = 0
    wrong: int = 0
    found: Counter[str] = field(default_factory=Counter)
    """By size class, of the cases with exactly one bad node."""

    def take(self, node: str | None, of: Case, sizes: str) -> None:
        if node is None:
            return
        self.right += node in of.bad
        self.wrong += node not in of.bad
        self.found[sizes] += of.what == "one node" and node in of.bad

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong)


def kinds(number: int, chance: random.Random) -> str:
    return "one node" if number % 2 == 0 else chance.choice([what for what in RIGHT if what != "one node"])


def naive(of: Case, chance: random.Random) -> str | None:
    """The target of the first alert."""
    seen = defaultdict(list)
    for observation in of.matrix.observations:
        if observation.value is not None:
            seen[observation.peer].append(observation.value)
    firing = [peer for peer, values in seen.items() if sorted(values)[int(0.95 * (len(values) - 1) + 0.5)] > of.matrix.limit]
    return chance.choice(sorted(firing)) if firing else None


def class_of(nodes: int) -> str:
    return next(f"{low} to {high} nodes" if low < high else f"{low} nodes" for low, high in SIZES if low <= nodes <= high)


def rows(cases: int | None = None, seed: int = SEED) -> list[Row]:
    cases = cases or CASES
    chance, seconds = random.Random(seed), 0.0
    ours, theirs = Score(), Score()
    asked: Counter[str] = Counter()
    outcome: dict[str, Counter[Kind]] = defaultdict(Counter)
    for number in range(cases):
        of = case(chance, kinds(number, chance), size(chance))
        began = time.perf_counter()
        finding: Finding = judge(of.matrix, of.hints)
        seconds += time.perf_counter() - began
        sizes = class_of(len(of.matrix.nodes))
        asked[sizes] += of.what == "one node"
        outcome[of.what][finding.kind] += 1
        ours.take(finding.node, of, sizes)
        theirs.take(naive(of, chance), of, sizes)
        if finding.node is not None and finding.node not in of.bad:
            print(f"WRONG in case {number} ({of.what}, {len(of.matrix.nodes)} nodes): {finding.words}")
    return _rows(ours, theirs, asked, outcome, f"{cases:,} cases, seed {seed}", seconds / cases)


def _rows(ours: Score, theirs: Score, asked: Counter[str], outcome: dict[str, Counter[Kind]], note: str, each: float) -> list[Row]:
    beside = "blame the alert's target"

    def recall(score: Score) -> float:
        return sum(score.found.values()) / sum(asked.values())

    found = [
        Row(name="wrong nodes blamed", measured=ours.wrong, unit="", beside=beside, compared=theirs.wrong, aim=0, note=note),
        Row(name="precision", measured=100 * ours.precision, unit="%", beside=beside, compared=100 * theirs.precision),
        Row(
            name="found of one bad node", measured=100 * recall(ours), unit="%", beside=beside, compared=100 * recall(theirs),
            aim=95, at_least=True, note=f"{sum(asked.values()):,} cases",
        ),
    ]  # fmt: skip
    for low, _ in SIZES:
        sizes = class_of(low)
        measured, compared = (100 * score.found[sizes] / max(1, asked[sizes]) for score in (ours, theirs))
        found.append(Row(name=f"  {sizes}", measured=measured, unit="%", beside=beside, compared=compared, note=f"{asked[sizes]:,} cases"))
    for what, counts in sorted(outcome.items()):
        shown = ", ".join(f"{kind.value} {count}" for kind, count in counts.most_common())
        right = 100 * sum(counts[kind] for kind in RIGHT[what]) / counts.total()
        found.append(Row(name=f"{what}: found as {' or '.join(RIGHT[what])}", measured=right, unit="%", note=shown))
    return [*found, Row(name="one judgement, on average", measured=1000 * each, unit="ms")]
