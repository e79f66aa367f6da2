"""What was expected against what was seen. Pure.

In: a Then and a Seen. Out: differences, each a few lines with what was expected and what was got; and, for snapshots, a ``then`` as data
that the same Seen fulfils.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from remediator.model import DecisionKind
from remediator.testing.cases import fits
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from remediator.model import Decision, Run, Verdict
    from remediator.testing.cases import Case, Decided, Ran, Then
    from remediator.testing.rehearsal import Made, Seen

__all__ = ["differences", "snapshot"]

_REPEATS = (DecisionKind.DUPLICATE, DecisionKind.RESOLVED)
_GENERATED = re.compile(r"(-[a-z0-9]{4,10})?-[a-z0-9]{5}$")
"""What a controller appends to the name of a pod."""
_RUN = ("playbook", "target", "state", "reason", "rung", "refused_by", "verification", "steps")
_DECISION = ("alert", "playbook", "target", "decision", "reason", "refused_by")


def differences(case: Case, seen: Seen) -> list[str]:
    """Everything that is not as it should be; empty if all is well."""
    found = [f"when[{index}] could not happen: {why}" for index, why in seen.mishaps]
    then = case.then
    if then is None:
        return [*found, "it expects nothing yet: remediator test --snapshot writes down what was seen"]
    if then.decisions is not None:
        found += _listed("decisions", then.decisions, _decisions(then, seen), _wrong_decision)
    if then.runs is not None:
        found += _listed("runs", then.runs, [_run(run) for run in seen.runs], _wrong_run)
    if then.calls is not None:
        found += _in_order("calls", then.calls, [made.call for made in seen.calls], _shown(seen.calls))
    found += [
        f"never: {pattern} was called: {made.call}, {_time(made)}"
        for pattern in then.never
        for made in seen.calls
        if fits(pattern, made.call)
    ]
    if then.changes_left is not None:
        found += _in_order("changes_left", then.changes_left, seen.changes_left, seen.changes_left)
    return found + [f"cluster[{index}]: {then.cluster[index].holds.source}\n  {text}" for index, text in enumerate(seen.conditions) if text]


def snapshot(seen: Seen) -> dict[str, Any]:
    """A ``then`` that says what was seen; names that controllers made up are left open."""
    return {
        "decisions": [_brief(_decision(one)) for one in _first_of_each(seen.decisions) if one.decision not in _REPEATS],
        "runs": [_brief(_run(run)) for run in seen.runs],
        "calls": _folded([_open(made.call) for made in seen.calls]),
        "changes_left": _folded([_open(change) for change in seen.changes_left]),
    }


# --- decisions and runs ----------------------------------------------------------------------------------------------


def _decisions(then: Then, seen: Seen) -> list[dict[str, Any]]:
    asked = {one.decision for one in then.decisions or ()}
    return [_decision(one) for one in _first_of_each(seen.decisions) if one.decision not in _REPEATS or one.decision in asked]


def _first_of_each(decisions: Iterable[Decision]) -> list[Decision]:
    """Without those that say of one alert what was said of it before."""
    kept: list[Decision] = []
    last: dict[str, tuple[Any, ...]] = {}
    for one in decisions:
        key = one.alert.fingerprint if one.alert is not None else one.id
        said = (one.decision, one.reason, _refusing(one.gates))
        if last.get(key) != said:
            kept.append(one)
        last[key] = said
    return kept


def _decision(one: Decision) -> dict[str, Any]:
    return {
        "alert": one.alert.name if one.alert is not None else None,
        "playbook": one.playbook,
        "target": one.target.key if one.target is not None else None,
        "decision": one.decision,
        "reason": one.reason,
        "refused_by": _refusing(one.gates),
        "detail": one.detail,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "playbook": run.playbook,
        "target": run.target.key,
        "state": run.state,
        "reason": run.reason,
        "rung": run.rung,
        "refused_by": _refusing(run.gates),
        "verification": run.verification.reason if run.verification is not None else None,
        "steps": {step.name: step.state for step in run.steps},
        "detail": run.detail,
    }


def _refusing(gates: Iterable[Verdict]) -> tuple[str, ...]:
    return tuple(sorted(verdict.gate for verdict in gates if not verdict.allowed))


def _brief(seen: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _plain(value)
        for key, value in seen.items()
        if value not in (None, (), {}) and key != "detail" and not (key == "rung" and value == 0)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: str(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return value if isinstance(value, int) else str(value)


def _wrong_decision(wanted: Decided, got: dict[str, Any]) -> list[str]:
    return _wrong(wanted, got, _DECISION)


def _wrong_run(wanted: Ran, got: dict[str, Any]) -> list[str]:
    return _wrong(wanted, got, _RUN)


def _wrong(wanted: Decided | Ran, got: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for key in keys:
        expected = getattr(wanted, key)
        if expected is None:
            continue
        seen = got[key]
        if key == "refused_by":
            expected = tuple(sorted(expected))
        if key == "steps":
            seen = {name: state for name, state in seen.items() if name in expected}
        if expected != seen:
            found.append(f"{key}: expected {_text(expected)}, got {_text(seen)}")
    if wanted.says is not None and wanted.says not in got["detail"]:
        found.append(f"says: expected {wanted.says!r} in {got['detail']!r}")
    return found


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {one}" for name, one in value.items()) or "none"
    return "none" if value is None else str(value)


def _listed(
    what: str, wanted: Sequence[Any], got: Sequence[dict[str, Any]], wrong: Callable[[Any, dict[str, Any]], list[str]]
) -> list[str]:
    found: list[str] = []
    for index, (one, seen) in enumerate(zip_longest(wanted, got)):
        if one is None:
            found.append(f"{what}[{index}]: expected no more, got {_told(seen)}")
        elif seen is None:
            found.append(f"{what}[{index}]: expected {_told(one.model_dump(exclude_unset=True))}, got no more")
        else:
            found += [f"{what}[{index}].{line}" for line in wrong(one, seen)]
    return found


def _told(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items() if value not in (None, (), {}, "") and key != "detail")


# --- calls -----------------------------------------------------------------------------------------------------------


def _in_order(what: str, patterns: Sequence[str], calls: Sequence[str], shown: Sequence[str]) -> list[str]:
    """One difference for the whole list, with the first place at which it parts."""
    at = 0
    for index, pattern in enumerate(patterns):
        if at >= len(calls) or not fits(pattern, calls[at]):
            return [_parted(f"{what}[{index}]", pattern, shown[at] if at < len(calls) else "no more", shown)]
        at += 1
        while pattern.endswith(" ...") and at < len(calls) and fits(pattern, calls[at]):
            at += 1
    return [_parted(f"{what}[{len(patterns)}]", "no more", shown[at], shown)] if at < len(calls) else []


def _parted(where: str, wanted: str, got: str, shown: Sequence[str]) -> str:
    lines = [f"{where}: expected {wanted}, got {got}", "  all of them:", *(f"  - {line}" for line in shown or ("none",))]
    return "\n".join(lines)


def _shown(calls: Sequence[Made]) -> list[str]:
    return [f"{made.call}, {_time(made)}" for made in calls]


def _time(made: Made) -> str:
    return f"after {format_duration(made.after)}"


def _open(call: str) -> str:
    head, slash, name = call.rpartition("/")
    return f"{head}{slash}{_GENERATED.sub('-*', name)}" if " Pod/" in head else call


def _folded(calls: Sequence[str]) -> list[str]:
    """Several that look alike in a row become one with `` ...``."""
    folded: list[str] = []
    for call in calls:
        if folded and folded[-1].removesuffix(" ...") == call:
            folded[-1] = f"{call} ..."
        else:
            folded.append(call)
    return folded
