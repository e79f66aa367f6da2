"""What is known of each firing of each alert, in memory, as the journal has it: so that a repeat costs no question to the disk.

Those that an alert came for lately, up to a bound, without their labels: those come again with each alert. The others are on disk: after a
storm of thousands that goes on firing, whoever decides asks the journal for the few that come again. In: decisions, and what the journal
has. Out: the episode as it stands after them.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

from remediator.model import Alert, AlertStatus, Decision, DecisionKind, Episode, Target, evolve
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = ["KEPT", "Episodes", "is_held"]

KEPT = 10_000
_TARGETS = 10_000
"""Of which episodes share one record."""
_NO_LABELS: dict[str, str] = {}
_FINAL = (DecisionKind.RUN, DecisionKind.REFUSED, DecisionKind.UNMATCHED, DecisionKind.HELD)


def is_held(episode: Episode) -> bool:
    """Whether it waits for the end of a maintenance window."""
    return episode.resolved_at is None and episode.decision is DecisionKind.HELD and episode.reason is Reason.MAINTENANCE


class Episodes:
    """A bounded view of the journal's episodes."""

    def __init__(self, known: Iterable[Episode] = (), *, most: int = KEPT) -> None:
        """``known``: all that the journal has, else say so with ``more_on_disk``; ``most``: how many are kept in memory."""
        self._most = most
        self._known: OrderedDict[tuple[str, datetime], Episode] = OrderedDict()
        """Whose alert came last is the last."""
        self._held: dict[tuple[str, datetime], None] = {}
        self._targets: dict[Target, Target] = {}
        self._more_on_disk = False
        for episode in known:
            self.put(episode)

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._known)

    def get(self, key: tuple[str, datetime]) -> Episode | None:
        """The episode of fingerprint and startsAt, if it is in memory; without labels."""
        return self._known.get(key)

    def more_on_disk(self) -> None:
        """The journal has episodes that were not put here."""
        self._more_on_disk = True

    def unknown(self, keys: Iterable[tuple[str, datetime]]) -> list[tuple[str, datetime]]:
        """Those of ``keys`` that only the journal may know; ask it and ``put`` what it has. The others stay in memory the longest."""
        asked = []
        for key in dict.fromkeys(keys):
            if key in self._known:
                self._known.move_to_end(key)
            elif self._more_on_disk:
                asked.append(key)
        return asked

    def held(self, most: int | None = None) -> tuple[tuple[str, datetime], ...]:
        """Open episodes that wait for the end of a maintenance window, in memory or not, the longest known first; all, or ``most``."""
        return tuple(islice(self._held, most))

    def postpone(self, keys: Iterable[tuple[str, datetime]]) -> None:
        """Those of ``keys`` that are still held come after all others."""
        for key in keys:
            if key in self._held:
                del self._held[key]
                self._held[key] = None

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

    def put(self, episode: Episode) -> None:
        """Replace what is known of the episode."""
        key = (episode.fingerprint, episode.starts_at)
        # Alerts of one name share most of their details, and many have one target, so these are shared too.
        same = {"name": sys.intern(episode.name), "labels": _NO_LABELS, "detail": sys.intern(episode.detail)}
        episode = evolve(episode, **same, target=self._shared(episode.target))
        if is_held(episode):
            self._held[key] = None
        else:
            self._held.pop(key, None)
        self._known[key] = episode
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
            self._more_on_disk = True

    def _shared(self, target: Target | None) -> Target | None:
        if target is None:
            return None
        if len(self._targets) > _TARGETS:
            self._targets.clear()
        return self._targets.setdefault(target, target)
