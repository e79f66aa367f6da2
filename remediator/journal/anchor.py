"""A file outside of the database that remembers where the chain stood, so that a log that was rewritten as a whole, or cut back, shows.

In: the chain's head now and then. Out: a line of JSON for each, appended and never touched again; and what does not agree with the log.
Who can write to the database and not to this file cannot make another past. What cannot be read or written is a JournalError with the
line; it counts as a fault of the journal and is never passed over.
"""

from __future__ import annotations

import errno
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import select

from remediator.errors import JournalError
from remediator.journal.checkpoint import read_checkpoint
from remediator.journal.rows import stamp
from remediator.journal.schema import ENTRY, HEAD
from remediator.model import Noun, encode, from_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

__all__ = ["Anchor", "Mark", "disagreements"]

_AT_ONCE = 500
"""Numbers in one statement."""


class Mark(Noun, frozen=True, kw_only=True):
    """Where the chain stood: its last entry then."""

    seq: int
    hash: str
    at: datetime


class Anchor:
    """One such file. Of its directory it is expected that only the daemon's account may write to it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> None:
        """Make the file where there is none, for its owner only. Raises JournalError."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        except OSError as error:
            raise self._fault("cannot be written", error) from error
        self.read()

    def read(self) -> list[Mark]:
        """All marks, in the order of their writing. Raises JournalError, with the line that is none."""
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise self._fault("cannot be read", error) from error
        return [self._mark(number, line) for number, line in enumerate(lines, start=1)]

    def add(self, mark: Mark) -> None:
        """One more, on disk, or nothing of it. A file that went since ``begin`` is not made anew. Raises JournalError."""
        line = encode(mark) + b"\n"
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                before = os.fstat(handle).st_size
                whole = os.write(handle, line) == len(line)
                if not whole:  # what the next one would stand behind, so that both were none
                    os.ftruncate(handle, before)
                os.fsync(handle)
                if not whole:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(handle)
        except OSError as error:
            raise self._fault("cannot be written", error) from error

    def _mark(self, number: int, line: bytes) -> Mark:
        try:
            if line.endswith(b"\n"):
                return from_json(line, Mark)
        except (msgspec.DecodeError, UnicodeDecodeError):  # also ValidationError
            pass
        raise JournalError(
            f"store.anchor: {self._path}:{number} is not a mark of the journal: the file was altered, or its writing was cut; "
            "look at who wrote to it, then move it away, and a new one begins at the next start"
        )

    def _fault(self, what: str, error: OSError) -> JournalError:
        return JournalError(f"store.anchor: {self._path} {what}: {error.strerror}; without it a rewritten journal does not show")


def disagreements(connection: Connection, marks: Sequence[Mark]) -> Iterator[str]:
    """One sentence for each mark that the log does not bear out. Marks of entries that were pruned are passed over."""
    if not marks:
        return
    begin = read_checkpoint(connection.execute)
    newest = marks[-1]
    if newest.seq < begin.through:
        yield (
            f"the log begins after entry {begin.through}, but the anchor ends at entry {newest.seq} of {stamp(newest.at)}: "
            "pruning never goes beyond what was anchored"
        )
    head = connection.execute(select(HEAD.c.seq)).scalar() or 0
    known = _hashes(connection, [mark.seq for mark in marks if mark.seq > begin.through]) | {begin.through: begin.hash}
    for mark in marks:
        if mark.seq > head:
            yield f"the log ends at entry {head}, but the anchor has entry {mark.seq} of {stamp(mark.at)}: it was cut back"
        elif mark.seq >= begin.through and known.get(mark.seq) != mark.hash:
            yield f"entry {mark.seq} is not the one that the anchor has of {stamp(mark.at)}: the log was rewritten"


def _hashes(connection: Connection, numbers: Sequence[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for first in range(0, len(numbers), _AT_ONCE):
        some = select(ENTRY.c.seq, ENTRY.c.hash).where(ENTRY.c.seq.in_(numbers[first : first + _AT_ONCE]))
        found.update((row.seq, row.hash) for row in connection.execute(some))
    return found
