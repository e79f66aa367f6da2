"""The record stage: every decision and every end reaches the journal, the metrics and one log line, in this one place.

In: decisions and ended runs. Out: nothing; what cannot be kept raises JournalUnavailable and the caller tries again.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from remediator.errors import JournalUnavailable
from remediator.model import Decision, DecisionKind, Run, RunState, evolve
from remediator.reasons import Reason
from remediator.telemetry import METRICS, elapsed, exemplar, zero

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from remediator.model import Delivery
    from remediator.world import World

__all__ = ["begin_at_zero", "count_open", "decided", "ended", "not_healed", "traced"]

log = structlog.get_logger(__name__)
_NOTE = "not_healed"
"""The kind of the entry that tells people; its ref is the run."""
_REASONS: dict[DecisionKind, list[str]] = {
    DecisionKind.RUN: [""],
    DecisionKind.REFUSED: [*list(Reason)[: list(Reason).index(Reason.HEALED)]],  # those that refuse stand before those that end
    DecisionKind.UNMATCHED: [Reason.UNMATCHED],
    DecisionKind.DUPLICATE: [Reason.DUPLICATE],
    DecisionKind.RESOLVED: [Reason.RESOLVED],
    DecisionKind.HELD: [Reason.MAINTENANCE, Reason.TRUNCATED],
}


def begin_at_zero() -> None:
    """Let every decision that can be made be counted from 0."""
    for kind, reasons in _REASONS.items():
        zero(METRICS.decisions, [kind], reasons)


def decided(decisions: Sequence[Decision], traces: Mapping[str, str] = MappingProxyType({})) -> None:
    """Count and log decisions that the journal has just kept: one line each. ``traces``: run -> the id of its trace."""
    for decision in decisions:
        trace = traces.get(decision.run or "", "")
        reason = decision.reason.value if decision.reason else ""
        METRICS.decisions.labels(decision.decision.value, reason).inc(exemplar=exemplar(decision.run, trace))
        if decision.decision is DecisionKind.UNMATCHED:
            METRICS.alerts_unmatched.inc()
        for verdict in decision.gates:
            if not verdict.allowed:
                METRICS.gate_refusals.labels(decision.playbook or "", verdict.gate).inc()
        if decision.decision not in (DecisionKind.DUPLICATE, DecisionKind.UNMATCHED):
            log.info(
                "decided",
                decision=decision.decision.value,
                reason=reason,
                detail=decision.detail,
                alert=decision.alert.name if decision.alert else None,
                playbook=decision.playbook,
                target=decision.target.key if decision.target else None,
                run=decision.run,
                delivery=decision.delivery,
                **({"trace_id": trace} if trace else {}),
            )


def count_open(playbook: str, change: int) -> None:
    """A run began (+1) or ended (-1)."""
    METRICS.runs_in_flight.labels(playbook).inc(change)


async def traced(world: World, tell: Callable[[Run, Delivery | None], None], run: Run) -> None:
    """Tell the trace of ``run``, with the delivery that it came of, if there was one and the journal can tell it now."""
    if not world.tracing.on:
        return
    try:
        delivery = await world.journal.delivery(run.delivery) if run.delivery else None
    except JournalUnavailable:
        delivery = None
    tell(run, delivery)


async def not_healed(world: World, run: Run, reason: Reason, detail: str) -> None:
    """Tell people that nothing more is tried: a note in the log of the journal, a metric, an error in the log. Safe to enter again."""
    if await world.journal.entries(ref=run.id, kind=_NOTE, limit=1):
        return
    evidence = [{"step": step.name, "name": seen.name} for step in run.steps for seen in step.evidence]
    about = {
        "playbook": run.playbook,
        "target": run.target.key,
        "alert": run.alert.name if run.alert else None,
        "reason": reason.value,
        "detail": detail,
        "evidence": evidence,
    }
    await world.journal.note(_NOTE, run.id, about)
    METRICS.not_healed.labels(run.playbook, reason.value).inc(exemplar=exemplar(run.id, world.tracing.trace_id(run)))
    log.error("a person must look: what could be tried did not heal", run=run.id, **about)


async def ended(world: World, run: Run, state: RunState, reason: Reason | None, detail: str) -> Run:
    """Close ``run``: its last row, its metrics, one log line."""
    now = world.clock.now()
    async with world.signals.writing(run.id):
        stored = await world.journal.run(run.id) or run
        closed = evolve(stored, state=state, reason=reason, detail=detail, ended_at=now)
        await world.journal.save_run(closed)
    point = exemplar(run.id, world.tracing.trace_id(run))
    METRICS.runs.labels(run.playbook, state.value).inc(exemplar=point)
    METRICS.run_duration.labels(run.playbook).observe(elapsed(run.started_at, now), point)
    if state is RunState.HEALED:
        since = run.alert.starts_at if run.alert is not None else run.started_at
        METRICS.time_to_heal.labels(run.playbook).observe(elapsed(since, now), point)
    count_open(run.playbook, -1)
    world.events.ended(closed)
    await traced(world, world.tracing.ended, closed)
    world.feed.publish("run", run.id)
    world.signals.forget(run.id)
    log.info("run ended", run=run.id, playbook=run.playbook, target=run.target.key, state=state.value, reason=reason, detail=detail)
    return closed
