"""The run stage: steps in order, each with its intent on disk before the call and its outcome after.

In: a run that the journal holds, and its playbook as it was when the run began. Out: a named ending per step. A failed step stops the
rung. After a crash each open step is looked at first; then it is finished, or closed as ``unknown``; it is never blindly repeated.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError

from remediator.actions import Observed, actions
from remediator.approval import asking_of
from remediator.attribution import Sought, Symptom
from remediator.context import CancelledByPersonError, StepContext
from remediator.errors import ExpressionError, KubeError, MonitoringError, Refused, StepFailed, Unreadable
from remediator.facts import IN_MID_RUN, Facts
from remediator.gates import Brought, Case, Unread, gates, refusals
from remediator.model import ChangeState, Noun, Step, StepState, evolve
from remediator.preview import preview
from remediator.reasons import Reason
from remediator.telemetry import METRICS, elapsed, exemplar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from remediator.actions import Action
    from remediator.model import Evidence, Run, Target, Verdict
    from remediator.playbook import Playbook, StepSpec
    from remediator.world import World

__all__ = [
    "StepEnd",
    "StepEnding",
    "brought_gates",
    "brought_with",
    "case_of",
    "coming_actions",
    "judge_again",
    "planned_steps",
    "run_step",
    "sought_by",
    "template_values",
    "values_of",
    "with_parameters",
]

log = structlog.get_logger(__name__)


class StepEnd(StrEnum):
    """How a step ended, for whoever decides what comes next."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class StepEnding(Noun, frozen=True, kw_only=True):
    """The named decision of this stage."""

    end: StepEnd
    reason: Reason | None = None
    detail: str = ""


def planned_steps(playbook: Playbook) -> tuple[Step, ...]:
    """Every step of every attempt of every rung, pending, as a new run begins with them."""
    steps = [
        (rung, attempt, spec) for rung, this in enumerate(playbook.ladder) for attempt in range(1, this.attempts + 1) for spec in this.steps
    ]
    return tuple(
        Step(name=spec.name, action=spec.action, rung=rung, attempt=attempt, index=index, state=StepState.PENDING)
        for index, (rung, attempt, spec) in enumerate(steps)
    )


def with_parameters(run: Run, playbook: Playbook, world: World) -> Run:
    """``run`` with the parameters of each step filled in, for people to read; one that cannot be filled stays as the file has it."""
    values = template_values(run, world)
    specs = {(number, spec.name): spec for number, rung in enumerate(playbook.ladder) for spec in rung.steps}
    return evolve(run, steps=tuple(evolve(step, parameters=_shown(specs[step.rung, step.name], values)) for step in run.steps))


def _shown(spec: StepSpec, values: dict[str, Any]) -> dict[str, Any]:
    try:
        return spec.render(values)
    except Unreadable:
        return dict(spec.parameters)


def brought_gates(playbook: Playbook, step: Step | None = None) -> frozenset[str]:
    """Gates that actions bring along: those of the first rung before a run begins, those of ``step`` and what follows in its rung later.

    What a rung is through with, and what a later rung would do, must not forbid this one: an agent that crash-loops is not restarted, and
    for that very reason its node is drained.
    """
    asked = {"no_culprit"} if sought_by(playbook) else set()
    return frozenset(asked).union(gate for gate, _ in _bringing(playbook, step))


def brought_with(playbook: Playbook, values: Mapping[str, Any], step: Step | None = None) -> dict[str, Brought | Unread]:
    """For gates that judge a step by its parameters: the first of those steps that brings it, with ``values`` filled in."""
    found: dict[str, Brought | Unread] = {}
    for gate, spec in _bringing(playbook, step):
        if gate in found or not gates()[gate].by_parameters:
            continue
        try:
            found[gate] = Brought(action=spec.action, parameters=spec.render(values))
        except Unreadable as error:
            found[gate] = Unread(detail=str(error))
    return found


def _bringing(playbook: Playbook, step: Step | None) -> Iterator[tuple[str, StepSpec]]:
    """Each gate with a step that brings it along; one that is about beginning not, where the step has changed something."""
    for spec in _coming(playbook, step):
        begun = step is not None and spec.name == step.name and bool(step.changes)
        for gate in actions()[spec.action].brought(spec.parameters):
            if not (begun and gates()[gate].until_begun):
                yield gate, spec


def coming_actions(playbook: Playbook, step: Step | None = None) -> tuple[str, ...]:
    """The actions of the first rung before a run begins, those of ``step`` and what follows in its rung later."""
    return tuple(spec.action for spec in _coming(playbook, step))


def _coming(playbook: Playbook, step: Step | None) -> tuple[StepSpec, ...]:
    rung = playbook.ladder[step.rung if step else 0].steps
    done = [spec.name for spec in rung].index(step.name) if step else 0
    return rung[done:]


def sought_by(playbook: Playbook) -> Sought | None:
    """What is seen between nodes, if the playbook acts on whoever explains it."""
    culprit = playbook.when.target.culprit if playbook.when is not None else None
    return Sought(symptom=Symptom(culprit.of), limit=culprit.limit) if culprit is not None else None


