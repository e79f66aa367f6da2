"""The kill switch: pauses set by people (everything, a playbook, a target), and the pause mark on the target or its namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from remediator.clock import iso
from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Pause, Verdict

MARK = "remediator.dev/pause"


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
            why = _annotations(thing).get(MARK)
            if why is not None:
                return self.refuse(snapshot, f"{kind} carries {MARK}: {why}")
        return self.allow(snapshot)


def _annotations(thing: dict[str, Any] | None) -> dict[str, str]:
    return ((thing or {}).get("metadata") or {}).get("annotations") or {}


def _words(pause: Pause) -> str:
    scope = " and ".join(part for part in (pause.playbook and f"playbook {pause.playbook}", pause.target) if part) or "everything"
    until = f" until {iso(pause.until)}" if pause.until else ""
    return f"{scope} is paused{until} by {pause.by}: {pause.reason}"
