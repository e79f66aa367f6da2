"""The columns of each noun, and the pieces that several commands show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remediator import words
from remediator.cli.output import Column, now
from remediator.cli.text import age, clip, safe, table
from remediator.model import PREVIEW, RunState, StepState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remediator.model import Approval, Change, Decision, Delivery, Episode, Evidence, Run, Verdict
    from remediator.promotion import Acted, Record

__all__ = [
    "CHANGES",
    "DECISIONS",
    "DELIVERIES",
    "EPISODES",
    "RECORD_HEADS",
    "RUNS",
    "blame_text",
    "block",
    "gate_table",
    "record_lines",
    "record_row",
    "run_text",
    "stamp",
]

_DETAIL = 80


def stamp(moment: datetime | None) -> str:
    """``2026-01-05 10:00:01 UTC (5m ago)``; empty for none."""
    if moment is None:
        return ""
    told = age(moment, now())
    return f"{words.moment(moment)} UTC ({told if told.startswith('in ') else told + ' ago'})"


def block(pairs: Sequence[tuple[str, str]]) -> str:
    """``Name:   value`` lines, values below one another; pairs without a value are left out, one without a name goes on above."""
    shown = [(name and name + ":", safe(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "".join(f"{name.ljust(width)}  {value}\n" for name, value in shown)


def _took(start: datetime | None, end: datetime | None) -> str:
    return words.took(end - start) if start and end else ""


def _state(run: Run) -> str:
    return f"{run.state} (dry run)" if run.dry_run and run.state.open else str(run.state)


def _code(reason: object) -> str:
    return str(reason) if reason else ""


RUNS: tuple[Column[Run], ...] = (
    Column("ID", lambda run: run.id),
    Column("PLAYBOOK", lambda run: run.playbook),
    Column("TARGET", lambda run: run.target.key),
    Column("STATE", _state),
    Column("REASON", lambda run: _code(run.reason)),
    Column("AGE", lambda run: age(run.started_at, now())),
    Column("TOOK", lambda run: _took(run.started_at, run.ended_at), wide=True),
    Column("RUNG", lambda run: str(run.rung + 1), wide=True),
    Column("TRIGGER", lambda run: str(run.trigger.kind), wide=True),
    Column("BY", lambda run: run.trigger.by, wide=True),
    Column("ALERT", lambda run: run.alert.name if run.alert else "", wide=True),
    Column("REVISION", lambda run: run.revision, wide=True),
    Column("DETAIL", lambda run: words.folded(run.detail), wide=True),
)

EPISODES: tuple[Column[Episode], ...] = (
    Column("ALERT", lambda episode: episode.name),
    Column("TARGET", lambda episode: episode.target.key if episode.target else ""),
    Column("PLAYBOOK", lambda episode: episode.playbook or ""),
    Column("DECISION", lambda episode: str(episode.decision)),
    Column("REASON", lambda episode: _code(episode.reason)),
    Column("RUN", lambda episode: episode.run or ""),
    Column("AGE", lambda episode: age(episode.starts_at, now())),
    Column("SEEN", lambda episode: age(episode.last_seen, now()), wide=True),
    Column("DELIVERIES", lambda episode: str(episode.deliveries), wide=True),
    Column("RESOLVED", lambda episode: age(episode.resolved_at, now()) if episode.resolved_at else "", wide=True),
    Column("FINGERPRINT", lambda episode: episode.fingerprint, wide=True),
    Column("LABELS", lambda episode: words.labels(episode.labels), wide=True),
    Column("DETAIL", lambda episode: words.folded(episode.detail), wide=True),
)

DELIVERIES: tuple[Column[Delivery], ...] = (
    Column("ID", lambda delivery: delivery.id),
    Column("RECEIVER", lambda delivery: delivery.receiver),
    Column("STATUS", lambda delivery: delivery.status),
    Column("ALERTS", lambda delivery: str(len(delivery.alerts))),
    Column("TRUNCATED", lambda delivery: str(delivery.truncated)),
    Column("DECIDED", lambda delivery: "yes" if delivery.decided_at else "no"),
    Column("AGE", lambda delivery: age(delivery.received_at, now())),
    Column("SENDER", lambda delivery: delivery.sender, wide=True),
    Column("NAMES", lambda delivery: ", ".join(sorted({alert.name for alert in delivery.alerts})), wide=True),
    Column("GROUP", lambda delivery: delivery.group_key, wide=True),
)

DECISIONS: tuple[Column[Decision], ...] = (
    Column("ALERT", lambda decision: decision.alert.name if decision.alert else ""),
    Column("TARGET", lambda decision: decision.target.key if decision.target else ""),
    Column("PLAYBOOK", lambda decision: decision.playbook or ""),
    Column("DECISION", lambda decision: str(decision.decision)),
    Column("REASON", lambda decision: _code(decision.reason)),
    Column("RUN", lambda decision: decision.run or ""),
    Column("DETAIL", lambda decision: clip(words.folded(decision.detail), _DETAIL)),
    Column("ID", lambda decision: decision.id, wide=True),
)

CHANGES: tuple[Column[Change], ...] = (
    Column("ID", lambda change: change.id, wide=True),
    Column("RESOURCE", lambda change: change.resource.key),
    Column("VERB", lambda change: change.verb),
    Column("STATE", lambda change: str(change.state)),
    Column("CHANGE", lambda change: clip("; ".join(words.differences(change)), _DETAIL)),
    Column("RUN", lambda change: change.run),
    Column("REASON", lambda change: _code(change.reason)),
    Column("AGE", lambda change: age(change.at, now())),
    Column("ACTION", lambda change: change.action, wide=True),
    Column("STEP", lambda change: change.step, wide=True),
    Column("UID", lambda change: change.resource.uid, wide=True),
    Column("REQUEST", lambda change: change.request_id, wide=True),
    Column("BEFORE", lambda change: json.dumps(change.before), wide=True),
    Column("AFTER", lambda change: json.dumps(change.after), wide=True),
    Column("DETAIL", lambda change: words.folded(change.detail), wide=True),
)


def gate_table(gates: Sequence[Verdict]) -> str:
    """Every gate's verdict; refusals come with the sentence of their code where the gate itself said nothing."""
    rows = [
        (gate.gate, "yes" if gate.allowed else "NO", _code(gate.reason), words.folded(gate.detail) or _sentence(gate)) for gate in gates
    ]
    return table(("GATE", "ALLOWED", "REASON", "DETAIL"), rows)


