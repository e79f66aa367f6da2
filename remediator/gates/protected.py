"""Marks by which people and other tools forbid acting on a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from remediator.gates import Case, Fact, Gate, Snapshot

if TYPE_CHECKING:
    from remediator.model import Verdict

MARK = "remediator.dev/protected"
EXCLUDED = "remediation.medik8s.io/exclude-from-remediation"
"""Set by medik8s' node maintenance operator while a node is under maintenance."""


class Protected(Gate):
    """Refuses a target that is marked as protected, or whose namespace is, or that other remediation tools must leave alone."""

    name: ClassVar[str] = "protected"
    summary: ClassVar[str] = "neither the target nor its namespace is marked as protected"
    reads: ClassVar[frozenset[Fact]] = frozenset({Fact.TARGET, Fact.NAMESPACE})

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        for kind, thing in ((case.target.kind, snapshot.target), ("Namespace", snapshot.namespace)):
            for mark in (MARK, EXCLUDED):
                value = _marks(thing).get(mark)
                if value is not None and value.lower() != "false":
                    return self.refuse(snapshot, f"{kind} carries {mark}={value}")
        return self.allow(snapshot)


def _marks(thing: dict[str, Any] | None) -> dict[str, str]:
    """Labels and annotations alike: people put such marks in either place."""
    metadata = (thing or {}).get("metadata") or {}
    return {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
