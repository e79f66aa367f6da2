"""The nouns in plain words: sentences for ``why``, for live progress and for tables. Pure.

Comes in: nouns of ``remediator.model``. Goes out: text on one line, or lists of such lines. Text that strangers wrote (labels,
annotations, messages of APIs) stands in it as quoted JSON strings or with its white space folded, and is cut to a bounded length;
whoever prints to a terminal still has to neutralise it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remediator.model import ApprovalState, ChangeState, RunState, StepState
from remediator.reasons import sentence
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from remediator.model import Answer, Approval, Change, Run, Step, Verdict
    from remediator.reasons import Reason

__all__ = [
    "allowed_by",
    "answered",
    "approval",
    "because",
    "change_fate",
    "changed",
    "differences",
    "ending",
    "folded",
    "labels",
    "moment",
    "more_people",
    "outcome",
    "refusals",
    "state_words",
    "step_end",
    "took",
    "undoing",
    "why_ended",
]

_LONGEST_VALUE = 200
_LONGEST_DETAIL = 600
_MOST_DIFFERENCES = 20

_RUN_STATES = {
    RunState.AWAITING_APPROVAL: "waits for approval",
    RunState.RUNNING: "is running",
    RunState.VERIFYING: "is verifying",
    RunState.UNDOING: "is undoing its changes",
    RunState.HEALED: "healed",
    RunState.NOT_HEALED: "not healed",
    RunState.DONE: "done; there was nothing to verify",
    RunState.PREDICTED: "predicted; nothing was changed",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
    RunState.EXPIRED: "expired",
    RunState.UNKNOWN: "ended with an unknown result",
}

_CHANGE_STATES = {
    ChangeState.INTENDED: "The call is on record, what became of it is not yet.",
    ChangeState.APPLIED: "It was applied.",
    ChangeState.ABSENT: "It had no effect.",
    ChangeState.UNDONE: "It was applied, and put back later.",
    ChangeState.KEPT: "It was applied, to stay.",
    ChangeState.FOREIGN: "It was applied. Somebody else changed the object since, so it is theirs now.",
    ChangeState.UNKNOWN: "Nobody can say whether it took effect.",
}

_STEP_STATES = {
    StepState.PENDING: "has not begun",
    StepState.RUNNING: "is running",
    StepState.SUCCEEDED: "succeeded",
    StepState.SKIPPED: "was skipped",
    StepState.FAILED: "failed",
    StepState.UNDONE: "was undone",
    StepState.UNKNOWN: "ended with an unknown result",
}


def moment(at: datetime, base: datetime | None = None) -> str:
    """``10:00:01`` on the day of ``base``, else ``2026-01-05 10:00:01``; UTC both."""
    same_day = base is not None and at.date() == base.date()
    return at.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")


def took(duration: timedelta) -> str:
    """How long something took, to the second; below one second in milliseconds."""
    whole = duration - duration % type(duration)(seconds=1)
    return format_duration(whole or duration)


def folded(text: str, limit: int = _LONGEST_DETAIL) -> str:
    """``text`` on one line: runs of white space become one blank, the rest of a long one becomes an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _value(value: Any) -> str:
    return "absent" if value is None else folded(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str), _LONGEST_VALUE)


def labels(of: Mapping[str, str], *, without: Iterable[str] = ("alertname",)) -> str:
    """``{node="node-3", severity="critical"}``, as Alertmanager writes label sets."""
    hidden = set(without)
    return "{" + ", ".join(f"{name}={_value(of[name])}" for name in sorted(of) if name not in hidden) + "}"


def because(reason: Reason | None, detail: str) -> str:
    """``cooldown: The same playbook acted ... (detail)``: the code, its sentence, and what was seen in this case."""
    told = folded(detail)
    if reason is None:
        return told
    told = told.removeprefix(f"{reason}: ")
    return f"{reason}: {sentence(reason)}" + (f" ({told})" if told else "")


def refusals(gates: Iterable[Verdict]) -> list[str]:
    """One line for each gate that refused."""
    return [_refusal(gate) for gate in gates if not gate.allowed]


def _refusal(gate: Verdict) -> str:
    name = "" if gate.reason is None or gate.gate == gate.reason else f"{gate.gate}: "
    return name + because(gate.reason, gate.detail)


