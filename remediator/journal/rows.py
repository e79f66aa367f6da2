"""Nouns as rows: the columns that are filtered by, beside the record's JSON.

In: a noun and its JSON text. Out: the row, its values in the order of the table's columns; and the ids and times as they are spelled in
columns. A text that no index takes (a NUL, more than 200 characters) is shortened in its column, never in the record; filters are
spelled by the same ``key``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

from remediator.model import Alert, Change, Decision, Delivery, Episode, Pause, Run, Step, evolve, from_json

__all__ = [
    "change_row",
    "decision_row",
    "delivery_of",
    "delivery_row",
    "episode_id",
    "episode_row",
    "key",
    "pause_row",
    "run_row",
    "stamp",
    "step_id",
    "step_row",
]

LONGEST_KEY = 200


@lru_cache(maxsize=4096)
def stamp(moment: datetime) -> str:
    """A time as columns and entries have it: ``2026-01-05T10:00:00.000000Z``, always as long, so that it sorts as text."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat("T", "microseconds") + "Z"


def key(text: str) -> str:
    """A text as columns have it: as it is, or shortened with a digest that keeps it apart from others."""
    if len(text) <= LONGEST_KEY and "\0" not in text:
        return text
    return f"{text[:120]}…{sha256(text.encode(errors='replace')).hexdigest()}".replace("\0", "\ufffd")


def _key(text: str | None) -> str | None:
    return None if text is None else key(text)


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)


def episode_id(fingerprint: str, starts_at: datetime) -> str:
    """The key of one firing of one alert."""
    return f"{key(fingerprint)}@{stamp(starts_at)}"


def step_id(run: str, index: int) -> str:
    """The key of a step within a run."""
    return f"{run}/{index}"


def delivery_row(delivery: Delivery, data: str) -> tuple[Any, ...]:
    """A delivery that nobody decided yet; ``decided_at`` is kept in its column alone, so that the record stays as it came in."""
    return delivery.id, stamp(delivery.received_at), None, data


def delivery_of(row: Any) -> Delivery:
    """The delivery of a row, with ``decided_at`` from its column."""
    delivery = from_json(row.data, Delivery)
    return evolve(delivery, decided_at=datetime.fromisoformat(row.decided_at)) if row.decided_at else delivery


def episode_row(episode: Episode, data: str) -> tuple[Any, ...]:
    """See schema."""
    return (
        episode_id(episode.fingerprint, episode.starts_at),
        key(episode.fingerprint),
        stamp(episode.starts_at),
        key(episode.name),
        _stamp(episode.resolved_at),
        data,
    )


def decision_row(decision: Decision, data: str) -> tuple[Any, ...]:
    """See schema."""
    alert: Alert | None = decision.alert
    return (
        decision.id,
        stamp(decision.at),
        decision.delivery,
        key(alert.name) if alert else None,
        key(alert.fingerprint) if alert else None,
        _key(decision.playbook),
        key(decision.target.key) if decision.target else None,
        str(decision.decision),
        decision.run,
        data,
    )


def run_row(run: Run, data: str) -> tuple[Any, ...]:
    """``data`` is the run without its steps."""
    return (
        run.id,
        key(run.playbook),
        key(run.target.key),
        str(run.state),
        run.dry_run,
        stamp(run.started_at),
        _stamp(run.ended_at),
        data,
    )


def step_row(run: str, step: Step, data: str) -> tuple[Any, ...]:
    """``data`` is the step without its changes."""
    return step_id(run, step.index), run, step.index, data


def change_row(change: Change, data: str) -> tuple[Any, ...]:
    """See schema."""
    return change.id, change.run, stamp(change.at), change.left_behind, data


def pause_row(pause: Pause, data: str) -> tuple[Any, ...]:
    """A pause that nobody ended yet."""
    return pause.id, _key(pause.playbook), _key(pause.target), stamp(pause.at), _stamp(pause.until), None, data
