"""Questions to people: asked, waited for, answered. The question and every answer are on disk before anybody hears of them.

In: a run, and whether a person says yes or no, and why. Out: the run with the answer in it, and for whoever waits a named end. A question
ends by enough different people's yes, by one no, by its time, by the end of the alert, or because the run is cancelled. Refused, with
UsageError: an answer to a run that does not wait, a second yes of the same person.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from remediator import words
from remediator.clock import iso
from remediator.errors import RemediatorError, UsageError
from remediator.model import Answer, Approval, ApprovalState, Noun, RunState, TriggerKind, evolve
from remediator.reasons import Reason
from remediator.telemetry import METRICS
from remediator.world import Asking

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.model import Run
    from remediator.playbook import Playbook
    from remediator.world import World

__all__ = ["Answered", "answer", "answered", "ask", "asking_of", "question", "resolved"]

log = structlog.get_logger(__name__)
_LOOK = timedelta(seconds=30)
"""How long a wait goes without a look at the journal, where nobody wakes it."""


class Answered(Noun, frozen=True, kw_only=True):
    """How a question ended.

    ``reason`` is None for a yes, else ``rejected``, ``approval_expired``, ``resolved_meanwhile`` or ``cancelled_by``.
    """

    reason: Reason | None = None
    detail: str = ""


def asking_of(world: World, playbook: Playbook) -> Asking:
    """How people are asked about ``playbook``: its own expiry over the settings'; never fewer people than the settings say."""
    own = playbook.approval
    expires = own.expires if own.expires is not None else world.asking.expires
    return Asking(expires=expires, people=max(own.people, world.asking.people))


def question(asking: Asking, now: datetime, *, text: str, step: int | None = None, answers: tuple[Answer, ...] = ()) -> Approval:
    """A new question."""
    return Approval(step=step, question=text, people=asking.people, asked_at=now, expires_at=now + asking.expires, answers=answers)


def answer(run: Run, said: Answer, *, named: bool = True) -> Run:
    """``run`` with one more answer; it goes on at once if that was the last yes that it needed. Raises UsageError.

    ``named``: whether a person gave a name; without one nobody can tell whether two answers come from two people.
    """
    open_ = _waiting(run)
    if open_ is None:
        raise UsageError(f"run {run.id} {_standing(run)}; it does not wait for an approval")
    if said.at >= open_.expires_at:
        raise UsageError(f"the question of run {run.id} expired {iso(open_.expires_at)}")
    if said.approved and open_.people > 1 and not (named and said.person):
        raise UsageError(f"run {run.id} needs {open_.people} different people, so say who you are: by")
    if said.approved and any(earlier.approved and earlier.person == said.person for earlier in open_.answers):
        raise UsageError(f"{said.by} approved run {run.id} already; {words.more_people(open_)} must approve it too")
    told = evolve(open_, answers=(*open_.answers, said))
    if not said.approved:
        return _with(run, evolve(told, state=ApprovalState.REJECTED, ended_at=said.at))
    if told.missing:
        return _with(run, told)
    waited = said.at - open_.asked_at
    granted = _with(run, evolve(told, state=ApprovalState.APPROVED, ended_at=said.at))
    return evolve(granted, state=RunState.RUNNING, deadline=run.deadline + waited)  # the run's own time went on only since then


def _waiting(run: Run) -> Approval | None:
    last = run.approvals[-1] if run.approvals else None
    return last if last is not None and last.state is ApprovalState.WAITING and run.state is RunState.AWAITING_APPROVAL else None


def _standing(run: Run) -> str:
    """Why it does not wait, in words that follow its name."""
    last = run.approvals[-1] if run.approvals else None
    told = f"{'is' if run.state.open else 'has ended:'} {run.state}"
    if last is None or last.state is ApprovalState.WAITING:
        return told
    if run.state is RunState.AWAITING_APPROVAL:  # answered, or too late, a moment ago: what follows is not written down yet
        told = f"is {last.state}"
    return f"{told} ({words.approval(last)})"


def _with(run: Run, last: Approval) -> Run:
    return evolve(run, approvals=(*run.approvals[:-1], last))


