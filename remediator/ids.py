"""Names that nothing else has. In: a time, or nothing. Out: a ULID, which sorts by time, or a short text.

Random bytes are taken from the kernel many at a time: each such call lets go of the interpreter's lock, and on a busy event loop it takes
milliseconds until another thread gives it back.
"""

from __future__ import annotations

import os
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

from ulid import base32

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["new_id", "short_id"]

_LENGTH = 16
"""Random digits of a ULID, 5 bits each."""
_AT_ONCE = 1024
_DIGITS = "".join(base32.ENCODE[byte % len(base32.ENCODE)] for byte in range(256)).lower().encode()
"""A byte to a digit; each digit stands for eight bytes, so all are as likely."""
_pieces: deque[str] = deque()
os.register_at_fork(after_in_child=_pieces.clear)


def new_id(at: datetime) -> str:
    """A ULID for a record that came to be at ``at``: 26 characters, in lower case, that sort by time (github.com/ulid/spec)."""
    return _time(int(at.timestamp() * 1000)) + _piece()


def short_id() -> str:
    """16 characters that nobody can guess; to find a request again in the logs."""
    return _piece()


@lru_cache(maxsize=64)
def _time(milliseconds: int) -> str:
    return base32.encode_timestamp(milliseconds.to_bytes(6, "big")).lower()


def _piece() -> str:
    """80 random bits that no other call gets, whichever thread asks: taking one from a deque is one step."""
    try:
        return _pieces.popleft()
    except IndexError:
        fresh = os.urandom(_LENGTH * _AT_ONCE).translate(_DIGITS).decode()
        own, *others = (fresh[begin : begin + _LENGTH] for begin in range(0, len(fresh), _LENGTH))
        _pieces.extend(others)
        return own
