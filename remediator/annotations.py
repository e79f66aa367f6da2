"""Annotates runs in Grafana by itself: where a graph bends, people see what remediator did then.

In: the feed, which says that a run changed, and the journal, which says how it stands. Out: one annotation a run, noted in the journal, so
that a restart ends what an earlier life began. Dry runs have none. Nothing is refused; what Grafana does not take is counted and left.
"""

from __future__ import annotations

import html
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from remediator.errors import JournalUnavailable
from remediator.words import ending, folded

if TYPE_CHECKING:
    from remediator.model import Run
    from remediator.telling import Grafana
    from remediator.world import World

__all__ = ["Annotations"]

log = structlog.get_logger(__name__)
NOTE = "annotation"
"""The kind of the journal's entries; their ref is the run, their data the annotation's id and whether it has its end."""
_LOOK_BACK = timedelta(hours=1)
"""What ended before is left as it is after a start."""
_RETRY = timedelta(seconds=2)


class Annotations:
    """Watches until the feed closes."""

    def __init__(self, world: World, grafana: Grafana) -> None:
        self._world = world
        self._grafana = grafana
        self._begun: dict[str, int | None] = {}
        """Run -> the id of its annotation; None if Grafana did not take the beginning."""
        self._done: set[str] = set()

    async def watch(self) -> None:
        """One call at a time. Whoever falls too far behind the feed looks at all that is open, and goes on."""
        feed = self._world.feed
        while not feed.closed:
            listener = feed.listen()
            try:
                await self._catch_up()
                async for notice in listener:
                    if notice.kind == "run" and notice.ref not in self._done:
                        run = await self._world.journal.run(notice.ref)
                        if run is not None:
                            await self._consider(run)
            except JournalUnavailable as error:
                log.warning("the journal cannot say what is to be annotated; it is asked again", error=str(error))
                await self._world.clock.sleep(_RETRY)
            finally:
                feed.leave(listener)

    async def _catch_up(self) -> None:
        journal, since = self._world.journal, self._world.clock.now() - _LOOK_BACK
        for run in {run.id: run for run in [*await journal.open_runs(), *await journal.recent_runs(since=since)]}.values():
            if run.id not in self._done:
                await self._consider(run)

    async def _consider(self, run: Run) -> None:
        if run.dry_run or run.unapproved:
            if not run.state.open:
                self._done.add(run.id)
            return  # nothing of it was begun
        if run.id not in self._begun:
            noted = await self._world.journal.entries(ref=run.id, kind=NOTE)
            if any(entry.data.get("ended") for entry in noted):
                self._done.add(run.id)
                return
            if noted:
                self._begun[run.id] = noted[-1].data["id"]
        if run.state.open:
            if run.id not in self._begun:
                self._begun[run.id] = await self._begin(run)
        else:
            await self._end(run)
            self._done.add(run.id)
            self._begun.pop(run.id, None)

    async def _begin(self, run: Run) -> int | None:
        known = await self._grafana.create(self._text(run), self._tags(run), run.begun_at)
        if known is not None:
            await self._world.journal.note(NOTE, run.id, {"id": known, "ended": False})
        return known

    async def _end(self, run: Run) -> None:
        """As the end of what was begun, or both at once where the beginning did not get through."""
        known, ended = self._begun.get(run.id), run.ended_at or self._world.clock.now()
        if known is None:
            known = await self._grafana.create(self._text(run), self._tags(run), run.begun_at, ended)
        elif not await self._grafana.end(known, self._text(run), self._tags(run), ended):
            return
        if known is not None:
            await self._world.journal.note(NOTE, run.id, {"id": known, "ended": True})

    def _text(self, run: Run) -> str:
        """Grafana shows it as HTML."""
        words = f"{run.playbook} on {run.target.key}" + ("" if run.state.open else f": {ending(run)}")
        text = html.escape(folded(str(self._world.redact.data(words))))
        link = self._grafana.link(run.id)
        return f'{text} <a href="{html.escape(link)}">run {run.id}</a>' if link else f"{text} (run {run.id})"

    @staticmethod
    def _tags(run: Run) -> tuple[Any, ...]:
        return (run.playbook, run.target.name, *(() if run.state.open else (run.state.value,)))
