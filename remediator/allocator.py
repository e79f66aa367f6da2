"""Free memory goes back to the system, where the C library can be told so: glibc keeps what its threads freed for the next time.

In: nothing. Out: whether it was told. Where it knows no such call (musl, macOS) nothing happens.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

__all__ = ["give_back"]


def give_back() -> bool:
    """Some milliseconds, without the interpreter's lock; call it off the event loop."""
    trim = _trim()
    if trim is None:
        return False
    trim(0)
    return True


@cache
def _trim() -> Any:
    """``malloc_trim`` (malloc_trim(3)), or None."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return None
