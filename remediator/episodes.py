"""What is known of each firing of each alert, in memory, as the journal has it: so that a repeat costs no question to the disk.

Every open episode is here, and the last closed ones, without their labels: those come again with each alert, and a storm of thousands
would fill the memory with them. In: decisions. Out: the episode as it stands after them.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from remediator.model import Alert, AlertStatus, Decision, DecisionKind, Episode, Target, evolve
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = ["Episodes"]

_CLOSED_KEPT = 10_000
_TARGETS = 10_000
"""Of which episodes share one record."""
_NO_LABELS: dict[str, str] = {}
_FINAL = (DecisionKind.RUN, DecisionKind.REFUSED, DecisionKind.UNMATCHED, DecisionKind.HELD)


class Episodes:
    """A bounded view of the journal's episodes."""

    def __init__(self, known: Iterable[Episode] = ()) -> None:
        self._open: dict[tuple[str, datetime], Episode] = {}
        self._closed: OrderedDict[tuple[str, datetime], Episode] = OrderedDict()
        self._held: dict[tuple[str, datetime], None] = {}
        self._targets: dict[Target, Target] = {}
        for episode in known:
            self.put(episode)

    def get(self, key: tuple[str, datetime]) -> Episode | None:
        """The episode of fingerprint and startsAt, if it is open or closed not long ago; without labels."""
        return self._open.get(key) or self._closed.get(key)

    def held(self) -> tuple[tuple[str, datetime], ...]:
        """The open episodes that wait for the end of a maintenance window, the longest known first."""
        return tuple(self._held)

    def let_go(self, key: tuple[str, datetime]) -> None:
        """Nobody can decide on it any more before it comes again."""
        self._held.pop(key, None)

    @staticmethod
    def after(known: Episode | None, decision: Decision, alert: Alert) -> Episode:
        """The episode of ``alert`` once ``decision`` is made. Pure: ``put`` it here when the journal has kept it."""
        if known is None:
            known = Episode(
                fingerprint=alert.fingerprint,
                starts_at=alert.episode[1],
                name=alert.name,
                labels=alert.labels,
                first_seen=decision.at,
                last_seen=decision.at,
                deliveries=0,
                decision=decision.decision,
            )
        changed = evolve(known, labels=alert.labels, last_seen=decision.at, deliveries=known.deliveries + 1)
        if alert.status is AlertStatus.RESOLVED:
            changed = evolve(changed, resolved_at=known.resolved_at or alert.ends_at or decision.at)
        elif decision.decision is DecisionKind.RUN:
            changed = evolve(changed, resolved_at=None)  # Alertmanager was asked, and holds it for active after all
        if decision.decision in _FINAL:
            changed = evolve(
                changed,
                decision=decision.decision,
                reason=decision.reason,
                detail=decision.detail,
                playbook=decision.playbook,
                target=decision.target,
                run=decision.run or known.run,
                dry_run=decision.dry_run if decision.run else known.dry_run,
            )
        return changed

    def __len__(self) -> int:
        return len(self._open)

    def put(self, episode: Episode) -> None:
        """Replace what is known of the episode."""
        key = (episode.fingerprint, episode.starts_at)
        # Alerts of one name share most of their details, and many have one target, so these are shared too.
        same = {"name": sys.intern(episode.name), "labels": _NO_LABELS, "detail": sys.intern(episode.detail)}
        episode = evolve(episode, **same, target=self._shared(episode.target))
        if episode.resolved_at is None and episode.decision is DecisionKind.HELD and episode.reason is Reason.MAINTENANCE:
            self._held[key] = None
        else:
            self._held.pop(key, None)
        if episode.resolved_at is None:
            self._closed.pop(key, None)
            self._open[key] = episode
            return
        self._open.pop(key, None)
        self._closed[key] = episode
        while len(self._closed) > _CLOSED_KEPT:
            self._closed.popitem(last=False)

    def _shared(self, target: Target | None) -> Target | None:
        if target is None:
            return None
        if len(self._targets) > _TARGETS:
            self._targets.clear()
        return self._targets.setdefault(target, target)
