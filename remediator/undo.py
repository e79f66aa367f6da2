"""The undo stage: last first, only what this run changed, only if nobody touched it since.

In: a run with changes that are left behind. Out: each of them ``undone``, or ``foreign`` because it is somebody else's now, or as it was
because putting it back failed, or because it disturbs and a gate refuses; the words say which. An undo is a change of its own, with intent
and outcome, so it too survives a crash.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from remediator.actions import Observed, actions
from remediator.context import StepContext
from remediator.errors import DocumentError, KubeError, MonitoringError, Refused, StepFailed
from remediator.facts import IN_MID_RUN, Facts
from remediator.gates import refusals
from remediator.model import Change, ChangeState, Noun, Step, StepState, evolve
from remediator.reasons import Reason
from remediator.run import case_of
from remediator.telemetry import METRICS, exemplar

if TYPE_CHECKING:
    from remediator.model import Run
    from remediator.world import World

__all__ = ["Undone", "goes_on", "undo"]

log = structlog.get_logger(__name__)
_TIME = timedelta(minutes=5)
"""For putting one change back."""
_AWAY = timedelta(minutes=30)
"""So long an API server that does not answer is waited for, so that an outage leaves nothing half done."""
_AGAIN = timedelta(seconds=5)


class Undone(Noun, frozen=True, kw_only=True):
    """The named decision of this stage: what was put back, what is somebody else's, what could not be put back, what may not be now."""

    undone: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For the record."""
        parts = [
            *(f"undone: {word}" for word in self.undone),
            *(f"left, somebody else touched it since: {word}" for word in self.foreign),
            *(f"could not be undone: {word}" for word in self.failed),
            *(f"left, since putting it back is refused now: {word}" for word in self.refused),
        ]
        return "; ".join(parts) or "nothing to undo"


async def undo(world: World, run: Run, *, unfinished: bool = False) -> Undone:
    """Put back every change of ``run`` that is left behind; ``unfinished``: only what would go on although the run is over."""
    undone: list[str] = []
    foreign: list[str] = []
    failed: list[str] = []
    refused: list[str] = []
    mine = [
        (step, change)
        for step in run.steps
        for change in step.changes
        if change.left_behind and not change.undoes and (not unfinished or goes_on(change))
    ]
    for step, change in sorted(mine, key=lambda pair: pair[1].id, reverse=True):
        words = f"{change.verb} {change.resource.key}"
        try:
            said = await _once_it_answers(world, run, step, change)
        except Refused as error:
            log.warning("a change is not put back now", run=run.id, change=change.id, reason=error.reason.value, detail=error.detail)
            await _say_why(world, run, change, error.reason, error.detail)
            refused.append(f"{words}: {error.detail}")
            continue
        except (StepFailed, KubeError, MonitoringError, NotImplementedError) as error:
            log.warning("a change could not be undone", run=run.id, change=change.id, error=str(error))
            await _say_why(world, run, change, _reason_of(error), str(error))
            failed.append(f"{words}: {error}")
            continue
        await _close(world, run, step, change, ChangeState.UNDONE if said else ChangeState.FOREIGN)
        (undone if said else foreign).append(said or words)
    return Undone(undone=tuple(undone), foreign=tuple(foreign), failed=tuple(failed), refused=tuple(refused))


def goes_on(change: Change) -> bool:
    """Whether what it began would go on although its run is over."""
    return change.left_behind and actions()[change.action].ends_with_run


def _reason_of(error: Exception) -> Reason:
    if isinstance(error, KubeError | MonitoringError):
        return Reason.UNREADABLE
    return (isinstance(error, StepFailed) and error.reason) or Reason.STEP_FAILED


async def _once_it_answers(world: World, run: Run, step: Step, change: Change) -> str | None:
    """As ``_undo_one``, entered again while the API server is away; what an earlier try may have done is looked at first."""
    until = world.clock.now() + _AWAY
    while True:
        try:
            return await _undo_one(world, run, step, change)
        except (KubeError, StepFailed) as error:
            if not _may_pass(error) or world.clock.now() >= until:
                raise
            log.info("a change is put back once the API server answers", run=run.id, change=change.id, error=str(error))
        await world.clock.sleep(_AGAIN)
        stored = await world.journal.run(run.id)
        step = next((one for one in stored.steps if one.index == step.index), step) if stored else step


def _may_pass(error: KubeError | StepFailed) -> bool:
    """Whether the API server failed, and not because of what it was asked; a call that may have taken effect is none of it."""
    if isinstance(error, StepFailed):
        return not error.unknown and isinstance(error.__cause__, KubeError) and error.__cause__.retryable
    return error.retryable


async def _undo_one(world: World, run: Run, step: Step, change: Change) -> str | None:
    action = actions()[change.action]()
    deadline = world.clock.now() + _TIME
    ctx = StepContext(world, run, step, action, deadline=deadline, undoes=change.id)
    for earlier in step.changes:
        if earlier.undoes == change.id and await _took_effect(ctx, earlier):
            await action.restored(ctx, change)
            return f"{earlier.verb} {earlier.resource.key}"
    if action.undo_disturbs:
        await _ask_gates(world, run)
    return await action.undo(ctx, change)


async def _ask_gates(world: World, run: Run) -> None:
    """Raises Refused if a gate forbids to put something back that disturbs traffic once more. What cannot be read refuses."""
    text = await world.journal.revision(run.revision)
    try:
        playbook = world.load_revision(text or "")
    except DocumentError as error:
        raise Refused(Reason.UNREADABLE, f"this version cannot read the playbook of the run: {error}") from error
    no = refusals(await Facts(world, deadline=IN_MID_RUN).judge(case_of(world, playbook, run, undoing=True)))
    for verdict in no:
        METRICS.gate_refusals.labels(run.playbook, verdict.gate).inc(exemplar=exemplar(run.id))
    if no:
        raise Refused(no[0].reason or Reason.UNREADABLE, "; ".join(f"{v.gate}: {v.detail}" if v.detail else v.gate for v in no))


async def _took_effect(ctx: StepContext, earlier: Change) -> bool:
    """Whether an undo of ours from before a crash was done; looks if its outcome is not on disk."""
    if earlier.state in (ChangeState.INTENDED, ChangeState.UNKNOWN):
        return await ctx.recover(earlier) is Observed.APPLIED
    return earlier.state in (ChangeState.APPLIED, ChangeState.KEPT)


async def _say_why(world: World, run: Run, change: Change, reason: Reason, detail: str) -> None:
    """On the change itself, which stays on the list of what is left behind."""
    await world.journal.save_change(evolve(change, reason=reason, detail=f"not put back: {detail}"))
    world.feed.publish("run", run.id)


async def _close(world: World, run: Run, step: Step, change: Change, state: ChangeState) -> None:
    detail = "" if change.reason else change.detail  # it said why it was not put back before
    await world.journal.save_change(evolve(change, state=state, reason=None, detail=detail, ended_at=world.clock.now()))
    async with world.signals.writing(run.id):
        stored = await world.journal.run(run.id)
        now_step = next((s for s in stored.steps if s.index == step.index), None) if stored else None
        if now_step and not any(c.left_behind for c in now_step.changes):
            await world.journal.save_step(run.id, evolve(now_step, state=StepState.UNDONE))
    world.feed.publish("run", run.id)
