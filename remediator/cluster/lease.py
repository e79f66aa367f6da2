"""When a lease on a node counts. Pure; nothing is refused here."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["HOLDER", "valid"]

HOLDER = "remediator"
"""What our own leases say."""
_SKEW = timedelta(seconds=10)
"""Clocks of two machines may differ by so much; a lease renewed further in the future is no lease."""


def valid(renewed: datetime, lasts: timedelta, now: datetime) -> bool:
    """As medik8s judges it (common, pkg/lease/manager.go): renewed not in the future, and not longer ago than it lasts."""
    return renewed <= now + _SKEW and now <= renewed + lasts
