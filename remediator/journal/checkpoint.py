"""Where the log begins: at its first entry, or after the last one that was pruned.

In: the row that pruning keeps. Out: the number and hash that the first entry still there follows from, and how much went before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from remediator.journal.chain import GENESIS
from remediator.journal.schema import CHECKPOINT
from remediator.model import Noun, from_json

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PRUNED", "Checkpoint", "read_checkpoint"]

PRUNED = "pruned"
"""The kind of the entry that vouches for the checkpoint, which is its data."""


class Checkpoint(Noun, frozen=True, kw_only=True):
    """Everything up to entry ``through`` was pruned, but for what was written down anew; ``removed`` counts it, ever since, by table."""

    through: int = 0
    hash: str = GENESIS
    """Of the entry ``through``."""
    before: str = ""
    """What was written before that time could go, as of the last pruning."""
    removed: dict[str, int] = {}  # noqa: RUF012 - msgspec copies defaults


def read_checkpoint(execute: Callable[[Any], Any]) -> Checkpoint:
    """As the row says it; where nothing was pruned, that of a whole log."""
    row = execute(select(CHECKPOINT.c.data)).first()
    return Checkpoint() if row is None else from_json(row.data, Checkpoint)
