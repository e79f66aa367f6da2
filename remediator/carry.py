"""Carries a decided run to its end: the run stage for each rung, then verify, then undo where it is due, then the record.

In: the id of a run that the journal holds. Out: its end. Durable: each stage is a step of the engine, so after a crash the finished ones
are not entered again, and the open one is entered again and looks first.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog

from remediator import record
from remediator.approval import Answered, answered, resolved
from remediator.context import CancelledByPersonError
from remediator.errors import DocumentError, JournalUnavailable, RemediatorError
from remediator.model import Noun, Run, RunState, evolve, from_json, to_json
from remediator.preview import preview
from remediator.reasons import Reason
from remediator.run import StepEnd, StepEnding, judge_again, run_step, template_values
from remediator.undo import goes_on, undo
from remediator.verify import Verified, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from remediator.playbook import Playbook, Rung
    from remediator.world import World

__all__ = ["A_PERSON_MUST_LOOK", "UNDO", "carry", "patiently", "undo_due"]

log = structlog.get_logger(__name__)
T = TypeVar("T")
_RETRY = timedelta(seconds=2)

UNDO = ".undo"
"""After a run's id: the durable work of putting its changes back once it has ended; a number follows where an earlier try ended too."""


A_PERSON_MUST_LOOK = (Reason.NO_MORE_RUNGS, Reason.STILL_FIRING, Reason.RELAPSED, Reason.DEADLINE)
"""Everything was tried, or time is up, or nobody knows; a refusal of a later rung tells by its gates what stands in the way."""


class End(Noun, frozen=True, kw_only=True):
    """How a run ends."""

    state: RunState
    reason: Reason | None = None
    detail: str = ""


async def carry(world: World, run: str) -> str:
    """A run from its first step to its end; the state that it ended in."""
    if UNDO in run:
        return await _undo_after_end(world, run.partition(UNDO)[0])
    stored, text = await patiently(world, "begin", lambda: _began(world, run))
    if world.tracing.on:
        structlog.contextvars.bind_contextvars(trace_id=world.tracing.trace_id(stored))
    playbook = world.load_revision(text)
    end = await _refused_by_people(world, playbook, stored) or await _climb(world, playbook, stored)
    return await _durably(world, "end", lambda: _close(world, playbook, run, end))


async def _refused_by_people(world: World, playbook: Playbook, run: Run) -> End | None:
    """Where people are asked before the beginning: how the run ends without their yes, or without that of the gates after it."""
    if not any(asked.step is None for asked in run.approvals):
        return None

    async def show() -> None:
        await preview(world, playbook, await _stored(world, run.id), template_values(run, world))

    async def ask() -> dict[str, Any]:
        return _plain(await answered(world, run.id))

    async def judge() -> dict[str, Any] | None:
        refused = await judge_again(world, playbook, run)
        return _plain(refused) if refused else None

    await _durably(world, "preview", show)
    said = from_json(await _durably(world, "approval", ask), Answered)
    if said.reason is not None:
        return End(state=_WITHOUT_YES[said.reason], reason=said.reason, detail=said.detail)
    refused = await _durably(world, "gates", judge)
    return _after(from_json(refused, StepEnding), 0) if refused else None


_WITHOUT_YES = {
    Reason.APPROVAL_EXPIRED: RunState.EXPIRED,
    Reason.REJECTED: RunState.CANCELLED,
    Reason.RESOLVED_MEANWHILE: RunState.CANCELLED,
    Reason.CANCELLED_BY: RunState.CANCELLED,
}
"""The end of a run that asked people, by what came instead of a yes."""


class _Try(NamedTuple):
    """One attempt of one rung."""

    number: int
    attempt: int
    rung: Rung
    first: int
    """The index of its first step in the run."""

    @property
    def key(self) -> str:
        """For the names of durable steps, which must not change while a run is open."""
        return str(self.number) if self.attempt == 1 else f"{self.number}.{self.attempt}"

    @property
    def words(self) -> str:
        """For the record."""
        return repr(self.rung.name) if self.rung.attempts == 1 else f"{self.rung.name!r}, attempt {self.attempt} of {self.rung.attempts}"


def _tries(playbook: Playbook) -> Iterator[_Try]:
    """Every attempt of every rung, in order."""
    first = 0
    for number, rung in enumerate(playbook.ladder):
        for attempt in range(1, rung.attempts + 1):
            yield _Try(number, attempt, rung, first)
            first += len(rung.steps)


