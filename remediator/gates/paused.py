"""The kill switch: pauses set by people (everything, a playbook, a target), and the pause mark on the target or its namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from remediator.clock import iso, parse_time
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.model import Pause, Verdict

__all__ = ["MARK", "UNTIL", "Paused", "paused_by_mark"]

MARK = "remediator.dev/pause"
"""Annotation of a Node or a Namespace; its value is the reason."""
UNTIL = "remediator.dev/pause-until"
"""Annotation beside it: when the mark ends by itself (RFC 3339). Where that cannot be read the mark holds."""


class Paused(Gate):
    """Refuses while a pause covers the case; it survives restarts and ends by its own time or by ``resume``."""

    name: ClassVar[str] = "paused"
    summary: ClassVar[str] = "nobody paused everything, this playbook or this target"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.PAUSES, Fact.TARGET, Fact.NAMESPACE})

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        for pause in snapshot.pauses:
            if pause.covers(playbook=case.playbook, target=case.target.key, now=snapshot.at):
                return self.refuse(snapshot, _words(pause))
        for kind, thing in ((case.target.kind, snapshot.target), ("Namespace", snapshot.namespace)):
            why = paused_by_mark(thing, snapshot.at)
            if why is not None:
                return self.refuse(snapshot, f"{kind} {why}")
        return self.allow(snapshot)


def paused_by_mark(thing: dict[str, Any] | None, now: datetime) -> str | None:
    """Why an object is paused by its own annotations, to follow its name; None if it is not."""
    marks = ((thing or {}).get("metadata") or {}).get("annotations") or {}
    if MARK not in marks:
        return None
    words = f"carries {MARK}: {marks[MARK]}"
    if UNTIL not in marks:
        return words
    try:
        until = parse_time(marks[UNTIL])
    except ValueError:
        return f"{words} ({UNTIL} is no time: {marks[UNTIL]})"
    return f"{words} (until {iso(until)})" if now < until else None


def _words(pause: Pause) -> str:
    scope = " and ".join(part for part in (pause.playbook and f"playbook {pause.playbook}", pause.target) if part) or "everything"
    until = f" until {iso(pause.until)}" if pause.until else ""
    return f"{scope} is paused{until} by {pause.by}: {pause.reason}"
