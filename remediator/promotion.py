"""What speaks for letting a playbook go further, or against it: what it predicted and suggested, what people did, and what came of it.

In: the runs of the last days, each with the episode of its alert. Out: numbers a playbook, for people to decide by. Nothing is promoted
here. Pure. "People" are those who came through this daemon; what somebody did with kubectl nobody here can see.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.breaker import failed
from remediator.model import ApprovalState, Noun, RunState, TriggerKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from remediator.model import Approval, Episode, Run

__all__ = ["LOOK_BACK", "Acted", "Predicted", "Record", "Suggested", "records"]

LOOK_BACK = timedelta(days=30)
_WORKED = (RunState.HEALED, RunState.DONE)


class Acted(Noun, frozen=True, kw_only=True):
    """Runs that were real, by how they ended."""

    runs: int = 0
    healed: int = 0
    """Or done, where there was nothing to verify."""
    failed: int = 0
    """Failed, not healed, or with an unknown result."""
    stopped: int = 0
    """By people, a gate, or the end of the alert."""
    open: int = 0


class Predicted(Noun, frozen=True, kw_only=True):
    """Dry runs for alerts: what the playbook would have done in mode observe, and how it went without it."""

    runs: int = 0
    people_acted: int = 0
    """Somebody started a real run on the same target before the alert ended."""
    ended_alone: int = 0
    """The alert ended and nobody had done so."""
    still_firing: int = 0


class Suggested(Noun, frozen=True, kw_only=True):
    """Runs that people were asked about before they began."""

    runs: int = 0
    approved: int = 0
    rejected: int = 0
    expired: int = 0
    withdrawn: int = 0
    """The alert ended, or the run was cancelled, before anybody answered."""
    waiting: int = 0
    after_yes: Acted = Acted()
    ended_after_no: int = 0
    """Rejected or expired, and the alert ended all the same."""


class Record(Noun, frozen=True, kw_only=True):
    """One playbook in the last ``days``."""

    playbook: str
    days: int = LOOK_BACK.days
    predicted: Predicted = Predicted()
    suggested: Suggested = Suggested()
    by_itself: Acted = Acted()
    by_hand: Acted = Acted()
    failures_in_a_row: int = 0
    """The newest real runs that failed, with none between them that worked."""


def records(playbooks: Iterable[str], outcomes: Sequence[tuple[Run, Episode | None]]) -> tuple[Record, ...]:
    """A record for each of ``playbooks``, in that order. ``outcomes``: newest first."""
    by_playbook: dict[str, list[tuple[Run, Episode | None]]] = defaultdict(list)
    by_target: dict[str, list[Run]] = defaultdict(list)
    for run, episode in outcomes:
        by_playbook[run.playbook].append((run, episode))
        if run.trigger.kind is TriggerKind.MANUAL and not run.dry_run and not run.unapproved:
            by_target[run.target.key].append(run)
    return tuple(_record(name, by_playbook[name], by_target) for name in playbooks)


def _record(playbook: str, mine: list[tuple[Run, Episode | None]], by_target: dict[str, list[Run]]) -> Record:
    alerted = [(run, episode) for run, episode in mine if run.trigger.kind is TriggerKind.ALERT]
    real = [run for run, _ in mine if not run.dry_run]
    asked = [(run, episode) for run, episode in alerted if _first(run) is not None]
    return Record(
        playbook=playbook,
        predicted=_predicted([(run, episode) for run, episode in alerted if run.dry_run], by_target),
        suggested=_suggested(asked),
        by_itself=_acted(run for run, _ in alerted if not run.dry_run and _first(run) is None),
        by_hand=_acted(run for run in real if run.trigger.kind is TriggerKind.MANUAL),
        failures_in_a_row=_row(real),
    )


def _first(run: Run) -> Approval | None:
    """The question before its beginning."""
    return next((asked for asked in run.approvals if asked.step is None), None)


def _predicted(dry: list[tuple[Run, Episode | None]], by_target: dict[str, list[Run]]) -> Predicted:
    acted = [_people_acted(run, episode, by_target[run.target.key]) for run, episode in dry]
    ended = [episode is not None and episode.resolved_at is not None for _, episode in dry]
    alone = sum(over and not people for over, people in zip(ended, acted, strict=True))
    return Predicted(runs=len(dry), people_acted=sum(acted), ended_alone=alone, still_firing=len(dry) - sum(ended))


def _people_acted(run: Run, episode: Episode | None, manual: list[Run]) -> bool:
    until = episode.resolved_at if episode is not None else None
    return any(run.started_at <= other.started_at and (until is None or other.started_at <= until) for other in manual)


def _suggested(asked: list[tuple[Run, Episode | None]]) -> Suggested:
    states = [first.state for run, _ in asked if (first := _first(run)) is not None]
    no = (ApprovalState.REJECTED, ApprovalState.EXPIRED)
    over = [
        episode is not None and episode.resolved_at is not None for (_, episode), state in zip(asked, states, strict=True) if state in no
    ]
    return Suggested(
        runs=len(asked),
        approved=states.count(ApprovalState.APPROVED),
        rejected=states.count(ApprovalState.REJECTED),
        expired=states.count(ApprovalState.EXPIRED),
        withdrawn=states.count(ApprovalState.WITHDRAWN),
        waiting=states.count(ApprovalState.WAITING),
        after_yes=_acted(run for run, _ in asked if not run.unapproved),
        ended_after_no=sum(over),
    )


def _acted(runs: Iterable[Run]) -> Acted:
    every = list(runs)
    healed, bad, still = (sum(map(test, every)) for test in (_worked, failed, _open))
    return Acted(runs=len(every), healed=healed, failed=bad, stopped=len(every) - healed - bad - still, open=still)


def _worked(run: Run) -> bool:
    return run.state in _WORKED


def _open(run: Run) -> bool:
    return run.state.open


def _row(real: list[Run]) -> int:
    """How many of the newest runs failed one after the other; those that people stopped say nothing."""
    count = 0
    for run in real:
        if _worked(run):
            break
        count += failed(run)
    return count
