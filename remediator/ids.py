"""Names that nothing else has. In: a time, or nothing. Out: a ULID, which sorts by time, or a short text.

Of one millisecond later ones sort later too (github.com/ulid/spec, monotonicity), so that records made one after another keep their order.

Random bytes are taken from the kernel many at a time: each such call lets go of the interpreter's lock, and on a busy event loop it takes
milliseconds until another thread gives it back.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from ulid import base32

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["beginning", "new_id", "short_id"]

_LENGTH = 16
"""Random digits of a ULID, 5 bits each."""
_AT_ONCE = 1024
_DIGITS = base32.ENCODE.lower()
_FOLLOWING = dict(pairwise(_DIGITS))
"""By digit, the next higher one; the highest has none."""
_OF_BYTES = "".join(_DIGITS[byte % len(_DIGITS)] for byte in range(256)).encode()
"""A byte to a digit; each digit stands for eight bytes, so all are as likely."""
_pieces: deque[str] = deque()
_turn = threading.Lock()
_last: tuple[int, str] = (0, "")
"""Milliseconds and random digits of the last ULID."""


def _forget() -> None:
    """What a child process would share with its parent, a lock that another thread holds just now included."""
    global _turn, _last
    _pieces.clear()
    _turn, _last = threading.Lock(), (0, "")


os.register_at_fork(after_in_child=_forget)


def new_id(at: datetime) -> str:
    """A ULID for a record that came to be at ``at``: 26 characters, in lower case, that sort by time and by turn."""
    global _last  # noqa: PLW0603 - one state a process
    milliseconds = int(at.timestamp() * 1000)
    with _turn:
        digits = _after(_last[1]) if _last[0] == milliseconds else _piece()
        _last = milliseconds, digits
    return _time(milliseconds) + digits


def beginning(at: datetime) -> str:
    """What the ids of records sort after that came to be at ``at`` or later, and those of earlier ones before."""
    return _time(int(at.timestamp() * 1000))


def _after(digits: str) -> str:
    """The next higher ones; after the highest, fresh ones."""
    if following := _FOLLOWING.get(digits[-1]):
        return digits[:-1] + following
    head = digits.rstrip(_DIGITS[31])
    if not head:
        return _piece()
    return head[:-1] + _DIGITS[_DIGITS.index(head[-1]) + 1] + _DIGITS[0] * (len(digits) - len(head))


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
        fresh = os.urandom(_LENGTH * _AT_ONCE).translate(_OF_BYTES).decode()
        own, *others = (fresh[begin : begin + _LENGTH] for begin in range(0, len(fresh), _LENGTH))
        _pieces.extend(others)
        return own
