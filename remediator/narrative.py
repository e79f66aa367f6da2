"""One happening in words: an episode or a manual start, from what came in to what is left behind. Pure.

Comes in: decisions, the run and the delivery of one happening, as the journal keeps them. Goes out: lines of text, the conclusion first,
then section by section in the order of time. Times are UTC; within a happening the date stands only where it changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from remediator import words
from remediator.attribution.account import account_in
from remediator.attribution.account import lines as lines_of
from remediator.model import ApprovalState, DecisionKind, RunState, TriggerKind
from remediator.reasons import Reason, sentence
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from remediator.model import Alert, Decision, Delivery, Entry, Evidence, Run, Step, Verification

__all__ = ["Happening", "brief", "full", "sender"]

_INDENT = " " * 10
"""As wide as a time of day and the two blanks behind it."""


@dataclass
class Happening:
    """One episode, or one manual trigger: its decisions in the order of time, and the run that came of it."""

    decisions: list[Decision]
    run: Run | None = None
    delivery: Delivery | None = None
    undos: Sequence[Entry] = ()
    """Notes of the log on putting back what the run changed, once it had ended."""

    @property
    def first(self) -> Decision:
        """The decision that says most: the one that led to the run, else the latest that is not about the alert's end."""
        for decision in self.decisions:
            if decision.decision is DecisionKind.RUN:
                return decision
        quiet = (DecisionKind.RESOLVED, DecisionKind.DUPLICATE)
        telling = [decision for decision in self.decisions if decision.decision not in quiet]
        return (telling or self.decisions)[-1]

    @property
    def at(self) -> datetime:
        """When it last moved."""
        moments = [decision.at for decision in self.decisions]
        return max(moments + ([self.run.started_at] if self.run else []))


def full(happening: Happening) -> Iterator[str]:
    """Everything about one happening: the conclusion, then section by section."""
    base = happening.run.started_at if happening.run else happening.first.at
    yield from _conclusion(happening)
    for title, lines in (
        ("What came in", _came_in(happening, base)),
        ("What was decided", _decided(happening, base)),
        ("What people said", _asked(happening.run, base)),
        ("What was done", _done(happening.run, base)),
        ("How it was proved", _proved(happening.run, base)),
        ("What came after", _after(happening, base)),
        ("How it was undone", _undone(happening.undos, base)),
        ("What is left behind", _left(happening.run)),
    ):
        section = list(lines)
        if section:
            yield from ("", title, *(f"  {line}" for line in section))


def _conclusion(happening: Happening) -> Iterator[str]:
    run = happening.run
    if run is None:
        yield _verdict_on(happening.first)
        yield f"This was decided at {words.moment(happening.first.at)} UTC."
        return
    dry = "Dry run" if run.dry_run else "Run"
    yield f"{dry} {run.id} of {run.playbook} on {run.target.key}: {words.state_words(run.state)}."
    if why := words.why_ended(run):
        yield why
    if run.ended_at is None:
        yield f"It began at {words.moment(run.started_at)} UTC and has not ended."
    else:
        until = words.moment(run.ended_at, run.started_at)
        yield f"It took {words.took(run.ended_at - run.started_at)}, from {words.moment(run.started_at)} to {until} UTC."
    if run.dry_run and run.state is not RunState.PREDICTED:
        yield "It was a dry run: nothing in the cluster was changed."
    if run.state is RunState.NOT_HEALED:
        yield from _for_a_person(run)
    if run.cancel:
        yield f"It was asked to stop: {words.folded(run.cancel)}."


def _for_a_person(run: Run) -> Iterator[str]:
    """Where to look on: what the steps saw."""
    seen = [f"{words.folded(evidence.name, 80)} (step {step.name})" for step in run.steps for evidence in step.evidence]
    if seen:
        yield f"What was seen is kept for you in `remediator runs show {run.id} -o json`: {', '.join(dict.fromkeys(seen))}."