async def _climb(world: World, playbook: Playbook, run: Run) -> End:
    """Rung after rung, each as often as it says, until the symptom is proved gone or nothing is left to try.

    The next attempt needs proof that the symptom is still there, and time: where it cannot be read, or time is up, a person must look.
    """
    end = End(state=RunState.NOT_HEALED, reason=Reason.NO_MORE_RUNGS)
    tried: list[str] = []
    for this in _tries(playbook):
        if tried and await _too_late(world, run.id, this):
            return evolve(end, detail=f"{end.detail}; the run's time is up, so the rung {this.words} was not tried")
        end = await _attempt(world, playbook, run, this)
        if end.reason not in (Reason.STILL_FIRING, Reason.RELAPSED):
            return end
        tried.append(f"the rung {this.words}: {end.reason}, {end.detail}")
    # Where only one thing was to be tried, how that ended says more than that there was no other.
    return end if len(tried) == 1 else evolve(end, reason=Reason.NO_MORE_RUNGS, detail="; ".join(tried))


async def _attempt(world: World, playbook: Playbook, run: Run, this: _Try) -> End:
    """How the run would end after this attempt of a rung."""
    ending = await _rung(world, playbook, run.id, this)
    if ending.end is not StepEnd.SUCCEEDED:
        return _after(ending, this.first)
    if run.dry_run:
        return End(state=RunState.PREDICTED, detail="dry run: every step up to the last call was taken, and nothing was changed")
    if playbook.verify is None:
        return End(state=RunState.DONE, detail=ending.detail)
    proof = await _proof(world, playbook, run.id, this)
    if proof.healed:
        return End(state=RunState.HEALED, reason=Reason.HEALED, detail=proof.detail)
    state = RunState.CANCELLED if proof.reason is Reason.CANCELLED_BY else RunState.NOT_HEALED
    return End(state=state, reason=proof.reason, detail=proof.detail)


async def _too_late(world: World, run: str, this: _Try) -> bool:
    """Whether this attempt must not begin any more; one that began before a crash goes on, for it looks first."""

    async def work() -> bool:
        stored = await _stored(world, run)
        return (stored.rung, stored.attempt) < this[:2] and world.clock.now() >= stored.deadline

    return await _durably(world, f"{this.key}.time", work)


async def _rung(world: World, playbook: Playbook, run: str, this: _Try) -> StepEnding:
    """The steps of one attempt in order; the first that does not succeed ends it."""
    ending = StepEnding(end=StepEnd.SUCCEEDED)
    for index, spec in enumerate(this.rung.steps, start=this.first):

        async def work(index: int = index, spec: Any = spec) -> dict[str, Any]:
            async with world.signals.writing(run):
                now = await _stored(world, run)
                if (now.rung, now.attempt) != this[:2] or now.state not in (RunState.RUNNING, RunState.AWAITING_APPROVAL):
                    now = evolve(now, rung=this.number, attempt=this.attempt, state=RunState.RUNNING)
                    await world.journal.save_run(now)
            return _plain(await run_step(world, playbook, now, now.steps[index], spec))

        ending = from_json(await _durably(world, f"{this.key}.{spec.name}", work), StepEnding)
        if ending.end is not StepEnd.SUCCEEDED:
            break
    return ending


async def _proof(world: World, playbook: Playbook, run: str, this: _Try) -> Verified:
    async def work() -> dict[str, Any]:
        stored = await _stored(world, run)
        assert playbook.verify is not None  # noqa: S101 - the caller asked for it
        try:
            return _plain(await verify(world, playbook, stored, playbook.verify))
        except CancelledByPersonError:
            cancelled = (await _stored(world, run)).cancel
            return _plain(Verified(healed=False, reason=Reason.CANCELLED_BY, detail=cancelled))

    return from_json(await _durably(world, f"{this.key}.verify", work), Verified)


def _after(ending: StepEnding, before: int) -> End:
    """What a step that did not succeed makes of the run, with so many steps before its rung."""
    if ending.reason in _WITHOUT_YES:
        return End(state=_WITHOUT_YES[ending.reason], reason=ending.reason, detail=ending.detail)
    match ending.end:
        case StepEnd.CANCELLED:
            state = RunState.CANCELLED
        case StepEnd.UNKNOWN:
            state = RunState.UNKNOWN
        case StepEnd.REFUSED:
            state = RunState.NOT_HEALED if before else RunState.CANCELLED
        case _:
            state = RunState.FAILED
    return End(state=state, reason=ending.reason, detail=ending.detail)


