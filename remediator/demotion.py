"""Playbooks that failed several times in a row act no longer by themselves, until a person says so. Nothing is ever promoted here.

In: ended runs, and what the journal's log says of earlier demotions. Out: the mode that is left, the entries of the log. After a crash
both are read back: a demotion whose entry was not written is found again, because the runs that led to it are on disk.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from remediator.breaker import failed
from remediator.model import Mode, Noun, RunState, from_json
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.clock import Clock
    from remediator.journal import Journal
    from remediator.model import Entry, Run

__all__ = ["DEMOTED", "REINSTATED", "Demotion", "Demotions", "counts"]

log = structlog.get_logger(__name__)
LEFT = Mode.SUGGEST
"""What a demoted playbook may do at most: people are asked, nothing happens by itself."""
DEMOTED, REINSTATED = "demoted", "reinstated"
"""Kinds of entries in the journal's log, under the playbook's name."""
_PAGE = 20
_WORKED = (RunState.HEALED, RunState.DONE)


class Demotion(Noun, frozen=True, kw_only=True):
    """One playbook that may not act by itself any more: since when, and because of which runs (the newest first)."""

    playbook: str
    at: datetime
    mode: Mode = LEFT
    runs: tuple[str, ...] = ()


def counts(run: Run) -> bool:
    """Whether it says anything about its playbook: it ended, it was real, and neither a gate nor people stopped it."""
    return not run.dry_run and (failed(run) or run.state in _WORKED)


class Demotions:
    """Those in force, in memory as the journal's log has them. ``failures`` in a row demote; 0 never does."""

    def __init__(self, failures: int = 3) -> None:
        self.failures = failures
        self._now: dict[str, Demotion] = {}
        self._since: dict[str, datetime] = {}
        """When a playbook was last reinstated; runs from before do not count any more."""

    def under(self, playbook: str, mode: Mode) -> Mode:
        """``mode``, or less where the playbook is demoted."""
        demotion = self._now.get(playbook)
        return min(mode, demotion.mode, key=lambda one: Mode(one).rank) if demotion else mode

    def of(self, playbook: str) -> Demotion | None:
        """The demotion in force."""
        return self._now.get(playbook)

    @property
    def all(self) -> tuple[Demotion, ...]:
        """Those in force, by playbook."""
        return tuple(self._now[name] for name in sorted(self._now))

    async def load(self, journal: Journal, clock: Clock, playbooks: Iterable[str]) -> None:
        """Take up what an earlier life left, also a demotion that it was about to write down. Raises JournalUnavailable."""
        entries = [*await _all(journal, DEMOTED), *await _all(journal, REINSTATED)]
        for entry in sorted(entries, key=lambda entry: entry.seq):
            if entry.kind == DEMOTED:
                self._now[entry.ref] = from_json(entry.data, Demotion)
            else:
                self._reinstated(entry.ref, entry.at)
        for playbook in await journal.ran(playbooks):
            await self.look(journal, clock, playbook)
        for demotion in self.all:
            METRICS.demoted.labels(demotion.playbook).set(1)

    async def look(self, journal: Journal, clock: Clock, playbook: str) -> Demotion | None:
        """After a run of ``playbook`` ended: demote it if it failed so often in a row. The entry is on disk before it is in force."""
        if not self.failures or playbook in self._now:
            return None
        row = await self.row(journal, playbook)
        if len(row) < self.failures:
            return None
        demotion = Demotion(playbook=playbook, at=clock.now(), runs=tuple(row))
        await journal.note(DEMOTED, playbook, demotion)
        self._now[playbook] = demotion
        METRICS.demoted.labels(playbook).set(1)
        METRICS.demotions.labels(playbook).inc()
        log.warning("a playbook failed too often in a row and acts no longer by itself", playbook=playbook, runs=row, mode=LEFT.value)
        return demotion

    async def row(self, journal: Journal, playbook: str) -> list[str]:
        """The runs that failed since the last one that worked, or since the last reinstatement; newest first, no more than matter."""
        row: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await journal.runs(playbook=playbook, dry_run=False, since=self._since.get(playbook), limit=_PAGE, cursor=cursor or None)
            for run in filter(counts, page.items):
                if not failed(run) or len(row) >= max(1, self.failures):
                    return row
                row.append(run.id)
            cursor = page.next
        return row

    async def reinstate(self, journal: Journal, clock: Clock, playbook: str, *, by: str, reason: str) -> Demotion | None:
        """Lift the demotion of ``playbook`` because a person says so; what it was, or None if there was none."""
        was = self._now.get(playbook)
        if was is None:
            return None
        await journal.note(REINSTATED, playbook, {"by": by, "reason": reason})
        self._reinstated(playbook, clock.now())
        METRICS.demoted.labels(playbook).set(0)
        log.warning("a playbook may act by itself again", playbook=playbook, by=by, reason=reason)
        return was

    def _reinstated(self, playbook: str, at: datetime) -> None:
        self._now.pop(playbook, None)
        self._since[playbook] = at


async def _all(journal: Journal, kind: str) -> list[Entry]:
    found: list[Entry] = []
    while entries := await journal.entries(kind=kind, after=found[-1].seq if found else 0):
        found += entries
    return found