def _who(decision: Decision) -> str:
    """What a decision is about: the alert on its target, or with its labels where it has none."""
    alert, target = decision.alert, decision.target
    subject = words.folded(alert.name) if alert else f"The manual start of {decision.playbook or 'a playbook'}"
    if target is not None:
        return f"{subject} on {target.key}"
    return f"{subject} {words.folded(words.labels(alert.labels), 200)}" if alert else subject


def _verdict_on(decision: Decision) -> str:
    """One decision that started no run, as a conclusion."""
    who, why = _who(decision), words.because(decision.reason, decision.detail)
    known = f" Its run is {decision.run}." if decision.run else ""
    match decision.decision:
        case DecisionKind.REFUSED:
            return f"{who} was refused, and nothing was started. {why}"
        case DecisionKind.HELD:
            return f"{who} was held: nothing was started, and it is decided again {_held_until(decision)}. {why}"
        case DecisionKind.UNMATCHED:
            return f"{who} led to nothing. {why or sentence(Reason.UNMATCHED)}"
        case DecisionKind.DUPLICATE:
            return f"{who} was a repeat, and nothing new was started. {why or sentence(Reason.DUPLICATE)}{known}"
        case DecisionKind.RESOLVED:
            return f"{who} was reported as resolved, and nothing was started. {why or sentence(Reason.RESOLVED)}{known}"
        case DecisionKind.RUN:
            return f"{who} started run {decision.run}, which the journal no longer has."


def _held_until(decision: Decision) -> str:
    if decision.reason is Reason.TRUNCATED:
        return "only when Alertmanager sends it in a notification that is not cut (max_alerts: 0)"
    return "by itself when no maintenance window is open any more"


def brief(happening: Happening) -> str:
    """One happening in one line."""
    at = words.moment(happening.at if not happening.decisions else happening.first.at)
    if happening.run is not None:
        run = happening.run
        what = f"{_who(happening.first)}: run" if happening.decisions else f"{run.playbook} on {run.target.key}: run"
        reason = f" ({run.reason})" if run.reason and run.state is not RunState.HEALED else ""
        return f"{at}  {what} {run.id} {words.state_words(run.state)}{reason}."
    return f"{at}  {_verdict_on(happening.first)}"


def sender(delivery: Delivery | None) -> str:
    """`` from 10.0.0.7``, or nothing where the sender is not known."""
    return f" from {words.folded(delivery.sender)}" if delivery and delivery.sender else ""


def _came_in(happening: Happening, base: datetime) -> Iterator[str]:
    run = happening.run
    alert = happening.first.alert if happening.decisions else run.alert if run else None
    if run and run.trigger.kind is not TriggerKind.ALERT:
        why = f": {words.folded(run.trigger.reason)}" if run.trigger.reason else "."
        yield f"{words.moment(run.started_at, base)}  {words.folded(run.trigger.by) or 'Somebody'} asked for it{why}"
    if alert is None:
        return
    delivery = happening.delivery
    at = delivery.received_at if delivery else happening.first.at if happening.decisions else base
    yield f"{words.moment(at, base)}  Alert {words.folded(alert.name)} {words.labels(alert.labels)}{sender(delivery)}."
    until = f", resolved at {words.moment(alert.ends_at, base)}" if alert.ends_at and alert.status == "resolved" else ""
    yield f"{_INDENT}It was firing since {words.moment(alert.starts_at, base)}{until}. Fingerprint {words.folded(alert.fingerprint)}."
    yield from _annotated(alert)
    if delivery:
        yield f"{_INDENT}Delivery {delivery.id}, for receiver {words.folded(delivery.receiver)}."
        if delivery.truncated:
            yield f"{_INDENT}Alertmanager had cut {delivery.truncated} more alerts off it."


def _annotated(alert: Alert) -> Iterator[str]:
    told = alert.annotations.get("summary") or alert.annotations.get("description")
    if told:
        yield f'{_INDENT}It said: "{words.folded(told, 200)}"'