def allowed_by(gates: Sequence[Verdict]) -> str:
    """The gates that allowed it, in one sentence; empty if there is none."""
    names = [gate.gate for gate in gates if gate.allowed]
    if not names:
        return ""
    count = "1 gate" if len(names) == 1 else f"{len(names)} gates"
    return f"{count} allowed it: {', '.join(names)}."


def state_words(state: RunState) -> str:
    """Where a run stands or how it ended, to follow ``Run X of P on T``."""
    return _RUN_STATES[state]


def ending(run: Run) -> str:
    """How a run ended, with its reason and what was seen."""
    told = why_ended(run)
    return state_words(run.state) + (f". {told}" if told else ".")


def why_ended(run: Run) -> str:
    """The reason of a run's state and what was seen; a code that only repeats the state is left to its sentence."""
    told = because(run.reason, run.detail)
    return told.removeprefix(f"{run.state}: ")


def answered(said: Answer) -> str:
    """``approved by anna@laptop: the node is empty anyway``."""
    return f"{'approved' if said.approved else 'rejected'} by {folded(said.by)}" + (f": {folded(said.reason)}" if said.reason else "")


def undoing(note: Mapping[str, Any]) -> str:
    """A note of the log on an ended run: who asked to put back what it changed, or what came of that."""
    if "outcome" in note:
        outcome = folded(str(note["outcome"]))
        return f"{outcome[:1].upper()}{outcome[1:]}."
    reason = folded(str(note.get("reason", "")))
    return f"{folded(str(note.get('by', ''))) or 'Somebody'} asked to put back what it changed" + (f": {reason}" if reason else ".")


def more_people(asked: Approval) -> str:
    """How many more must say yes."""
    return "1 more person" if asked.people > 1 and asked.missing == 1 else "1 person" if asked.missing == 1 else f"{asked.missing} people"


def approval(asked: Approval) -> str:
    """How a question to people stands: who said what, and what is missing."""
    parts = [answered(said) for said in asked.answers]
    until = moment(asked.expires_at)
    match asked.state:
        case ApprovalState.WAITING:
            parts.append(f"waits for {more_people(asked)} until {until} UTC")
        case ApprovalState.EXPIRED:
            parts.append(f"nobody {'else ' if parts else ''}answered until {until} UTC")
        case ApprovalState.WITHDRAWN:
            parts.append("withdrawn before it was answered" if not parts else "withdrawn")
        case _:
            pass
    return "; ".join(parts)


def outcome(step: Step) -> str:
    """What a step achieved or why it did not, in its own words."""
    return folded(" ".join(part for part in (step.outcome, step.detail) if part))


def step_end(step: Step) -> str:
    """``succeeded after 30s. The new pod is ready.``"""
    words = _STEP_STATES[step.state]
    if step.started_at is not None and step.ended_at is not None:
        words += f" after {took(step.ended_at - step.started_at)}"
    if step.attempts > 1:
        words += f", at try {step.attempts}"
    told = outcome(step)
    return words + (f". {told}" if told else ".")


def changed(change: Change) -> str:
    """``patch Node/node-3``."""
    return f"{change.verb} {change.resource.key}"


def change_fate(change: Change) -> str:
    """What became of a call."""
    told = f" ({folded(change.detail)})" if change.detail else ""
    if change.dry_run:
        return f"Only asked for, with dryRun=All; nothing was changed.{told}"
    return _CHANGE_STATES[change.state] + told


def differences(change: Change) -> list[str]:
    """What a call altered: ``spec.unschedulable: false → true``, a line a field, bounded.

    Where only one side is known, as of an object that was deleted or made, its values alone.
    """
    before, after = _flat(change.before), _flat(change.after)
    if change.before is None or change.after is None:
        lines = [f"{folded(key, _LONGEST_VALUE)}: {_value(value)}" for key, value in sorted((before or after).items())]
    else:
        keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
        lines = [f"{folded(key, _LONGEST_VALUE)}: {_value(before.get(key))} → {_value(after.get(key))}" for key in keys]
    return lines[:_MOST_DIFFERENCES] + ([f"and {len(lines) - _MOST_DIFFERENCES} more"] if len(lines) > _MOST_DIFFERENCES else [])


def _flat(data: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in (data or {}).items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
