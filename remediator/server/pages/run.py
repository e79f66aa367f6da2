"""``GET /runs/{id}``: one run from the delivery to the proof, with what may be done about it now."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from remediator import words
from remediator.model import PREVIEW, DecisionKind, Noun, RunState, StepState
from remediator.server.pages.drawing import plot
from remediator.server.pages.frame import render
from remediator.server.records import the_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiohttp import web

    from remediator.model import Decision, Delivery, Entry, Run
    from remediator.server.routing import Call

__all__ = ["Happened", "happenings", "page", "plan_of", "verbs"]

_UNDOS = 100
"""Notes on putting back that a page shows; a person wrote each, or a try ended."""


class Happened(Noun, frozen=True, kw_only=True):
    """One point of the timeline."""

    at: datetime | None
    """None: not yet."""
    title: str
    state: str = "calm"
    lines: tuple[str, ...] = ()


async def page(call: Call) -> web.Response:
    """The page."""
    run = await the_run(call)
    journal = call.service.journal
    delivery = await journal.delivery(run.delivery) if run.delivery else None
    decisions = (await journal.decisions(run=run.id)).items
    decision = next((one for one in reversed(decisions) if one.decision is DecisionKind.RUN), None)
    undos = await journal.entries(ref=run.id, kind="undo", limit=_UNDOS)
    series = await call.service.series(run)
    begun = [step for step in run.steps if step.started_at is not None]
    marks = [(step.started_at, f"{step.name}: {step.action}") for step in begun if step.started_at is not None]
    return await render(
        call,
        "run.html",
        run=run,
        verbs=verbs(run),
        asked=run.approvals[-1] if run.state is RunState.AWAITING_APPROVAL and run.approvals else None,
        plan=plan_of(run),
        happened=sorted(happenings(run, delivery, decision, undos), key=lambda one: (one.at is None, one.at)),
        changes=[(step, change) for step in run.steps for change in step.changes],
        series=series,
        drawing=plot(series, marks),
        marks=[words for _, words in marks],
        refused=[gate for gate in run.gates if not gate.allowed],
    )


def verbs(run: Run) -> tuple[str, ...]:
    """What may be asked of it now, the most useful first."""
    if run.state is RunState.AWAITING_APPROVAL:
        return "approve", "reject", "cancel"
    if run.state.open:
        return ("cancel",)
    return ("undo",) if any(change.left_behind for step in run.steps for change in step.changes) else ()


def plan_of(run: Run) -> list[tuple[str, list[str]]]:
    """What the steps that nobody allowed yet would do."""
    found = []
    for step in run.steps:
        seen = next((seen for seen in step.evidence if seen.name == PREVIEW), None)
        if seen is not None or (run.state is RunState.AWAITING_APPROVAL and step.state is StepState.PENDING):
            lines = [str(line) for line in seen.data] if seen is not None and isinstance(seen.data, list) else []
            found.append((f"{step.index + 1}. {step.name}: {step.action}", lines))
    return found


def _came(delivery: Delivery) -> str:
    count = len(delivery.alerts)
    return f"{count} {'alert' if count == 1 else 'alerts'} from {delivery.sender or 'Alertmanager'}"


def happenings(run: Run, delivery: Delivery | None, decision: Decision | None, undos: Iterable[Entry] = ()) -> Iterator[Happened]:
    """Everything that has a time, and the steps still to come."""
    if delivery is not None:
        yield Happened(at=delivery.received_at, title="Delivered", lines=(_came(delivery),))
    by = f" by {run.trigger.by}" if run.trigger.by else ""
    told = (words.allowed_by(decision.gates), words.folded(decision.detail)) if decision is not None else ()
    reason = (words.folded(run.trigger.reason),) if run.trigger.reason else ()
    yield Happened(at=run.started_at, title=f"Decided: {run.playbook}, {run.trigger.kind}{by}", lines=(*filter(None, told), *reason))
    for asked in run.approvals:
        yield Happened(at=asked.asked_at, title="People were asked", state="ask", lines=(words.folded(asked.question),))
        for said in asked.answers:
            yield Happened(at=said.at, title=words.answered(said), state="good" if said.approved else "bad")
    for step in run.steps:
        lines = (words.step_end(step), *(f"{words.changed(change)}: {words.change_fate(change)}" for change in step.changes))
        yield Happened(at=step.started_at, title=f"{step.index + 1}. {step.name}", state=step.state, lines=lines)
    if run.undoing_at is not None:
        yield Happened(at=run.undoing_at, title="Puts back what it changed", state="undoing")
    if (proof := run.verification) is not None:
        yield Happened(
            at=proof.started_at,
            title="Verification began",
            state="verifying",
            lines=(f"at the latest until {words.moment(proof.deadline)} UTC",),
        )
        if proof.ended_at is None:
            yield Happened(at=None, title="Verifying", state="verifying", lines=(words.folded(proof.last), f"{proof.checks} looks so far"))
    if run.ended_at is not None:
        yield Happened(at=run.ended_at, title=f"Ended: {words.state_words(run.state)}", state=run.state, lines=(words.why_ended(run),))
    for note in undos:
        yield Happened(at=note.at, title=words.undoing(note.data), state="undoing")
