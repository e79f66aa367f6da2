"""What is read once a trial is over: the journal, the cluster's own record of calls, what the senders were told. Frozen, and only facts.

Made by ``trial.py`` from three replicas that were killed, stopped and cut off; judged by ``invariants.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Answer", "Call", "Entry", "Limits", "Record"]


@dataclass(frozen=True)
class Answer:
    """What a sender was told: the status (0: no answer came), and with a 200 the delivery's id and the number of its alerts."""

    status: int
    delivery: str = ""
    alerts: int = 0
    retry_after: bool = False


@dataclass(frozen=True)
class Call:
    """A call that changed the cluster, as the cluster logged it. The order of the calls is that in which they took effect."""

    at: datetime
    """On the clock that the journal's entries have, to a few milliseconds."""
    verb: str
    resource: str
    name: str
    request_id: str = ""
    sender: str = ""
    """The replica by whose way it came; empty: it cannot be told."""
    holder: str | None = None
    """Of the election's Lease: who holds it from here on."""
    cordons: bool | None = None
    """Whether the node takes no pods from here on; None where the call does not say."""


@dataclass(frozen=True)
class Entry:
    """An entry of the journal's log; ``data`` as it stands there, ``text`` the record itself where that is only its digest."""

    seq: int
    at: datetime
    kind: str
    ref: str
    data: Any
    text: Any = None


@dataclass(frozen=True)
class Limits:
    """What the replicas were allowed."""

    runs: int
    disruptive: int
    nodes: int
    """Cordoned at once: all that cordons here disturbs, so it is what the budget of disturbed nodes allows."""


@dataclass(frozen=True)
class Record:
    """Everything that an invariant may look at."""

    answers: tuple[Answer, ...]
    calls: tuple[Call, ...]
    entries: tuple[Entry, ...]
    limits: Limits
    problems: tuple[str, ...] = ()
    """What the journal's own verification found."""
    first: dict[str, Any] = field(default_factory=dict)
    now: dict[str, Any] = field(default_factory=dict)
    """The cluster's nodes before anything happened, and at the end: what people would see of them."""

    def of(self, kind: str) -> tuple[Entry, ...]:
        """The entries of that kind, oldest first."""
        return self._by_kind.get(kind, ())

    @cached_property
    def _by_kind(self) -> dict[str, tuple[Entry, ...]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.kind, []).append(entry)
        return {kind: tuple(entries) for kind, entries in found.items()}

    @cached_property
    def changes(self) -> dict[str, tuple[Entry, ...]]:
        """Each change with all that the log says about it, oldest first."""
        return self._by_ref("change")

    @cached_property
    def runs(self) -> dict[str, tuple[Entry, ...]]:
        """The same of runs."""
        return self._by_ref("run")

    def _by_ref(self, kind: str) -> dict[str, tuple[Entry, ...]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.of(kind):
            found.setdefault(entry.ref, []).append(entry)
        return {ref: tuple(entries) for ref, entries in found.items()}

    def leader_at(self, seq: int) -> str:
        """Who led when the entry with that number was written; empty: nobody had begun to."""
        return next((entry.data["by"] for entry in reversed(self.of("leader")) if entry.seq < seq), "")
