"""The append-only log's hash chain.

In: what happened, as canonical JSON. Out: entries, each with the SHA-256 of itself and of the one before, so that nothing can be
altered, dropped or slipped in afterwards without every later hash telling. What a link's hash is computed over is JSON with sorted
keys, without spaces, in UTF-8: ``{"at":...,"data":...,"kind":...,"previous":...,"ref":...,"seq":...}``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GENESIS", "Chain", "check_links", "digest", "digest_of", "link"]

GENESIS = "0" * 64
"""``previous`` of the first entry."""

_encode = msgspec.json.Encoder().encode

_QUIET = 2047
"""Bytes that hashlib takes without giving up the interpreter lock. The writer's thread would get it back only when the busy event loop lets
go of it, once for each delivery of a batch; that costs far more than the digest."""
_LARGE = 65536
"""Bytes from which on the lock is worth giving up."""


class _Link(msgspec.Struct):
    """The fields in the order of the alphabet, so that encoding it is canonical."""

    at: str
    data: msgspec.Raw
    kind: str
    previous: str
    ref: str
    seq: int


def digest(text: str) -> str:
    """SHA-256 of ``text`` in UTF-8, in hex."""
    raw = text.encode()
    if len(raw) > _LARGE:
        return sha256(raw).hexdigest()
    total = sha256(raw[:_QUIET])
    for begin in range(_QUIET, len(raw), _QUIET):
        total.update(raw[begin : begin + _QUIET])
    return total.hexdigest()


def digest_of(text: str) -> str:
    """The data of an entry that vouches for a record without repeating it: JSON with the digest of its text."""
    return f'{{"digest":"{digest(text)}"}}'


def link(seq: int, at: str, kind: str, ref: str, data: str, previous: str) -> str:
    """The hash of one entry; ``data`` is the stored JSON text as it is."""
    return sha256(_encode(_Link(at, msgspec.Raw(data.encode()), kind, previous, ref, seq))).hexdigest()


class Chain:
    """The head of the chain within one transaction; starts from what is on disk, so a failed transaction leaves no trace."""

    __slots__ = ("at", "hash", "seq")

    def __init__(self, seq: int, hash_: str, at: str) -> None:
        self.seq = seq
        self.hash = hash_
        self.at = at

    def append(self, kind: str, ref: str, data: str, at: str = "") -> tuple[int, str, str, str, str, str, str]:
        """The row of a new entry, in the order of the table's columns; ``at`` where it is about another time than now."""
        at = at or self.at
        previous, self.seq = self.hash, self.seq + 1
        self.hash = link(self.seq, at, kind, ref, data, previous)
        return self.seq, at, kind, ref, data, previous, self.hash

    def mark(self) -> tuple[int, str]:
        """Where the chain stands, for ``rewind``."""
        return self.seq, self.hash

    def rewind(self, mark: tuple[int, str]) -> None:
        """Forget what was appended since ``mark``."""
        self.seq, self.hash = mark


def check_links(rows: Iterable[Any], head: tuple[int, str], begin: tuple[int, str] = (0, GENESIS)) -> Iterator[str]:
    """Walk the log, rows of the table ``entry``, from the one after ``begin`` to ``head``; one sentence for each thing that is wrong."""
    seq, previous = begin
    for number, at, kind, ref, data, before, hash_ in rows:
        if number != seq + 1:
            yield f"entries {seq + 1} to {number - 1} are missing"
        elif before != previous:
            yield f"entry {number} does not follow entry {seq}"
        if link(number, at, kind, ref, data, before) != hash_:
            yield f"entry {number} ({kind} {ref}) was altered: its hash is not that of its content"
        seq, previous = number, hash_
    if (seq, previous) != head:
        yield f"the log ends at entry {seq}, but its head says entry {head[0]} with another hash or number"
