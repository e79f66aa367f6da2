"""The verify stage: the symptom is gone and stayed gone, or it is not healed. "Healed" is never said without it.

In: a run whose rung is through, and the playbook's ``verify``. Out: a Verification that says healed or not, with the reason. It must hold
by the look that ends ``within``, and then for ``hold`` without a break. What cannot be read does not hold, nor does what nobody looked at.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from remediator.context import CancelledByPersonError
from remediator.errors import ExpressionError, KubeError, MonitoringError, Unreadable
from remediator.kube import kinds
from remediator.model import Noun, RunState, Verification, evolve
from remediator.reasons import Reason
from remediator.run import template_values
from remediator.telemetry import METRICS, exemplar
from remediator.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.model import Run
    from remediator.playbook import Playbook, Verify
    from remediator.world import World

__all__ = ["PROOFS", "Look", "Verified", "look", "verify"]

log = structlog.get_logger(__name__)
PROOFS = (Reason.HEALED, Reason.STILL_FIRING, Reason.RELAPSED, Reason.DEADLINE)
"""How a verification can end, unless a person cancels it."""


class Look(Noun, frozen=True, kw_only=True):
    """What one look saw. ``holds`` is None if it could not be read."""

    holds: bool | None
    words: str


class Verified(Noun, frozen=True, kw_only=True):
    """The named decision of this stage."""

    healed: bool
    reason: Reason
    detail: str = ""


async def verify(world: World, playbook: Playbook, run: Run, spec: Verify) -> Verified:
    """Look every ``spec.every`` until it is decided. Where it stands is on disk after each look, so a restart continues it."""
    earlier = run.verification
    # Nobody looked while the daemon was down, so the hold begins anew; the deadline stays.
    state = evolve(earlier, held_since=None) if earlier and earlier.healed is None else _begin(spec, run, world.clock.now())
    cancelled = world.signals.cancelled(run.id)
    while True:
        if cancelled.is_set():
            raise CancelledByPersonError
        seen = await look(world, run, spec)
        now = world.clock.now()
        state = _after(state, seen, now)
        decided = _decide(state, seen, now)
        state = _end(state, decided, now) if decided else state
        await _save(world, run, state)
        if decided:
            world.tracing.verified(run, state)
            METRICS.verifications.labels(playbook.name, decided.reason.value).inc(exemplar=exemplar(run.id, world.tracing.trace_id(run)))
            return decided
        left = state.deadline - now
        await world.signals.sleep(world.clock, run.id, min(spec.every, left) if left > timedelta(0) else spec.every)


def _begin(spec: Verify, run: Run, now: datetime) -> Verification:
    """Within the run's own deadline, too; even then one look is taken."""
    return Verification(started_at=now, deadline=min(now + spec.within, max(now, run.deadline)), hold_seconds=spec.hold.total_seconds())


def _after(state: Verification, seen: Look, now: datetime) -> Verification:
    held_since = min(state.held_since or now, now) if seen.holds else None  # a clock that was set back begins the hold anew
    relapsed = state.held_since is not None and held_since is None
    words = f"relapsed: {seen.words}" if relapsed and seen.holds is False else seen.words
    return evolve(state, held_since=held_since, relapses=state.relapses + relapsed, checks=state.checks + 1, last=words)


def _decide(state: Verification, seen: Look, now: datetime) -> Verified | None:
    if state.held_since is not None:
        if (now - state.held_since).total_seconds() < state.hold_seconds:
            return None
        return Verified(
            healed=True, reason=Reason.HEALED, detail=f"{seen.words}; held for {format_duration(timedelta(seconds=state.hold_seconds))}"
        )
    if now < state.deadline:
        return None
    if seen.holds is None:
        return Verified(healed=False, reason=Reason.DEADLINE, detail=f"could not be verified: {seen.words}")
    reason = Reason.RELAPSED if state.relapses else Reason.STILL_FIRING
    return Verified(healed=False, reason=reason, detail=seen.words)


def _end(state: Verification, decided: Verified, now: datetime) -> Verification:
    return evolve(state, healed=decided.healed, reason=decided.reason, ended_at=now, last=decided.detail)


async def look(world: World, run: Run, spec: Verify) -> Look:
    """Evaluate every part of ``spec`` once; all must hold."""
    values = template_values(run, world)
    try:
        seen = [part for part in (await _query(world, spec, values), await _objects(world, spec, values)) if part]
    except (KubeError, MonitoringError, Unreadable, ExpressionError) as error:
        return Look(holds=None, words=str(error))
    return Look(holds=bool(seen) and all(part.holds for part in seen), words="; ".join(part.words for part in seen))


async def _query(world: World, spec: Verify, values: dict[str, Any]) -> Look | None:
    """A condition as in an alerting rule: it holds if at least one sample comes back, from a Prometheus whose data are fresh."""
    if spec.query is None:
        return None
    if world.prometheus is None:
        raise Unreadable("prometheus", "the settings name no prometheus.url")
    promql = spec.query.text(values)
    await world.prometheus.require_fresh()
    samples = await world.prometheus.query(promql)
    shown = ", ".join(f"{sample.value:g}" for sample in samples[:3])
    return Look(holds=bool(samples), words=f"{promql} {'gives ' + shown if samples else 'gives nothing'}")


async def _objects(world: World, spec: Verify, values: dict[str, Any]) -> Look | None:
    if spec.kube is None or spec.holds is None:
        return None
    request = spec.kube.render(values)
    kind = kinds.by_name(request["kind"])
    listing = await world.kube.list(kind, request["namespace"], labels=request["labels"], fields=request["fields"])
    holds = bool(spec.holds.evaluate({**values, "objects": list(listing.items)}))
    return Look(holds=holds, words=f"the condition on {len(listing.items)} {kind.plural} {'holds' if holds else 'does not hold'}")


async def _save(world: World, run: Run, state: Verification) -> None:
    async with world.signals.writing(run.id):
        stored = await world.journal.run(run.id)
        if stored is None:
            return
        await world.journal.save_run(evolve(stored, state=RunState.VERIFYING, verification=state))
    world.feed.publish("run", run.id)
