"""What arguments and options may be: durations, moments, ``name=value`` pairs, files of alerts. A bad one is a usage error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remediator.errors import UsageError
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

__all__ = ["DURATION", "MOMENT", "OPEN_STATES", "PLAYBOOKS", "RUN_STATES", "pairs", "read_alerts", "read_bytes", "time_of"]

# Written out, so that help does not pay for remediator.model; a test keeps them equal to RunState.
OPEN_STATES = ("awaiting_approval", "running", "verifying", "undoing")
RUN_STATES = (*OPEN_STATES, "healed", "not_healed", "done", "predicted", "failed", "cancelled", "expired", "unknown")


class _Duration(click.ParamType["timedelta"]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return time_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Playbooks(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from remediator.settings import SHIPPED, shipped

        return shipped() if value == SHIPPED else super().convert(value, param, ctx)


DURATION = _Duration()
"""``30s``, ``5m``, ``1h30m``, ``7d``."""
MOMENT = _Moment()
"""An RFC 3339 time, or a duration for that long ago."""


PLAYBOOKS = _Playbooks(path_type=Path)
"""A file or a folder of playbooks, or the word for the shipped ones, as in the settings."""


def time_of(text: str) -> datetime:
    """An RFC 3339 time, or a duration for that long ago. Raises ValueError."""
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text}" is neither a time as 2026-01-05T10:00:00Z nor a duration as 1h') from None
    if moment.tzinfo is None:
        raise ValueError(f'"{text}" names no time zone; write for example 2026-01-05T10:00:00Z')
    return moment.astimezone(UTC)


def pairs(given: Iterable[str], option: str) -> dict[str, str]:
    """``name=value`` texts as a dict. Raises UsageError for one without ``=`` and for a name that comes twice."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f'{option} "{text}" has to be name=value')
        if name.strip() in found:
            raise UsageError(f'{option} names "{name.strip()}" twice')
        found[name.strip()] = value
    return found


def read_bytes(path: str) -> bytes:
    """What is in a file, or on stdin for ``-``. Raises UsageError."""
    try:
        with click.open_file(path, "rb") as file:
            content: bytes = file.read()
            return content
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def read_alerts(path: str) -> list[dict[str, Any]]:
    """The alerts in a file: a payload of Alertmanager, a list of alerts, or one alert (an object with ``labels``).

    Raises UsageError for anything else, with what was expected.
    """
    try:
        data = json.loads(read_bytes(path))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    alerts = data.get("alerts", [data]) if isinstance(data, dict) else data
    wanted = f"{path} has to hold a payload of Alertmanager, a list of alerts, or one alert with its labels"
    if not isinstance(alerts, list) or not alerts:
        raise UsageError(wanted)
    for index, alert in enumerate(alerts):
        labels = alert.get("labels") if isinstance(alert, dict) else None
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise UsageError(f"{wanted}; alert {index} has no labels, or labels that are not text")
    return alerts
