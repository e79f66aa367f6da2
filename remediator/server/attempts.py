"""How often an address may fail to say who it is. In: addresses, failures and successes; out: in how many seconds the next try is heard.

A bucket an address: thirty tries at once, one more every two seconds. A token that was right there before is heard all the same, so that a
program with an old token, behind the same router, locks nobody out. In memory and bounded; an address that was forgotten begins anew.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remediator.clock import Clock

__all__ = ["Attempts"]

_BURST = 30
_SECONDS = 2.0
_REMEMBERED = 4096


class Attempts:
    """Failures by address. An IPv6 address counts with its whole /64, since one machine has all of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address -> tries left, and when that was so, in seconds."""
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def wait(self, address: str, token: bytes = b"") -> float:
        """Seconds until a try from there with ``token`` is heard; 0 for now."""
        network = _network(address)
        if (network, token) in self._right:
            return 0.0
        left = self._left(network)
        return 0.0 if left >= 1 else (1 - left) * _SECONDS

    def succeeded(self, address: str, token: bytes) -> None:
        """``token`` was right."""
        key = _network(address), token
        self._right[key] = None
        self._right.move_to_end(key)
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)

    def failed(self, address: str) -> None:
        """One more failure."""
        key = _network(address)
        self._failed[key] = max(0.0, self._left(key) - 1), self._now()
        self._failed.move_to_end(key)
        if len(self._failed) > _REMEMBERED:
            self._failed.popitem(last=False)

    def _left(self, key: str) -> float:
        left, at = self._failed.get(key, (float(_BURST), 0.0))
        return min(float(_BURST), left + max(0.0, self._now() - at) / _SECONDS)

    def _now(self) -> float:
        return self._clock.now().timestamp()


@lru_cache(maxsize=_REMEMBERED)
def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
