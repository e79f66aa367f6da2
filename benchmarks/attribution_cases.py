"""Generated clusters with something wrong in their network, the truth about it, and what probers would have measured.

``case(random, what, size)`` is the whole of it; the same random gives the same case. Used by the benchmark and by the property tests.
What is left out because it cannot be told apart by anybody from the measurements alone stands in docs/attribution.md.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from remediator.attribution import Hint, Kind, Matrix, Observation, Place, Symptom
from remediator.attribution.hints import OF_A_NODE_ITSELF

if TYPE_CHECKING:
    from random import Random

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
LIMITS = {Symptom.LATENCY: (0.005, 0.020), Symptom.LOSS: (0.001, 0.01), Symptom.REACHABILITY: (0.5,)}
SMALLEST = {"two nodes": 4, "partition": 4, "zone": 4, "fabric": 3}
"""Below that many nodes such a case is no case."""
RIGHT = {
    "one node": (Kind.NODE,),
    "link": (Kind.LINK,),
    "zone": (Kind.ZONE, Kind.PARTITION),
    "observer": (Kind.NOBODY,),
    "two nodes": (Kind.NOBODY,),
    "partition": (Kind.PARTITION, Kind.ZONE),
    "fabric": (Kind.FABRIC,),
    "nothing": (Kind.NOBODY,),
}
"""The best findings for each kind of fault. A zone that is cut off is a partition as well."""


@dataclass(frozen=True)
class Noise:
    """What spoils the measurements, as shares."""

    spike: float = 0.0
    """Good pairs measured as bad, each direction by itself."""
    dip: float = 0.0
    """Bad pairs measured as good."""
    grey: float = 0.0
    """Values between clear and the limit."""
    missing: float = 0.0
    """Samples that are not there."""
    silent: float = 0.0
    """Nodes whose own prober reports nothing at all."""

    @classmethod
    def some(cls, random: Random) -> Noise:
        return cls(
            spike=random.choice((0, 0.002, 0.01, 0.02)),
            dip=random.choice((0, 0.002, 0.01, 0.02)),
            grey=random.choice((0, 0.01, 0.03)),
            missing=random.choice((0, 0, 0.02, 0.1, 0.2)),
            silent=random.choice((0, 0, 0.02, 0.05)),
        )


@dataclass(frozen=True)
class Case:
    what: str
    matrix: Matrix
    bad: frozenset[str] = frozenset()
    """The nodes that are bad: empty unless the fault sits on nodes."""
    hints: tuple[Hint, ...] = ()


@dataclass
class Fault:
    """Which pairs are bad, in which direction, and which nodes are."""

    bad: frozenset[str] = frozenset()
    pairs: set[tuple[str, str]] = field(default_factory=set)
    total: bool = False
    """Nothing gets through at all."""
    seen_by: frozenset[str] | None = None
    """Only these nodes' reports reach Prometheus."""

    def both(self, a: str, b: str) -> None:
        self.pairs |= {(a, b), (b, a)}


def size(random: Random) -> int:
    """Mostly small clusters, which are the hard ones: 3 to 200 nodes."""
    low, high = random.choices(((3, 6), (7, 20), (21, 60), (61, 200)), (0.35, 0.45, 0.15, 0.05))[0]
    return random.randint(low, high)


def case(random: Random, what: str, nodes: int, noise: Noise | None = None) -> Case:
    """One case. ``what`` is a key of RIGHT."""
    noise = Noise.some(random) if noise is None else noise
    places = _places(random, max(nodes, SMALLEST.get(what, 3)))
    if what == "zone":
        places = _with_a_zone(random, places)
    fault = _FAULTS[what](random, places)
    matrix = _measured(random, places, fault, noise)
    return Case(what, matrix, fault.bad, _hints(random, places, fault))


def _places(random: Random, nodes: int) -> list[Place]:
    zones = random.choice((0, 1, 2, 3, 3, 5))
    if zones == 3 and nodes == 3:
        return [Place(name=f"node-{i}", zone=f"zone-{i}") for i in range(nodes)]
    return [Place(name=f"node-{i}", zone=f"zone-{i % zones}" if zones and nodes >= 2 * zones else "") for i in range(nodes)]