async def ask(world: World, run: str, asked: Approval) -> Answered:
    """Ask in mid-run and wait for the answer. Entered again after a crash, it goes on waiting, or tells the answer that is on disk."""
    async with world.signals.writing(run):
        stored = await _stored(world, run)
        known = [one for one in stored.approvals if one.step == asked.step]
        if not known:
            await world.journal.save_run(evolve(stored, state=RunState.AWAITING_APPROVAL, approvals=(*stored.approvals, asked)))
    world.feed.publish("run", run)
    return await answered(world, run, asked.step)


async def answered(world: World, run: str, step: int | None = None) -> Answered:
    """Wait until the question of ``step`` (None: of the whole run) ended; what is decided here is on disk when it returns."""
    stored = await _stored(world, run)
    gauge = METRICS.awaiting_approval.labels(stored.playbook)
    gauge.inc()
    try:
        return await _ended(world, run, step)
    finally:
        gauge.dec()


async def _ended(world: World, run: str, step: int | None) -> Answered:
    news = world.signals.news(run)
    while True:
        news.clear()
        over = await _look(world, run, step)
        if over is not None:
            return over
        left = _of(await _stored(world, run), step).expires_at - world.clock.now()
        await _sleep(world, run, news, min(_LOOK, max(left, timedelta(0))))


async def _look(world: World, run: str, step: int | None) -> Answered | None:
    """Whether the question is over; then its end is written down."""
    async with world.signals.writing(run):
        stored = await _stored(world, run)
        asked, now = _of(stored, step), world.clock.now()
        over = stored.trigger.kind is TriggerKind.ALERT and await resolved(world, stored)
        end = _end_of(stored, asked, now, over=over)
        if end is None:
            return None
        state, reason = end
        if asked.state is not state:
            closed = evolve(asked, state=state, ended_at=now)
            await world.journal.save_run(evolve(stored, approvals=tuple(closed if one is asked else one for one in stored.approvals)))
            asked = closed
    world.feed.publish("run", run)
    return _told(stored, asked, reason)


def _end_of(run: Run, asked: Approval, now: datetime, *, over: bool) -> tuple[ApprovalState, Reason | None] | None:
    """How the question ends, if it does: the end of the alert (``over``) goes before a yes, a yes before the clock."""
    ends = {
        ApprovalState.REJECTED: Reason.REJECTED,
        ApprovalState.EXPIRED: Reason.APPROVAL_EXPIRED,
        ApprovalState.WITHDRAWN: Reason.CANCELLED_BY if run.cancel else Reason.RESOLVED_MEANWHILE,
    }
    state = asked.state
    if state not in ends:
        if run.cancel or over:
            state = ApprovalState.WITHDRAWN
        elif state is ApprovalState.WAITING and now >= asked.expires_at:
            state = ApprovalState.EXPIRED
    return None if state is ApprovalState.WAITING else (state, ends.get(state))


def _told(run: Run, asked: Approval, reason: Reason | None) -> Answered:
    METRICS.approvals.labels(run.playbook, asked.state.value).inc()
    detail = run.cancel if reason is Reason.CANCELLED_BY else words.approval(asked)
    log.info("the question to people is over", run=run.id, step=asked.step, state=asked.state.value, answers=detail)
    return Answered(reason=reason, detail=detail)


async def _sleep(world: World, run: str, news: asyncio.Event, at_most: timedelta) -> None:
    waits = [asyncio.ensure_future(w) for w in (news.wait(), world.signals.cancelled(run).wait(), world.clock.sleep(at_most))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def resolved(world: World, run: Run) -> bool:
    """Whether the run's episode is over, as far as notifications told."""
    if run.alert is None:
        return False
    page = await world.journal.episodes(open_only=False, fingerprint=run.alert.fingerprint)
    return any((e.fingerprint, e.starts_at) == run.alert.episode and e.resolved_at is not None for e in page.items)


def _of(run: Run, step: int | None) -> Approval:
    for asked in run.approvals:
        if asked.step == step:
            return asked
    raise RemediatorError(f"run {run.id} holds no question of step {step}")


async def _stored(world: World, run: str) -> Run:
    stored = await world.journal.run(run)
    if stored is None:
        raise RemediatorError(f"the journal does not hold run {run}")
    return stored
