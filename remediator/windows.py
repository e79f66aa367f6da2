"""Windows of time that come again each week, or once, by the clock on the wall of some time zone.

In: what settings and playbooks say of a window, and a moment. Out: whether the window is open then, and until when.
Refused: unknown zones and days, half a time of day, a window of no length.
Where clocks are changed a time of day may not exist, or come twice. A window can be read WIDE (it opens at the earliest and closes at the
latest of the moments that the words may mean) or NARROW (the other way round), so that whoever asks errs on the careful side.
A window whose ``to`` is not after its ``from`` goes on past midnight; its days are those on which it opens.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from remediator.clock import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Edge", "Window", "open_one", "told_of"]

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_A_DAY = timedelta(days=1)


class Edge(Enum):
    """How to read a time of day that does not exist or comes twice."""

    WIDE = "wide"
    """For a window that forbids."""
    NARROW = "narrow"
    """For a window that permits."""


@cache
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown, not a name at all, a folder of the database
        raise ValueError(f'"{name}" is not a time zone of this system\'s database; write for example Europe/Berlin or UTC') from error


def _known(name: str) -> str:
    _zone(name)
    return name


def _minutes(value: Any) -> Any:
    """Minutes since midnight."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("write a time of day in quotes, such as '22:00'")  # noqa: TRY004 - pydantic reports ValueError
    if not isinstance(value, str) or _CLOCK.fullmatch(value) is None:
        raise ValueError("must be a time of day from '00:00' to '24:00', such as '22:00'")
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)


def _shown(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


Clock = Annotated[
    int,
    BeforeValidator(_minutes),
    PlainSerializer(_shown, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$"}),
]
Zone = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "examples": ["Europe/Berlin", "UTC"]})]


class Window(BaseModel):
    """``{days: [sat, sun], from: '22:00', to: '04:00', zone: Europe/Berlin}``, or once: ``{since: 2026-01-05T20:00:00Z, until: ...}``"""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    name: str = Field(default="", max_length=100, description="what people see of it")
    days: tuple[Day, ...] = Field(default=_DAYS, min_length=1, description="on which it opens; absent: every day")
    begin: Clock | None = Field(default=None, alias="from", description="time of day at which it opens")
    end: Clock | None = Field(default=None, alias="to", description="time of day at which it closes; not after from: on the next day")
    zone: Zone = Field(default="UTC", description="whose clock is meant")
    since: AwareDatetime | None = Field(default=None, description="never open before; RFC 3339 with a zone")
    until: AwareDatetime | None = Field(default=None, description="never open from then on")

    @model_validator(mode="after")
    def _complete(self) -> Window:
        if (self.begin is None) != (self.end is None):
            raise ValueError("from and to belong together")
        if self.begin is not None and self.begin in (self.end, 24 * 60):
            raise ValueError("opens and closes at the same time; for whole days leave from and to away")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("since is not before until")
        if self.begin is None and self.days == _DAYS and (self.since is None or self.until is None):
            raise ValueError("would be open for ever; say from and to, days, or since and until")
        return self

    def closes(self, at: datetime, edge: Edge) -> datetime | None:
        """When the window that is open at ``at`` closes; None if it is not. It is open from its begin up to just before its end."""
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return None
        ends = [end for begin, end in self._around(at, edge) if begin <= at < end]
        return min([max(ends), *([self.until] if self.until is not None else [])]) if ends else None

    def __str__(self) -> str:
        """As it was written, more or less."""
        clock = "" if self.begin is None or self.end is None else f" {_shown(self.begin)} to {_shown(self.end)} {self.zone}"
        days = "" if self.days == _DAYS else ", ".join(self.days)
        once = " ".join(f"{word} {iso(when)}" for word, when in (("since", self.since), ("until", self.until)) if when)
        return " ".join(part for part in (self.name, days, clock.strip(), once) if part)

    def _around(self, at: datetime, edge: Edge) -> Iterator[tuple[datetime, datetime]]:
        """The windows that open on the days around ``at``, in UTC. A change of clocks moves an edge by hours, never by days."""
        begin, end = (0, 24 * 60) if self.begin is None or self.end is None else (self.begin, self.end)
        first, last = (min, max) if edge is Edge.WIDE else (max, min)
        today = at.astimezone(_zone(self.zone)).date()
        for day in (today - _A_DAY, today, today + _A_DAY):
            if _DAYS[day.weekday()] in self.days:
                closing = day if end > begin else day + _A_DAY
                yield first(self._moments(day, begin)), last(self._moments(closing, end))

    def _moments(self, day: date, minutes: int) -> tuple[datetime, datetime]:
        """The moments that a time of day may mean: equal, unless clocks are changed then (PEP 495: fold)."""
        naive = datetime.combine(day, time()) + timedelta(minutes=minutes)
        zone = _zone(self.zone)
        before, after = (naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        return before, after


def open_one(windows: Iterable[Window], at: datetime, edge: Edge) -> tuple[Window, datetime] | None:
    """The window of these that stays open longest from ``at`` on, with its end; None if none is open."""
    found = [(window, end) for window in windows if (end := window.closes(at, edge)) is not None]
    return max(found, key=lambda pair: pair[1], default=None)


def told_of(window: Window, end: datetime) -> str:
    """An open window, and its end, in words."""
    return f"{window} is open until {iso(end)}"