def _decided(happening: Happening, base: datetime) -> Iterator[str]:
    """The decision that matters and its gates; for a run also the last evaluation, where a gate said no later."""
    run = happening.run
    earlier = [d for d in happening.decisions if run is None or d.at <= happening.first.at]
    for decision, repeats, last in _collapsed(earlier):
        yield f"{words.moment(decision.at, base)}  {_sentence_for(decision, run)}{_again(repeats, last, base)}"
        yield from _gates(decision)
        yield from _blamed(decision.evidence)
    if run and any(not gate.allowed for gate in run.gates):
        yield f"{words.moment(max(gate.at for gate in run.gates), base)}  Asked again during the run, gates refused:"
        yield from (f"{_INDENT}- {line}" for line in words.refusals(run.gates))
        yield from _blamed(run.evidence)
    elif run and not happening.decisions and words.allowed_by(run.gates):
        yield f"{words.moment(run.started_at, base)}  {words.allowed_by(run.gates)}"


def _asked(run: Run | None, base: datetime) -> Iterator[str]:
    for asked in run.approvals if run else ():
        until = words.moment(asked.expires_at, base)
        yield f"{words.moment(asked.asked_at, base)}  {asked.people} of them had to agree until {until}: {words.folded(asked.question)}"
        yield from (f"{words.moment(said.at, base)}  It was {words.answered(said)}" for said in asked.answers)
        if asked.state is ApprovalState.EXPIRED:
            yield f"{until}  {sentence(Reason.APPROVAL_EXPIRED)}"
        elif asked.state is ApprovalState.WITHDRAWN and asked.ended_at is not None:
            yield f"{words.moment(asked.ended_at, base)}  Nobody needed to answer any more."


_SHORT = {
    DecisionKind.REFUSED: "Refused",
    DecisionKind.HELD: "Held",
    DecisionKind.UNMATCHED: "Not taken by any playbook",
    DecisionKind.DUPLICATE: "Not started again",
    DecisionKind.RESOLVED: "Closed",
}


def _sentence_for(decision: Decision, run: Run | None) -> str:
    """One decision in its place in time; the conclusion above has the whole reason."""
    if decision.decision is DecisionKind.RUN:
        revision = f" (revision {run.revision})" if run else ""
        where = f" on {decision.target.key}" if decision.target else ""
        return f"Playbook {decision.playbook}{revision} was started{where}."
    playbook = f", playbook {decision.playbook}" if decision.playbook else ""
    told = f": {decision.reason}" if decision.reason else ""
    detail = f" ({words.folded(decision.detail)})" if decision.detail and not decision.gates else ""
    return f"{_SHORT[decision.decision]}{playbook}{told}.{detail}"


def _gates(decision: Decision) -> Iterator[str]:
    refusing = words.refusals(decision.gates)
    if refusing:
        yield f"{_INDENT}Gates that refused ({len(refusing)} of {len(decision.gates)}):"
        yield from (f"{_INDENT}- {line}" for line in refusing)
    if allowing := words.allowed_by(decision.gates):
        yield f"{_INDENT}{allowing}"


def _blamed(evidence: Iterable[Evidence]) -> Iterator[str]:
    """Whom the pairs blamed, and what was considered."""
    told = account_in(evidence)
    if told is not None:
        yield from (f"{_INDENT}{words.folded(line)}" for line in lines_of(told))


def _collapsed(decisions: Sequence[Decision]) -> Iterator[tuple[Decision, int, datetime]]:
    """Equal decisions in a row as one: the last of them (its gates are the newest), how often it came, and when last."""
    for _, same in groupby(decisions, key=lambda d: (d.decision, d.reason, d.playbook)):
        members = list(same)
        yield members[-1 if members[-1].gates else 0], len(members), members[-1].at


def _again(repeats: int, last: datetime, base: datetime) -> str:
    if repeats == 1:
        return ""
    return f" The same was decided {repeats} times, last at {words.moment(last, base)}."


