"""Whether a row is what an entry of the log says, at a glance: the same text, and only those fields decoded that are columns.

In: rows of a table as plain tuples, and texts of entries. Out: True where the row is right; False says nothing yet, it has to be looked at
closely (``audit``), which takes several times as long and has the words for what is wrong.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from remediator.journal.rows import key, step_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "change_fits",
    "closed_at",
    "decision_fits",
    "delivery_fits",
    "digest_fits",
    "episode_fits",
    "run_fits",
]

_SECONDS = len("2026-01-05T10:00:00Z")
_MICROSECONDS = len("2026-01-05T10:00:00.000000Z")
_EMPTY = b"[]"


class _Target(msgspec.Struct):
    kind: str
    name: str
    namespace: str = ""


class _Alert(msgspec.Struct):
    name: str
    fingerprint: str


class _Delivery(msgspec.Struct):
    id: str
    received_at: str


class _Episode(msgspec.Struct):
    fingerprint: str
    starts_at: str
    name: str
    resolved_at: str | None = None


class _Decision(msgspec.Struct):
    id: str
    at: str
    decision: str
    delivery: str | None = None
    alert: _Alert | None = None
    playbook: str | None = None
    target: _Target | None = None
    run: str | None = None


class _Change(msgspec.Struct):
    id: str
    run: str
    at: str
    state: str
    dry_run: bool = False


class _Run(msgspec.Struct):
    id: str
    playbook: str
    target: _Target
    state: str
    started_at: str
    steps: msgspec.Raw
    dry_run: bool = False
    ended_at: str | None = None


class _Steps(msgspec.Struct):
    steps: msgspec.Raw


class _Step(msgspec.Struct):
    index: int


class _Closing(msgspec.Struct):
    at: str | None = None


_delivery = msgspec.json.Decoder(_Delivery).decode
_episode = msgspec.json.Decoder(_Episode).decode
_decision = msgspec.json.Decoder(_Decision).decode
_change = msgspec.json.Decoder(_Change).decode
_run = msgspec.json.Decoder(_Run).decode
_steps = msgspec.json.Decoder(_Steps).decode
_each = msgspec.json.Decoder(list[msgspec.Raw]).decode
_step = msgspec.json.Decoder(_Step).decode
_closing = msgspec.json.Decoder(_Closing).decode


def digest_fits(told: str, text: str) -> bool:
    """Whether an entry that has the digest of a record alone vouches for ``text``."""
    return told == f'{{"digest":"{sha256(text.encode()).hexdigest()}"}}'


def closed_at(told: str) -> str | None:
    """The time that an entry sets in another record's row, as it stands there."""
    try:
        return _closing(told).at
    except msgspec.DecodeError:
        return None


def delivery_fits(row: Sequence[Any]) -> bool:
    """But for ``decided_at``, which another entry sets."""
    id_, received_at, _, data = row
    it = _delivery(data)
    return bool(it.id == id_ and _stamped(it.received_at) == received_at)


def episode_fits(row: Sequence[Any]) -> bool:
    """See rows."""
    id_, fingerprint, starts_at, name, resolved_at, data = row
    it = _episode(data)
    return bool(
        key(it.fingerprint) == fingerprint
        and _stamped(it.starts_at) == starts_at
        and id_ == f"{fingerprint}@{starts_at}"
        and key(it.name) == name
        and _stamped(it.resolved_at) == resolved_at
    )


def decision_fits(row: Sequence[Any]) -> bool:
    """See rows."""
    it = _decision(row[-1])
    alert, target = it.alert, it.target
    return bool(
        row[0] == it.id
        and row[1] == _stamped(it.at)
        and row[2] == it.delivery
        and row[3] == (key(alert.name) if alert else None)
        and row[4] == (key(alert.fingerprint) if alert else None)
        and row[5] == (key(it.playbook) if it.playbook is not None else None)
        and row[6] == (_key_of(target) if target else None)
        and row[7] == it.decision
        and row[8] == it.run
    )


def change_fits(row: Sequence[Any]) -> bool:
    """See rows; ``left_behind`` as in the model."""
    id_, run, at, left_behind, data = row
    it = _change(data)
    left = it.state in ("intended", "applied", "unknown") and not it.dry_run
    return bool(it.id == id_ and it.run == run and _stamped(it.at) == at and left == left_behind)


def run_fits(row: Sequence[Any], steps: Sequence[Sequence[Any]], told: str, later: Mapping[str, str]) -> bool:
    """A run's row and the rows of its steps, against its last entry (``told``) and those about its steps after it, by their ref."""
    id_, playbook, target, state, dry_run, started_at, ended_at, data = row
    it, inside = _run(data), bytes(_steps(told).steps)
    # That the row has no steps, and is the entry's text with these taken out, can be so only if they were taken out at their place.
    if bytes(it.steps) != _EMPTY or told.replace(f'"steps":{inside.decode()}', '"steps":[]', 1) != data:
        return False
    due = {step_id(id_, _step(one).index): bytes(one).decode() for one in _each(inside)} | dict(later)
    return bool(
        it.id == id_
        and key(it.playbook) == playbook
        and _key_of(it.target) == target
        and it.state == state
        and it.dry_run == dry_run
        and _stamped(it.started_at) == started_at
        and _stamped(it.ended_at) == ended_at
        and len(steps) == len(due)
        and all(
            of == id_ and position == _step(text).index and step == step_id(id_, position) and due.get(step) == text
            for step, of, position, text in steps
        )
    )


def _key_of(target: _Target) -> str:
    return key("/".join(part for part in (target.kind, target.namespace, target.name) if part))


def _stamped(moment: str | None) -> str | None:
    """A time of a record as columns have it, where it has one of the two forms in which UTC is written; else something that is none."""
    if moment is None:
        return None
    if moment.endswith("Z"):
        if len(moment) == _SECONDS:
            return f"{moment[:-1]}.000000Z"
        if len(moment) == _MICROSECONDS:
            return moment
    return ""