def _sentence(gate: Verdict) -> str:
    return "" if gate.reason is None else words.because(gate.reason, "").partition(": ")[2]


RECORD_HEADS = ("PREDICTED", "SUGGESTED", "APPROVED", "REJECTED", "EXPIRED", "BY ITSELF", "BY HAND", "FAILED IN A ROW")


def record_row(record: Record) -> tuple[str, ...]:
    """A playbook's record in short; ``4/5 healed`` is healed of those that ended by themselves."""
    asked = record.suggested
    return (
        str(record.predicted.runs),
        str(asked.runs),
        _healed(asked.after_yes, asked.approved),
        str(asked.rejected),
        str(asked.expired),
        _healed(record.by_itself, record.by_itself.runs),
        _healed(record.by_hand, record.by_hand.runs),
        str(record.failures_in_a_row),
    )


def _healed(acted: Acted, runs: int) -> str:
    return f"{runs}, {acted.healed}/{acted.healed + acted.failed} healed" if acted.healed + acted.failed else str(runs)


def record_lines(record: Record) -> list[str]:
    """A playbook's record in words, a line a way of going about it; nothing for a way that nobody went."""
    guess, asked = record.predicted, record.suggested
    lines = []
    if guess.runs:
        came = f"people acted {guess.people_acted}, the alert ended without {guess.ended_alone}, still firing {guess.still_firing}"
        lines.append(f"predicted {guess.runs}: {came}")
    if asked.runs:
        no = f", and the alert ended after {asked.ended_after_no} of these" if asked.rejected + asked.expired else ""
        lines.append(f"suggested {asked.runs}: approved {asked.approved}, waiting {asked.waiting}, withdrawn {asked.withdrawn}")
        lines.append(f"  without a yes: rejected {asked.rejected}, expired {asked.expired}{no}")
        lines.append(f"  after a yes: {_ends(asked.after_yes)}")
    ways = (("by itself", record.by_itself), ("by hand", record.by_hand))
    lines += [f"{what} {acted.runs}: {_ends(acted)}" for what, acted in ways if acted.runs]
    return [*lines, f"failed in a row {record.failures_in_a_row}"] if lines else []


def _ends(acted: Acted) -> str:
    return f"healed {acted.healed}, failed {acted.failed}, stopped {acted.stopped}, open {acted.open}"