def _done(run: Run | None, base: datetime) -> Iterator[str]:
    if run is None:
        return
    begun = [step for step in run.steps if step.started_at is not None]
    if not begun:
        yield "No step was begun."
    for step in begun:
        yield from _step(step, base, rungs=len({s.rung for s in run.steps}))
    left_out = [step.name for step in run.steps if step.started_at is None]
    if left_out and begun:
        yield f"Not begun: {', '.join(left_out)}."


def _step(step: Step, base: datetime, *, rungs: int) -> Iterator[str]:
    assert step.started_at is not None  # noqa: S101 - only begun steps come here; for the type checker
    attempt = f", attempt {step.attempt}" if step.attempt > 1 else ""
    rung = f" (rung {step.rung + 1}{attempt})" if rungs > 1 or attempt else ""
    yield f"{words.moment(step.started_at, base)}  Step {step.index + 1}, {step.name}: {step.action}{rung}."
    for change in step.changes:
        yield f"{words.moment(change.at, base)}    {words.changed(change)}. {words.change_fate(change)}"
        yield from (f"{_INDENT}    {line}" for line in words.differences(change))
    for evidence in step.evidence:
        yield f"{words.moment(evidence.at, base)}    Kept as evidence: {words.folded(evidence.name)}."
    ended = words.moment(step.ended_at, base) + "  " if step.ended_at else _INDENT
    yield f"{ended}Step {step.index + 1}, {step.name}: {words.step_end(step)}"


def _proved(run: Run | None, base: datetime) -> Iterator[str]:
    if run is None or run.verification is None:
        return
    proof = run.verification
    hold = f" and stay gone for {format_duration(timedelta(seconds=proof.hold_seconds))}" if proof.hold_seconds else ""
    by = words.moment(proof.deadline, base)
    yield f"{words.moment(proof.started_at, base)}  Verification began: the symptom had to be gone{hold}, by {by} at the latest."
    yield f"{words.moment(proof.ended_at or proof.held_since or proof.started_at, base)}  {_proof(run, proof, base)}"


def _proof(run: Run, proof: Verification, base: datetime) -> str:
    count = "1 look" if proof.checks == 1 else f"{proof.checks} looks"
    looks = f" {count}; the last saw: {words.folded(proof.last)}." if proof.last else f" {count}."
    if proof.healed:
        return f"{sentence(Reason.HEALED)}{looks}"
    if proof.healed is False:
        return f"Not healed. {sentence(proof.reason or run.reason or Reason.STILL_FIRING)}{looks}"
    since = f" The symptom has been gone since {words.moment(proof.held_since, base)}." if proof.held_since else ""
    return f"It is still open.{since}{looks}"


def _after(happening: Happening, base: datetime) -> Iterator[str]:
    """What was decided on the same episode after the run began."""
    if happening.run is None or not happening.decisions:
        return
    later = [d for d in happening.decisions if d.at > happening.first.at]
    for decision, repeats, last in _collapsed(later):
        at = words.moment(decision.at, base)
        match decision.decision:
            case DecisionKind.DUPLICATE:
                times = "once more" if repeats == 1 else f"{repeats} times more, last at {words.moment(last, base)}"
                yield f"{at}  The same episode was reported {times}; no second run was started."
            case DecisionKind.RESOLVED:
                yield f"{at}  Alertmanager reported the alert as resolved."
            case _:
                yield f"{at}  {_sentence_for(decision, happening.run)}{_again(repeats, last, base)}"
                yield from _gates(decision)


def _undone(undos: Sequence[Entry], base: datetime) -> Iterator[str]:
    for note in undos:
        yield f"{words.moment(note.at, base)}  {words.undoing(note.data)}"


def _left(run: Run | None) -> Iterator[str]:
    if run is None:
        return
    left = [change for step in run.steps for change in step.changes if change.left_behind]
    if not left:
        yield "Nothing so far." if run.state.open else "Nothing."
    for change in left:
        yield f"{words.changed(change)}. {words.change_fate(change)}"
        yield from (f"  {line}" for line in words.differences(change))
