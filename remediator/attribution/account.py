"""What a record keeps of a finding, and how a person is told of it. Pure.

In: a Finding, what was asked for, and the hints that were heard. Out: an Account, bounded in size whatever the size of the cluster: some
10 KB with a matrix, 2 KB without. ``account_in`` reads it back from a record.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from remediator.attribution.model import Hint, Kind, Symptom, Table
from remediator.model import Noun, evolve, from_json
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from remediator.attribution.model import Ballot, Finding, Sought
    from remediator.model import Evidence

__all__ = ["ATTRIBUTION", "Account", "Votes", "account", "account_in", "grid", "kept_elsewhere", "lines"]

ATTRIBUTION: Final = "attribution"
"""The name of the evidence that holds an Account."""
_MOST: Final = 20
"""Nodes that are named, and hints."""
_TOLD: Final = 5


class Votes(Noun, frozen=True, kw_only=True):
    """How the sound nodes voted on one other node."""

    node: str
    against: int
    of: int
    """How many voted."""
    share: float
    """Of the votes how many are against; an unsure one is half a vote in favour."""
    silent: int = 0
    beside: tuple[str, ...] = ()
    """Evidence beside the votes: ``hint``, ``mute``."""


class Account(Noun, frozen=True, kw_only=True):
    """A finding as it stands in a decision, a run and the answer of ``match``."""

    symptom: Symptom
    limit: float
    kind: Kind
    node: str | None = None
    """Who is blamed; set if and only if ``kind`` is node."""
    nodes: tuple[str, ...] = ()
    zone: str | None = None
    confidence: float = 0.0
    words: str
    sound: int = 0
    votes: tuple[Votes, ...] = ()
    """On every node that was considered, the most accused first."""
    hints: tuple[Hint, ...] = ()
    """Other open episodes that tell of a node itself."""
    matrix: Table | None = None
    """Where no node is blamed."""
    matrix_in: str = ""
    """The id of the record that has it, where several on one delivery share it."""


def account(finding: Finding, sought: Sought, hints: Sequence[Hint] = ()) -> Account:
    """What is kept of ``finding``."""
    return Account(
        symptom=sought.symptom,
        limit=sought.limit,
        kind=finding.kind,
        node=finding.node,
        nodes=finding.nodes[:_MOST],
        zone=finding.zone,
        confidence=finding.confidence,
        words=finding.words,
        sound=finding.sound,
        votes=tuple(map(_votes, finding.ballots[:_MOST])),
        hints=tuple(hints[:_MOST]),
        matrix=finding.matrix,
    )


def _votes(ballot: Ballot) -> Votes:
    return Votes(
        node=ballot.node,
        against=len(ballot.against),
        of=ballot.heard,
        share=round(ballot.share, 3),
        silent=ballot.silent,
        beside=ballot.beside,
    )


def kept_elsewhere(told: Account, record: str) -> Account:
    """The same without its matrix, which stands in another record of the same moment."""
    return evolve(told, matrix=None, matrix_in=record) if told.matrix is not None else told


def account_in(evidence: Iterable[Evidence]) -> Account | None:
    """The Account among what a record keeps; None if there is none, or none that this version can read."""
    data = next((piece.data for piece in evidence if piece.name == ATTRIBUTION), None)
    try:
        return from_json(data, Account) if data is not None else None
    except msgspec.ValidationError:
        return None


def lines(told: Account) -> Iterator[str]:
    """For a person: who is blamed or why nobody, the votes, what else was considered, and the worst pairs where nobody is."""
    above = f"{told.symptom} above {value(told.symptom, told.limit)}" if told.symptom is not Symptom.REACHABILITY else told.symptom
    if told.node is not None:
        yield f"{told.node} is to blame for {above} (confidence {told.confidence:g}): {told.words}."
    else:
        yield f"No node is to blame for {above} ({told.kind}): {told.words}."
    others = [votes for votes in told.votes if votes.node != told.node]
    for votes in others[:_TOLD]:
        beside = f", {' and '.join(votes.beside)}" if votes.beside else ""
        yield f"Considered: {votes.node}, {votes.against} of {votes.of} votes against{beside}."
    if len(others) > _TOLD:
        yield f"Considered: {len(others) - _TOLD} more."
    for hint in told.hints[:_TOLD]:
        yield f"Beside the pairs: {hint.alert} on {hint.node}."
    if told.matrix is not None:
        yield from _worst(told.matrix)
    elif told.matrix_in:
        yield f"The matrix stands in the record {told.matrix_in} of the same moment."


def _worst(table: Table) -> Iterator[str]:
    bad = [
        (seen, table.nodes[row], table.nodes[column])
        for row, values in enumerate(table.rows)
        for column, seen in enumerate(values)
        if seen is not None and seen > table.limit
    ]
    bad.sort(key=lambda pair: (-pair[0], pair[1:]))
    for seen, observer, peer in bad[:_TOLD]:
        yield f"Bad: {observer} to {peer}, {value(table.symptom, seen)}."
    if len(bad) > _TOLD:
        yield f"Bad: {len(bad) - _TOLD} more; the whole matrix is kept with it."
    yield from (f"Not seen: {gap}." for gap in table.gaps[:_TOLD])


def grid(table: Table) -> list[list[str]]:
    """Rows of cells: an observer and what it measured towards each node, in the order of ``table.nodes``; bad ones with a ``!``."""
    return [[name, *(_cell(table, seen) for seen in values)] for name, values in zip(table.nodes, table.rows, strict=True)]


def _cell(table: Table, seen: float | None) -> str:
    if seen is None:
        return ""
    return value(table.symptom, seen) + "!" * (seen > table.limit)


def value(symptom: Symptom, seen: float) -> str:
    """``40ms``, ``2.5%``, ``lost``."""
    if symptom is Symptom.LATENCY:
        return format_duration(timedelta(seconds=seen)) if seen >= 0.001 else f"{seen * 1000:.2g}ms"
    return f"{seen * 100:.3g}%" if symptom is Symptom.LOSS else ("lost" if seen else "reached")