def blame_text(evidence: Sequence[Evidence]) -> list[str]:
    """Whom the pairs blame, and below it the matrix where nobody is; empty where nobody asked."""
    from remediator.attribution.account import account_in, grid, lines

    told = account_in(evidence)
    if told is None:
        return []
    parts = ["".join(f"{safe(line)}\n" for line in lines(told))]
    if told.matrix is not None and told.matrix.nodes:
        parts.append(table(("FROM/TO", *told.matrix.nodes), grid(told.matrix)))
    return parts


def run_text(run: Run, *, wide: bool) -> str:
    """One run on a page: its facts, gates, whom the pairs blame, steps and changes."""
    parts = [_facts(run)]
    if plan := _plan(run):
        parts.append(plan)
    if run.gates:
        parts.append(gate_table(run.gates))
    parts += blame_text(run.evidence)
    if run.steps:
        parts.append(_steps(run))
    changes = [change for step in run.steps for change in step.changes]
    if changes:
        shown = [column for column in CHANGES if column.header != "RUN" and (wide or not column.wide)]
        parts.append(table([c.header for c in shown], ([c.value(change) for c in shown] for change in changes)))
    return "\n".join(parts)


def _facts(run: Run) -> str:
    alert, proof = run.alert, run.verification
    held = f", gone since {words.moment(proof.held_since)} UTC" if proof and proof.held_since and not proof.ended_at else ""
    ended = f"{stamp(run.ended_at)}, after {_took(run.started_at, run.ended_at)}" if run.ended_at else ""
    return block(
        [
            ("Run", run.id),
            ("Playbook", f"{run.playbook} (revision {run.revision})"),
            ("Target", run.target.key + (f" (uid {run.target.uid})" if run.target.uid else "")),
            ("State", _state(run)),
            ("Reason", words.because(run.reason, run.detail)),
            ("Dry run", "yes, nothing is changed" if run.dry_run else ""),
            ("Trigger", " ".join(part for part in (str(run.trigger.kind), run.trigger.by, run.trigger.reason) if part)),
            ("Alert", f"{alert.name} {words.labels(alert.labels)}, firing since {stamp(alert.starts_at)}" if alert else ""),
            ("Delivery", run.delivery or ""),
            ("Parameters", ", ".join(f"{name}={_plain(value)}" for name, value in run.parameters.items())),
            ("Began", stamp(run.started_at)),
            ("Ended", ended),
            ("Deadline", "" if run.ended_at or run.unapproved or run.state is RunState.AWAITING_APPROVAL else stamp(run.deadline)),
            *((("Asked" if number == 0 else ""), line) for asked in run.approvals for number, line in enumerate(_asked(asked))),
            ("To allow it", f"remediator runs approve {run.id}" if run.state is RunState.AWAITING_APPROVAL else ""),
            ("Verification", f"{_verdict(proof.healed)} after {proof.checks} looks{held}. {words.folded(proof.last)}" if proof else ""),
            ("Cancel", run.cancel),
        ]
    )


def _asked(asked: Approval) -> list[str]:
    """The question, then how it stands."""
    return [f"{words.folded(asked.question)} {stamp(asked.asked_at)}", words.approval(asked)]


def _plan(run: Run) -> str:
    """What the steps that have not begun would do, for those who are asked."""
    lines = []
    for step in run.steps:
        seen = next((seen for seen in step.evidence if seen.name == PREVIEW), None)
        if seen is None and not (run.state is RunState.AWAITING_APPROVAL and step.state is StepState.PENDING):
            continue
        given = ", ".join(f"{name}={_plain(value)}" for name, value in step.parameters.items())
        lines.append(f"  {step.index + 1}. {step.name}: {step.action}" + (f" ({given})" if given else ""))
        lines += [f"     - {line}" for line in (seen.data if seen is not None and isinstance(seen.data, list) else ())]
    return "".join(safe(line) + "\n" for line in ("Plan, as things stood when people were asked:", *lines)) if lines else ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _verdict(healed: bool | None) -> str:
    return "open" if healed is None else "healed" if healed else "not healed"


def _steps(run: Run) -> str:
    rows = [
        (
            str(step.index + 1),
            f"{step.rung + 1}, attempt {step.attempt}" if step.attempt > 1 else str(step.rung + 1),
            step.name,
            step.action,
            str(step.state),
            _took(step.started_at, step.ended_at),
            clip(words.outcome(step), _DETAIL * 2),
        )
        for step in run.steps
    ]
    return table(("STEP", "RUNG", "NAME", "ACTION", "STATE", "TOOK", "OUTCOME"), rows)
