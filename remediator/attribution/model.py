"""The nouns of attribution: what one node says of another, all of it as a matrix, and what was found in it.

In: what ``read`` or a test gathers. Out: frozen nouns that stand in a run's record as they are (``to_json``).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from remediator.model import Noun
from remediator.reasons import Reason

__all__ = [
    "UNREACHABLE_SECONDS",
    "Ballot",
    "Finding",
    "Hint",
    "Kind",
    "Matrix",
    "Observation",
    "Place",
    "Rules",
    "Sought",
    "Symptom",
    "Table",
]

UNREACHABLE_SECONDS = 10.0
"""The latency of a peer that does not answer at all: what Cilium's own histogram observes for a failed probe (``probe.HttpTimeout``)."""


class Symptom(StrEnum):
    """What is measured between two nodes. A greater value is worse."""

    LATENCY = "latency"
    """Seconds of a round trip."""
    LOSS = "loss"
    """Share of packets lost, 0 to 1."""
    REACHABILITY = "reachability"
    """1 if the agent's health probe does not reach the peer, else 0."""

    @property
    def total(self) -> float:
        """From this value on nothing gets through at all."""
        return UNREACHABLE_SECONDS if self is Symptom.LATENCY else 0.999


class Sought(Noun, frozen=True, kw_only=True):
    """Whose node a playbook asks for: the one that explains ``symptom``, where a pair with a value above ``limit`` is bad."""

    symptom: Symptom
    limit: float
    """Seconds, or a share from 0 to 1."""


class Place(Noun, frozen=True, kw_only=True):
    """A node that may take part: its name, its zone (topology.kubernetes.io/zone) and its InternalIP, as far as they are known."""

    name: str
    zone: str = ""
    address: str = ""


class Observation(Noun, frozen=True, kw_only=True):
    """What ``observer`` measured towards ``peer``; ``value`` is None where it should have and there is no number."""

    observer: str
    peer: str | None
    """None: one number over all peers together, as Cilium's histogram has it. It names an observer and nobody else."""
    value: float | None
    at: datetime
    source: str
    ordered: bool = True
    """False: somebody else measured the pair, so both ends count as having said it."""


class Matrix(Noun, frozen=True, kw_only=True):
    """Everything that was observed of one symptom, and from which value on it is one."""

    symptom: Symptom
    limit: float
    """Above it a pair is bad."""
    nodes: tuple[Place, ...]
    observations: tuple[Observation, ...]
    at: datetime
    gaps: tuple[str, ...] = ()
    """What could not be read, or was too old, in words."""


class Table(Noun, frozen=True, kw_only=True):
    """A matrix for a record: ``rows[i][j]`` is the worst that ``nodes[i]`` measured towards ``nodes[j]``; None where there is nothing."""

    symptom: Symptom
    limit: float
    at: datetime
    nodes: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    left_out: int = 0
    """Nodes that did not fit."""
    sources: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


class Hint(Noun, frozen=True, kw_only=True):
    """Another open episode that tells of a node itself, not of what is seen between two."""

    node: str
    alert: str


class Rules(Noun, frozen=True, kw_only=True):
    """The thresholds. Each one errs towards nobody."""

    share: float = 0.75
    """Of the votes on a node that many must be against it."""
    heard: float = 0.6
    """Of the other nodes that many must have voted at all ..."""
    heard_most: int = 6
    """... but never more than this many, so that probers with a few peers each are enough in a large cluster."""
    reports: int = 4
    """Single reports (one observer, one source) that must speak against the node; evidence beside the votes counts as two."""
    stray: float = 0.2
    """Of the pairs among all other nodes at most that many may be bad, too."""
    unclear: float = 0.1
    """Of all nodes at most that many may be neither sound nor accused; so in clusters below 10 none."""
    clear: float = 0.5
    """A value is good up to this share of the limit. Between that and the limit it says nothing."""


class Kind(StrEnum):
    """What explains the observations."""

    NODE = "node"
    LINK = "link"
    ZONE = "zone"
    PARTITION = "partition"
    FABRIC = "fabric"
    NOBODY = "nobody"


class Ballot(Noun, frozen=True, kw_only=True):
    """How the sound nodes voted on one node that is not one of them."""

    node: str
    against: tuple[str, ...] = ()
    favour: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    """The two ends, or two sources, contradict one another."""
    silent: int = 0
    """Sound nodes of which there is no report on it."""
    own: int = 0
    """Of these, how many it reports itself to be bad towards: no votes, but these pairs are not unknown."""
    reports: int = 0
    """Single reports that speak against it."""
    beside: tuple[str, ...] = ()
    """Evidence beside the votes: ``hint`` (an episode tells of it), ``mute`` (all voters report, and it does not)."""

    @property
    def share(self) -> float:
        """Of the votes how many are against; an unsure one is half a vote in favour."""
        cast = len(self.against) + len(self.favour) + len(self.unsure) / 2
        return len(self.against) / cast if cast else 0.0

    @property
    def heard(self) -> int:
        """How many voted."""
        return len(self.against) + len(self.favour) + len(self.unsure)


class Finding(Noun, frozen=True, kw_only=True):
    """What explains the observations, how sure that is, and in words. Only ``node`` names somebody to act on."""

    kind: Kind
    node: str | None = None
    """Set if and only if ``kind`` is node."""
    nodes: tuple[str, ...] = ()
    """Whom it is about: the two ends of a link, a zone's nodes, the smaller part of a partition, suspects."""
    zone: str | None = None
    confidence: float = 0.0
    """0 to 1: share of agreeing votes times share of the nodes that were heard."""
    words: str
    sound: int = 0
    """How many nodes were found sound and voted."""
    ballots: tuple[Ballot, ...] = ()
    """Of every node that is not sound, the most accused first, at most 20."""
    matrix: Table | None = None
    """What it was judged by, wherever no node is blamed: a person has to look."""

    @property
    def reason(self) -> Reason | None:
        """Why nothing may be done to a node; None if one is found."""
        return None if self.kind is Kind.NODE else Reason.NO_CULPRIT