async def _close(world: World, playbook: Playbook, run: str, end: End) -> str:
    """Put back what is to be put back, then the last row. Safe to enter again."""
    stored = await _stored(world, run)
    if not stored.state.open:
        return stored.state.value
    detail = end.detail
    wholly = _is_undone(playbook, end)
    if (wholly and _leaves(stored)) or any(goes_on(change) for step in stored.steps for change in step.changes):
        async with world.signals.writing(run):
            stored = await _stored(world, run)
            begun = stored.undoing_at or world.clock.now()
            await world.journal.save_run(evolve(stored, state=RunState.UNDOING, reason=end.reason, detail=detail, undoing_at=begun))
        world.feed.publish("run", run)
        detail = "; ".join(part for part in (detail, (await undo(world, stored, unfinished=not wholly)).words) if part)
        stored = await _stored(world, run)
    if end.state is RunState.HEALED and playbook.on_resolved == "undo" and await resolved(world, stored):
        detail = f"{detail}; the alert resolved, {(await undo(world, stored)).words}"
        stored = await _stored(world, run)
    if end.state is RunState.NOT_HEALED and end.reason in A_PERSON_MUST_LOOK:
        await record.not_healed(world, stored, end.reason, detail)
    closed = await record.ended(world, stored, end.state, end.reason, detail)
    return closed.state.value


def _is_undone(playbook: Playbook, end: End) -> bool:
    """Whether a run that ends so puts back what it changed: as after a failure, or because its alert is over and the work half done."""
    if end.reason is Reason.RESOLVED_MEANWHILE and playbook.on_resolved == "undo":
        return True
    return playbook.on_failure == "undo" and end.state in (RunState.FAILED, RunState.NOT_HEALED, RunState.CANCELLED, RunState.EXPIRED)


async def undo_due(world: World, run: str) -> bool:
    """Whether what an ended run left behind is to go back now, because its own alert resolved and its playbook says so."""
    stored = await world.journal.run(run)
    if stored is None or stored.state.open or not _leaves(stored) or not await resolved(world, stored):
        return False
    text = await world.journal.revision(stored.revision)
    try:
        return text is not None and world.load_revision(text).on_resolved == "undo"
    except DocumentError:
        log.exception("this version cannot read the playbook of a run that left something behind", run=run)
        return False


def _leaves(run: Run) -> bool:
    return any(change.left_behind for step in run.steps for change in step.changes)


async def _undo_after_end(world: World, run: str) -> str:
    """Put back what an ended run left behind, because its alert resolved or a person asked; its state stays what it was."""

    async def work() -> str:
        words = (await undo(world, await _stored(world, run))).words
        await world.journal.note("undo", run, {"outcome": words})
        log.info("run undone", run=run, outcome=words)
        return words

    world.undoing.add(run)
    try:
        return await _durably(world, "undo", work)
    finally:
        world.undoing.discard(run)


async def _stored(world: World, run: str) -> Run:
    stored = await world.journal.run(run)
    if stored is None:
        raise RemediatorError(f"the engine knows run {run}, the journal does not: were two stores mixed up?")
    return stored


async def _began(world: World, run: str) -> tuple[Run, str]:
    """The run, and the text of its playbook as it was when it began."""
    stored = await _stored(world, run)
    text = await world.journal.revision(stored.revision)
    if text is None:
        raise RemediatorError(f"the journal lacks revision {stored.revision} of playbook {stored.playbook}")
    return stored, text


async def _durably(world: World, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """One durable step of the engine."""
    assert world.engine is not None  # noqa: S101 - the daemon sets it before anything runs
    return await world.engine.step(name, lambda: patiently(world, name, work))


async def patiently(world: World, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``work`` returns. While the journal cannot keep or tell anything it waits; the work is then entered again, and looks first.

    What it kept without knowing is on disk by then: a look before a commit that hangs would find no intent, and a second one would follow.
    """
    in_doubt = False
    while True:
        try:
            if in_doubt:
                await world.journal.settled()
            in_doubt = False
            return await work()
        except JournalUnavailable as error:
            in_doubt = True
            log.warning("the run waits for the journal", step=name, error=str(error))
            await world.clock.sleep(_RETRY)


def _plain(noun: Noun) -> dict[str, Any]:
    return dict(to_json(noun))