def _with_a_zone(random: Random, places: list[Place]) -> list[Place]:
    """Nodes in zones of which the first has at least two nodes and is not the whole but for one node."""
    count = random.randint(2, max(2, min(5, len(places) // 2)))
    return [Place(name=place.name, zone=f"zone-{i % count}") for i, place in enumerate(places)]


def _names(places: list[Place]) -> list[str]:
    return [place.name for place in places]


def _one_node(random: Random, places: list[Place]) -> Fault:
    names = _names(places)
    bad = random.choice(names)
    fault = Fault(bad=frozenset({bad}), total=random.random() < 0.2)
    for other in names:
        if other != bad:
            fault.both(bad, other)
    if random.random() < 0.25:  # its own prober is dead or cannot be scraped
        fault.seen_by = frozenset(names) - {bad}
    if len(names) > 8 and random.random() < 0.1:
        fault.both(*random.sample(sorted(set(names) - {bad}), 2))
    return fault


def _two_nodes(random: Random, places: list[Place]) -> Fault:
    names = _names(places)
    fault = Fault(bad=frozenset(random.sample(names, 2)))
    for bad, other in itertools.product(sorted(fault.bad), names):
        if other != bad:
            fault.both(bad, other)
    if random.random() < 0.25:
        fault.seen_by = frozenset(names) - fault.bad
    return fault


def _link(random: Random, places: list[Place]) -> Fault:
    fault = Fault(total=random.random() < 0.2)
    fault.both(*random.sample(_names(places), 2))
    return fault


def _zone(random: Random, places: list[Place]) -> Fault:
    fault, inside_too = Fault(total=random.random() < 0.2), random.random() < 0.3
    for a, b in itertools.combinations(places, 2):
        if (a.zone == "zone-0") != (b.zone == "zone-0") or (inside_too and a.zone == b.zone == "zone-0"):
            fault.both(a.name, b.name)
    return fault


def _observer(random: Random, places: list[Place]) -> Fault:
    observer = random.choice(_names(places))
    return Fault(pairs={(observer, other) for other in _names(places) if other != observer})


def _partition(random: Random, places: list[Place]) -> Fault:
    names = _names(places)
    random.shuffle(names)
    cut = random.randint(2, len(names) - 2)
    fault = Fault(total=True, seen_by=random.choice((None, frozenset(names[:cut]), frozenset(names[cut:]))))
    for a, b in itertools.product(names[:cut], names[cut:]):
        fault.both(a, b)
    return fault


def _fabric(random: Random, places: list[Place]) -> Fault:
    fault, share = Fault(), 1.0 if len(places) < 8 else random.uniform(0.6, 1.0)
    for a, b in itertools.combinations(_names(places), 2):
        if random.random() < share:
            fault.both(a, b)
    return fault


_FAULTS = {
    "one node": _one_node,
    "two nodes": _two_nodes,
    "link": _link,
    "zone": _zone,
    "observer": _observer,
    "partition": _partition,
    "fabric": _fabric,
    "nothing": lambda _random, _places: Fault(),
}


def _measured(random: Random, places: list[Place], fault: Fault, noise: Noise) -> Matrix:
    symptom = random.choice((Symptom.LATENCY, Symptom.LATENCY, Symptom.LOSS, Symptom.REACHABILITY))
    limit = random.choice(LIMITS[symptom])
    names = _names(places)
    silent = {name for name in names if random.random() < noise.silent}
    peers = random.choice((None, 12)) if len(names) > 30 else None
    sources = random.choice((("smokeping",), ("smokeping",), ("smokeping", "goldpinger")))
    seen = []
    for source, a in itertools.product(sources, names):
        if a in silent or (fault.seen_by is not None and a not in fault.seen_by):
            continue
        for b in names if peers is None else random.sample(names, peers):
            if a != b and random.random() >= noise.missing:
                value = _value(random, symptom, limit, noise, bad=(a, b) in fault.pairs, total=fault.total)
                seen.append(Observation(observer=a, peer=b, value=value, at=AT, source=source))
    return Matrix(symptom=symptom, limit=limit, nodes=tuple(places), observations=tuple(seen), at=AT)


def _value(random: Random, symptom: Symptom, limit: float, noise: Noise, *, bad: bool, total: bool) -> float:
    chance = random.random()
    if chance < noise.grey:
        return limit * random.uniform(0.51, 1.0)
    if bad == (chance < noise.grey + (noise.dip if bad else noise.spike)):
        return limit * random.uniform(0.0, 0.4)
    if (bad and total) or symptom is Symptom.REACHABILITY:
        return symptom.total if symptom is Symptom.LATENCY else 1.0
    return limit * random.uniform(1.2, 30)


def _hints(random: Random, places: list[Place], fault: Fault) -> tuple[Hint, ...]:
    """Sometimes one that is right, sometimes one that leads astray."""
    alert = random.choice(sorted(OF_A_NODE_ITSELF))
    if fault.bad and random.random() < 0.2:
        return (Hint(node=random.choice(sorted(fault.bad)), alert=alert),)
    if random.random() < 0.1:
        return (Hint(node=random.choice(places).name, alert=alert),)
    return ()
