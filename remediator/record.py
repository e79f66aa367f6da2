"""The record stage: every decision and every end reaches the journal, the metrics and one log line, in this one place.

In: decisions and ended runs. Out: nothing; what cannot be kept raises JournalUnavailable and the caller tries again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from remediator.model import Decision, DecisionKind, Run, RunState, evolve
from remediator.reasons import Reason
from remediator.telemetry import METRICS, exemplar, zero

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.world import World

__all__ = ["begin_at_zero", "count_open", "decided", "ended", "not_healed"]

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


def decided(decisions: Sequence[Decision]) -> None:
    """Count and log decisions that the journal has just kept: one line each."""
    for decision in decisions:
        reason = decision.reason.value if decision.reason else ""
        METRICS.decisions.labels(decision.decision.value, reason).inc(exemplar=exemplar(decision.run))
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
            )


def count_open(playbook: str, change: int) -> None:
    """A run began (+1) or ended (-1)."""
    METRICS.runs_in_flight.labels(playbook).inc(change)


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
    METRICS.not_healed.labels(run.playbook, reason.value).inc(exemplar=exemplar(run.id))
    log.error("a person must look: what could be tried did not heal", run=run.id, **about)


async def ended(world: World, run: Run, state: RunState, reason: Reason | None, detail: str) -> Run:
    """Close ``run``: its last row, its metrics, one log line."""
    now = world.clock.now()
    async with world.signals.writing(run.id):
        stored = await world.journal.run(run.id) or run
        closed = evolve(stored, state=state, reason=reason, detail=detail, ended_at=now)
        await world.journal.save_run(closed)
    METRICS.runs.labels(run.playbook, state.value).inc(exemplar=exemplar(run.id))
    METRICS.run_duration.labels(run.playbook).observe((now - run.started_at).total_seconds(), exemplar(run.id))
    if state is RunState.HEALED:
        since = run.alert.starts_at if run.alert is not None else run.started_at
        METRICS.time_to_heal.labels(run.playbook).observe((now - since).total_seconds(), exemplar(run.id))
    count_open(run.playbook, -1)
    world.events.ended(closed)
    world.feed.publish("run", run.id)
    world.signals.forget(run.id)
    log.info("run ended", run=run.id, playbook=run.playbook, target=run.target.key, state=state.value, reason=reason, detail=detail)
    return closed