def template_values(run: Run, world: World) -> dict[str, Any]:
    """What ``${...}`` and CEL in steps and verification may name. The alert is not among it, on purpose."""
    return values_of(world, run.target, run.parameters)


def values_of(world: World, target: Target, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """As ``template_values``, before there is a run."""
    return {
        "target": target.named,
        "parameters": dict(parameters),
        "cilium": {"namespace": world.cilium.namespace, "agent_selector": world.cilium.agent_selector},
    }


def case_of(world: World, playbook: Playbook, run: Run, **more: Any) -> Case:
    """What the gates are asked about a run that has begun. ``more``: fields of Case."""
    return Case(
        playbook=run.playbook,
        mode=world.mode(playbook),
        target=run.target,
        trigger=run.trigger.kind,
        alert=run.alert,
        dry_run=run.dry_run,
        approved=run.approved,
        culprit=sought_by(playbook),
        disruptive=run.disruptive,
        looks=world.looks(playbook),
        run=run.id,
        order=run.order if run.state.open else None,
        settings=dict(playbook.gates),
        limits=world.limits,
        **more,
    )


async def run_step(world: World, playbook: Playbook, run: Run, step: Step, spec: StepSpec) -> StepEnding:
    """Carry ``step`` to its end, from wherever it stands, and write the end down."""
    if step.state not in (StepState.PENDING, StepState.RUNNING):
        return _told(step)  # it ended before a crash; only the engine did not know
    action = actions()[step.action]()
    now = world.clock.now()
    step = evolve(step, state=StepState.RUNNING, started_at=step.started_at or now, attempts=step.attempts + 1)
    await _save(world, run, step)
    ctx = StepContext(world, run, step, action, deadline=min((step.started_at or now) + _time_for(spec, run, world), run.deadline))
    log.info("step begins", step=step.name, action=step.action, attempt=step.attempts)
    ending = await _guarded(ctx, world, playbook, step, spec, action)
    done = _ended(step, ctx, ending)
    await _save(world, run, done)
    world.tracing.step(run, done)
    point = exemplar(run.id, world.tracing.trace_id(run))
    METRICS.action_attempts.labels(step.action, ending.end.value).inc(exemplar=point)
    METRICS.action_duration.labels(step.action).observe(elapsed(now, world.clock.now()), point)
    log.info("step ended", step=step.name, end=ending.end.value, reason=ending.reason, detail=ending.detail)
    return ending


def _time_for(spec: StepSpec, run: Run, world: World) -> timedelta:
    """The step's time-out with the run's own parameters; where they do not fit after all, the one that the file was checked with."""
    try:
        return spec.timeout_for(template_values(run, world))
    except (Unreadable, ValueError) as error:
        log.warning("the step's time-out cannot be read; the default is taken", step=spec.name, error=str(error))
        return spec.timeout


async def _guarded(ctx: StepContext, world: World, playbook: Playbook, step: Step, spec: StepSpec, action: Action[Any]) -> StepEnding:
    """Every way in which a step can end becomes a named ending here."""
    try:
        return await _attempt(ctx, world, playbook, step, spec, action)
    except CancelledByPersonError:
        stored = await world.journal.run(ctx.run.id)
        return StepEnding(end=StepEnd.CANCELLED, reason=Reason.CANCELLED_BY, detail=stored.cancel if stored else "")
    except Refused as error:
        return StepEnding(end=StepEnd.FAILED, reason=error.reason, detail=error.detail)
    except StepFailed as error:
        if error.unknown:
            return StepEnding(end=StepEnd.UNKNOWN, reason=Reason.STEP_FAILED, detail=error.detail)
        return StepEnding(end=StepEnd.FAILED, reason=error.reason or Reason.STEP_FAILED, detail=error.detail)
    except (KubeError, MonitoringError, Unreadable, ExpressionError) as error:
        return StepEnding(end=StepEnd.FAILED, reason=Reason.UNREADABLE, detail=str(error))


async def _attempt(ctx: StepContext, world: World, playbook: Playbook, step: Step, spec: StepSpec, action: Action[Any]) -> StepEnding:
    unclear = await _look_at_open_changes(ctx, step)
    if unclear:
        return StepEnding(end=StepEnd.UNKNOWN, reason=Reason.CRASHED, detail=unclear)
    if world.signals.cancelled(ctx.run.id).is_set():
        raise CancelledByPersonError
    ctx.judge = partial(judge_again, world, playbook, ctx.run, step)
    ctx.preview = partial(preview, world, playbook, ctx.run, template_values(ctx.run, world))
    ctx.asking = asking_of(world, playbook)
    if spec.disruptive and not ctx.changes:
        refused = await ctx.judge()
        if refused:
            return refused
    if spec.disruptive and (leased := await _lease(world, ctx.run)):
        return leased
    values = template_values(ctx.run, world)
    parameters = _parameters(spec, action, values)
    ctx.files = spec.render_files(values)
    await action.check(ctx, parameters)
    detail = await action.act(ctx, parameters)
    refused = await ctx.judge() if ctx.asked else None  # much may have changed until people said yes
    return refused or StepEnding(end=StepEnd.SUCCEEDED, detail=detail)


async def _lease(world: World, run: Run) -> StepEnding | None:
    """Hold the target node against other tools from here to the run's end; how the step ends if that cannot be."""
    if run.dry_run or run.target.kind != "Node":
        return None
    began = world.leases.holds(run.id) or any(step.changes for step in run.steps)
    words = await world.leases.take(world.kube, world.clock, run.target.name, run.id)
    if not words:
        return None
    return StepEnding(end=StepEnd.REFUSED, reason=Reason.LOST_LEASE if began else Reason.TARGET_LEASED, detail=words)


async def _look_at_open_changes(ctx: StepContext, step: Step) -> str:
    """After a crash: look at every call whose outcome is not on disk. Out: what stays unclear, or nothing."""
    done = []
    for change in step.changes:
        seen = Observed.APPLIED
        if change.state in (ChangeState.INTENDED, ChangeState.UNKNOWN) and not change.dry_run:
            seen = await ctx.recover(change)
        elif change.state not in (ChangeState.APPLIED, ChangeState.KEPT):
            continue
        if seen is Observed.UNCLEAR:
            return f"{change.verb} {change.resource.key} was about to be sent when the daemon died, and its effect cannot be read"
        if seen is Observed.APPLIED:
            done.append(change)
    ctx.changes = tuple(done)
    return ""


async def judge_again(world: World, playbook: Playbook, begun: Run, step: Step | None = None) -> StepEnding | None:
    """All gates once more, on fresh facts: right before something disruptive, and when people said yes. ``step``: None before the first."""
    run = await world.journal.run(begun.id) or begun
    if step is not None:
        step = next((one for one in run.steps if one.index == step.index), step)  # with what it has changed since
    brought = brought_with(playbook, template_values(run, world), step)
    case = case_of(world, playbook, run, actions=coming_actions(playbook, step), brought=brought)
    facts = Facts(world, deadline=IN_MID_RUN)
    verdicts = await facts.judge(case, brought_gates(playbook, step))
    await _keep_verdicts(world, run, verdicts, await facts.evidence(case.culprit, run.alert, run.id))
    no = refusals(verdicts)
    if not no:
        return None
    for verdict in no:
        METRICS.gate_refusals.labels(run.playbook, verdict.gate).inc(exemplar=exemplar(run.id))
    over = any(verdict.gate == "not_firing" and verdict.reason is Reason.NOT_FIRING for verdict in no)
    known = next((verdict.reason for verdict in no if verdict.reason is not Reason.UNREADABLE), Reason.UNREADABLE)
    return StepEnding(
        end=StepEnd.REFUSED, reason=Reason.RESOLVED_MEANWHILE if over else known, detail="; ".join(f"{v.gate}: {v.detail}" for v in no)
    )


async def _keep_verdicts(world: World, run: Run, verdicts: tuple[Verdict, ...], evidence: tuple[Evidence, ...]) -> None:
    async with world.signals.writing(run.id):
        stored = await world.journal.run(run.id)
        if stored is not None:
            await world.journal.save_run(evolve(stored, gates=verdicts, evidence=evidence or stored.evidence))


def _parameters(spec: StepSpec, action: Action[Any], values: dict[str, Any]) -> Any:
    try:
        return action.Parameters.model_validate(spec.render(values))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StepFailed(f"parameters of {spec.name} do not fit {action.name}: {faults}") from error


_STATES = {
    StepEnd.SUCCEEDED: StepState.SUCCEEDED,
    StepEnd.FAILED: StepState.FAILED,
    StepEnd.REFUSED: StepState.SKIPPED,
    StepEnd.CANCELLED: StepState.SKIPPED,
    StepEnd.UNKNOWN: StepState.UNKNOWN,
}


def _ended(step: Step, ctx: StepContext, ending: StepEnding) -> Step:
    return evolve(
        step,
        state=_STATES[ending.end],
        ended_at=ctx.clock.now(),
        outcome=ending.reason.value if ending.reason else ending.detail,
        detail=ending.detail if ending.reason else "",
        evidence=(*step.evidence, *ctx.seen),
    )


def _told(step: Step) -> StepEnding:
    ends = {state: end for end, state in _STATES.items()}
    reason = Reason(step.outcome) if step.outcome in set(Reason) else None
    if step.state is StepState.SKIPPED:
        end = StepEnd.CANCELLED if reason is Reason.CANCELLED_BY else StepEnd.REFUSED
        return StepEnding(end=end, reason=reason, detail=step.detail)
    return StepEnding(end=ends.get(step.state, StepEnd.UNKNOWN), reason=reason, detail=step.detail if reason else step.outcome)


async def _save(world: World, run: Run, step: Step) -> None:
    async with world.signals.writing(run.id):
        await world.journal.save_step(run.id, step)
    world.feed.publish("run", run.id)
