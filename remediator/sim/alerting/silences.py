"""Silences and the matchers of the Alertmanager API.

In come JSON bodies and filter texts; out come tests over labels. What is malformed is refused with ValueError.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from remediator.clock import iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Matcher", "Silence"]

_FILTER = re.compile(r"""\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(".*"|[^"]*?)\s*""")


class _Body(msgspec.Struct, rename="camel"):
    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True


@dataclass(frozen=True)
class Matcher:
    """One condition on a label; regular expressions are anchored, an absent label is the empty string."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """``alertname="x"``, ``node=~"node-.*"``. Raises ValueError."""
        match = _FILTER.fullmatch(text)
        if match is None:
            raise ValueError(f"bad matcher format: {text}")
        name, operator, value = match.groups()
        if value.startswith('"'):
            value = json.loads(value)
        return cls(name, str(value), operator.endswith("~"), not operator.startswith("!"))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Matcher:
        """From the API's JSON. Raises msgspec.ValidationError."""
        return cls(*msgspec.structs.astuple(msgspec.convert(data, _Body)))

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fit."""
        value = labels.get(self.name, "")
        same = bool(re.fullmatch(self.value, value, re.DOTALL)) if self.is_regex else value == self.value
        return same == self.is_equal

    def api(self) -> dict[str, Any]:
        """The API's JSON."""
        return {"isEqual": self.is_equal, "isRegex": self.is_regex, "name": self.name, "value": self.value}


@dataclass(frozen=True)
class Silence:
    """Mutes the alerts that fit all of its matchers while it is active."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    updated_at: datetime

    @classmethod
    def of(cls, data: Mapping[str, Any], *, name: str, now: datetime) -> Silence:
        """From the API's JSON. Raises ValueError."""
        matchers = data.get("matchers")
        if not isinstance(matchers, list) or not matchers:
            raise ValueError("matchers in body is required")
        missing = [key for key in ("startsAt", "endsAt", "createdBy", "comment") if not isinstance(data.get(key), str)]
        if missing:
            raise ValueError(f"{missing[0]} in body is required")
        starts, ends = parse_time(data["startsAt"]), parse_time(data["endsAt"])
        if ends <= max(starts, now):
            raise ValueError("end time can't be in the past")
        return cls(name, tuple(map(Matcher.of, matchers)), starts, ends, data["createdBy"], data["comment"], now)

    def state(self, now: datetime) -> str:
        """``pending``, ``active`` or ``expired``."""
        if now >= self.ends_at:
            return "expired"
        return "active" if now >= self.starts_at else "pending"

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether it mutes an alert with these labels."""
        return all(matcher.fits(labels) for matcher in self.matchers)

    def api(self, now: datetime) -> dict[str, Any]:
        """The API's JSON."""
        return {
            "id": self.id,
            "status": {"state": self.state(now)},
            "updatedAt": iso(self.updated_at),
            "comment": self.comment,
            "createdBy": self.created_by,
            "endsAt": iso(self.ends_at),
            "matchers": [m.api() for m in self.matchers],
            "startsAt": iso(self.starts_at),
        }
