"""Faults of the API server and of everything else that answers on the simulation's port.

In comes a request's verb and path; out comes the first fault that fits and still has hits left. A fault delays (on the simulated clock),
answers with an error of its own, holds the answer back, or drops the connection before or after the request took effect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

__all__ = ["Fault", "Faults"]

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass
class Fault:
    """One rule. ``verb`` is a Kubernetes verb (get, list, watch, create, update, patch, delete) or an HTTP method; ``*`` is any."""

    verb: str = "*"
    path: str = ".*"
    """A regular expression, searched for in the path with its query."""
    status: int | None = None
    """Answer this instead of doing anything; None lets the request through (after ``delay``)."""
    reason: str = ""
    message: str = "injected fault"
    count: int | None = 1
    """How many requests it takes; None for all."""
    delay: timedelta = timedelta(0)
    """Wait this long, on the simulated clock, before anything else."""
    drop: Literal["", "before", "after"] = ""
    """Close the connection without an answer: before the request takes effect, or after."""
    hold: timedelta = timedelta(0)
    """Keep the answer back that long, on the simulated clock, after the request took effect."""
    retry_after: int | None = None
    text: str | None = None
    """A body that is not JSON, as a load balancer sends it."""
    hits: int = field(default=0, compare=False)
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._pattern = re.compile(self.path)
        if not self.reason and self.status:
            self.reason = _REASONS.get(self.status, "")

    @property
    def spent(self) -> bool:
        """Whether it has no hits left."""
        return self.count is not None and self.hits >= self.count

    def fits(self, verb: str, method: str, path: str) -> bool:
        """Whether it concerns that request."""
        return self.verb.lower() in ("*", verb.lower(), method.lower()) and bool(self._pattern.search(path))


class Faults:
    """The faults in force, in the order in which they were added."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put one in force."""
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take one back; nothing happens if it is gone."""
        if fault in self._faults:
            self._faults.remove(fault)

    def clear(self) -> None:
        """Take all back."""
        self._faults.clear()

    def all(self) -> tuple[Fault, ...]:
        """Those in force, spent ones included."""
        return tuple(self._faults)

    def take(self, verb: str, method: str, path: str) -> Fault | None:
        """The first that fits; it counts as a hit."""
        for fault in self._faults:
            if not fault.spent and fault.fits(verb, method, path):
                fault.hits += 1
                return fault
        return None
