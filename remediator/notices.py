"""Tells people by itself what they must know: a run waits for them, did not heal, failed, cannot be told; the breaker opened.

In: the feed, which says what changed, and the journal, which says what it is. Out: Messages, each noted in the journal once its routes are
through with it, so that a restart tells what was not told yet. Nothing is refused; without a route nothing is watched.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from remediator.breaker import opened
from remediator.clock import iso
from remediator.errors import JournalUnavailable
from remediator.model import ApprovalState, RunState, StepState, evolve
from remediator.readings import breaker_past
from remediator.settings import Event
from remediator.telling import Message, Posted
from remediator.words import approval, ending, folded, state_words, step_end

if TYPE_CHECKING:
    from remediator.journal import Journal
    from remediator.model import Run
    from remediator.world import World

__all__ = ["Notices", "Posts"]

log = structlog.get_logger(__name__)
NOTE = "told"
"""The kind of the journal's entries; their ref is the run, or ``breaker``."""
POST = "slack"
"""The kind of the journal's entries that say which message is a run's; their ref is the run."""
_LOOK_BACK = timedelta(hours=1)
"""What ended before is no news after a start."""
_RETRY = timedelta(seconds=2)
_ENDS = {
    RunState.NOT_HEALED: Event.NOT_HEALED,
    RunState.FAILED: Event.FAILED,
    RunState.UNKNOWN: Event.UNKNOWN,
    RunState.EXPIRED: Event.EXPIRED,
    RunState.HEALED: Event.HEALED,
    RunState.DONE: Event.DONE,
    RunState.CANCELLED: Event.CANCELLED,
    RunState.PREDICTED: Event.PREDICTED,
}


_AT_WORK = frozenset({RunState.RUNNING, RunState.VERIFYING, RunState.UNDOING})


class Posts:
    """Which message is a run's, in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def find(self, route: str, run: str) -> Posted | None:
        """The last one that was kept. Raises JournalUnavailable."""
        kept = [entry.data for entry in await self._journal.entries(ref=run, kind=POST) if entry.data["route"] == route]
        return Posted(channel=kept[-1]["channel"], ts=kept[-1]["ts"]) if kept else None

    async def keep(self, route: str, run: str, posted: Posted) -> None:
        """From now on it is this one. What cannot be noted is lost at a restart, and a new message comes then."""
        try:
            await self._journal.note(POST, run, {"route": route, "channel": posted.channel, "ts": posted.ts})
        except JournalUnavailable as error:
            log.warning("a run's message could not be noted; after a restart there would be a new one", run=run, error=str(error))


class Notices:
    """Watches until the feed closes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: set[str] = set()
        """Ids of messages that are told or under way."""
        self._telling: set[asyncio.Task[None]] = set()

    async def watch(self) -> None:
        """Whatever happens to the journal or to the feed's queue, it goes on, and looks at what it may have missed."""
        feed = self._world.feed
        try:
            while not feed.closed:
                listener = feed.listen()
                try:
                    await self._catch_up()
                    async for notice in listener:
                        if notice.kind == "run":
                            await self._look(notice.ref)
                except JournalUnavailable as error:
                    log.warning("the journal cannot say what people must know; it is asked again", error=str(error))
                    await self._world.clock.sleep(_RETRY)
                finally:
                    feed.leave(listener)
        finally:
            for task in self._telling:
                task.cancel()

    async def _catch_up(self) -> None:
        journal, since = self._world.journal, self._world.clock.now() - _LOOK_BACK
        runs = {run.id: run for run in [*await journal.open_runs(), *await journal.recent_runs(since=since)]}
        for run in runs.values():
            await self._consider(run)
        await self._look_at_breaker()

    async def _look(self, ref: str) -> None:
        run = await self._world.journal.run(ref)
        if run is None:
            return
        await self._consider(run)
        if not run.state.open:
            await self._look_at_breaker()

    async def _consider(self, run: Run) -> None:
        message = _about(run)
        if message is None:
            return
        if message.event is Event.APPROVAL and run.approvals[-1].people == 1:
            message = evolve(message, invitation=self._world.invitations.text(run.id, run.approvals[-1].asked_at))
        if self._world.teller.follows:
            self._world.teller.follow(message)
        await self._tell(message, run.id)

    async def _look_at_breaker(self) -> None:
        world = self._world
        found = opened(await breaker_past(world), world.limits.breaker)
        if found is None:
            return
        at = iso(found.at)
        words = f"The breaker opened: {found.words}. No alert leads to anything until a person resets it: remediator breaker reset"
        await self._tell(
            Message(id=f"breaker.{at}", event=Event.BREAKER, at=at, summary=words, target="everything", detail=found.words), "breaker"
        )

    async def _tell(self, message: Message, ref: str) -> None:
        teller = self._world.teller
        if message.id in self._told or not teller.taking(message):
            return
        if any(entry.data.get("id") == message.id for entry in await self._world.journal.entries(ref=ref, kind=NOTE)):
            self._told.add(message.id)
            return
        self._told.add(message.id)
        task = asyncio.create_task(self._tell_and_note(message, ref), name="tell people")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_and_note(self, message: Message, ref: str) -> None:
        ends = await self._world.teller.tell(message)
        try:
            await self._world.journal.note(NOTE, ref, {"id": message.id, "event": message.event.value, "routes": dict(ends)})
        except JournalUnavailable as error:
            log.warning(
                "people were told and that could not be noted; a restart would tell them again", message=message.id, error=str(error)
            )


def _about(run: Run) -> Message | None:
    """What there is to say of a run as it stands; None if nothing. Of what is only predicted nothing but that it was is said."""
    if run.state is RunState.AWAITING_APPROVAL and run.approvals and run.approvals[-1].state is ApprovalState.WAITING:
        if run.dry_run:
            return None
        asked = run.approvals[-1]
        words = f"{folded(asked.question)} Until {iso(asked.expires_at)}: remediator runs approve {run.id}, or reject"
        return _message(run, Event.APPROVAL, f"{run.id}.approval.{len(run.approvals)}", iso(asked.asked_at), words)
    if run.state in _AT_WORK:
        words = f"{run.playbook} on {run.target.key} {state_words(run.state)}"
        return None if run.dry_run else _message(run, Event.BEGUN, f"{run.id}.begun", iso(run.begun_at), words)
    if run.ended_at is None:
        return None
    event = Event.PREDICTED if run.dry_run else _ENDS[run.state]
    words = f"{run.playbook} on {run.target.key}: {ending(run)}"
    return _message(run, event, f"{run.id}.end", iso(run.ended_at), words)


def _message(run: Run, event: Event, id: str, at: str, words: str) -> Message:  # noqa: A002 - the record's own word
    return Message(
        id=id,
        event=event,
        at=at,
        summary=words,
        playbook=run.playbook,
        target=run.target.key,
        run=run.id,
        state=run.state.value,
        reason=run.reason.value if run.reason else "",
        detail=run.detail,
        alert=run.alert.name if run.alert else "",
        lines=_lines(run),
    )


def _lines(run: Run) -> tuple[str, ...]:
    """Questions and steps so far, in the order of time."""
    said = [(asked.asked_at, f"approval: {approval(asked)}") for asked in run.approvals]
    done = [
        (step.started_at, f"{step.name}: {step_end(step)}")
        for step in run.steps
        if step.started_at is not None and step.state is not StepState.PENDING
    ]
    return tuple(line for _, line in sorted([*said, *done], key=lambda one: one[0]))
