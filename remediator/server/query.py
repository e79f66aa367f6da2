"""Query parameters of GET routes: each route declares its own, anything else is refused with a suggestion.

In: the query string; out: keyword arguments for the journal. A filter that was misspelt and ignored would show a list that means
something else than was asked, so nothing is ignored.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from remediator.clock import parse_time
from remediator.model import DecisionKind, Page, RunState
from remediator.server.body import suggestion
from remediator.server.problems import HttpProblem
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from multidict import MultiMapping

__all__ = [
    "Filter",
    "at_least",
    "boolean",
    "decision",
    "duration_or_time",
    "jobs",
    "limit",
    "or_empty",
    "page",
    "paging",
    "read_query",
    "states",
    "text",
]

MOST = 500


class Filter(NamedTuple):
    """One query parameter; ``parse`` raises ValueError with a sentence."""

    name: str
    parse: Callable[[str], Any]
    help: str
    schema: Mapping[str, Any]
    needed: bool = False
    several: bool = False
    """Whether it may be given more than once; its values are tuples then, which are put together."""


def read_query(given: MultiMapping[str], filters: tuple[Filter, ...], now: datetime) -> dict[str, Any]:
    """Parsed values by name, only of what was given. Raises HttpProblem 400 that names the parameter."""
    known = {known.name: known for known in filters}
    values: dict[str, Any] = {}
    for name, raw in given.items():
        if name not in known:
            raise _bad(name, f"is not a parameter of this route{suggestion(name, known)}")
        if name in values and not known[name].several:
            raise _bad(name, "is given twice")
        try:
            value = known[name].parse(raw)
            value = now - value if isinstance(value, timedelta) else value
        except (ValueError, OverflowError) as error:
            raise _bad(name, str(error)) from None
        values[name] = values.get(name, ()) + value if known[name].several else value
    for name, needed in known.items():
        if needed.needed and name not in values:
            raise _bad(name, "is required")
    return values


def _bad(name: str, detail: str) -> HttpProblem:
    return HttpProblem(400, "Bad query", f"{name[:100]}: {detail}", path=name[:100])


def _text(raw: str) -> str:
    if not raw or len(raw) > 500 or "\0" in raw:
        raise ValueError("expected some text, at most 500 characters")
    return raw


def _boolean(raw: str) -> bool:
    if raw not in ("true", "false"):
        raise ValueError("expected true or false")
    return raw == "true"


def _limit(raw: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,2}", raw, re.ASCII) or int(raw) > MOST:
        raise ValueError(f"expected a whole number from 1 to {MOST}")
    return int(raw)


def _states(raw: str) -> tuple[RunState, ...]:
    states: list[RunState] = []
    for word in raw.split(","):
        if word in ("open", "ended"):
            states += [state for state in RunState if state.open == (word == "open")]
        elif word in list(RunState):
            states.append(RunState(word))
        else:
            raise ValueError(f'"{word[:100]}" is not a state{suggestion(word, [*RunState, "open", "ended"])}')
    return tuple(dict.fromkeys(states))


def _decision(raw: str) -> DecisionKind:
    if raw not in list(DecisionKind):
        raise ValueError(f"expected one of {', '.join(DecisionKind)}")
    return DecisionKind(raw)


def _since(raw: str) -> datetime | timedelta:
    """A time, or a duration before now. A ``+`` of a zone arrives as a space where the client did not quote it."""
    if re.match(r"\d{4}-", raw, re.ASCII):
        return parse_time(raw.replace(" ", "+"))
    return parse_duration(raw)


def text(name: str, help: str, *, needed: bool = False) -> Filter:  # noqa: A002 - the field's name
    """A filter on equal text."""
    return Filter(name, _text, help, {"type": "string"}, needed)


def boolean(name: str, help: str) -> Filter:  # noqa: A002 - the field's name
    """``true`` or ``false``."""
    return Filter(name, _boolean, help, {"type": "boolean"})


def states() -> Filter:
    """``state=running,verifying``; ``open`` and ``ended`` stand for several."""
    words = "States, separated by commas; open and ended stand for several."
    return Filter("state", _states, words, {"type": "string"}, several=True)


def decision() -> Filter:
    """The kind of decision."""
    return Filter("decision", _decision, "What was decided.", {"type": "string", "enum": list(DecisionKind)})


def duration_or_time() -> Filter:
    """``since=2h`` or ``since=2026-01-05T10:00:00Z``."""
    return Filter("since", _since, "Not before this time (RFC 3339), or this long ago (2h).", {"type": "string"})


def limit() -> Filter:
    """How many items a page has at most."""
    schema = {"type": "integer", "minimum": 1, "maximum": MOST}
    return Filter("limit", _limit, f"Items on a page, at most {MOST}.", schema)


def at_least() -> Filter:
    """How often something must have happened to be told."""
    schema = {"type": "integer", "minimum": 1, "maximum": MOST}
    return Filter("at_least", _limit, "Only what happened so often; 2 if not said.", schema)


def jobs(most: int) -> Filter:
    """How many processes work on it."""

    def read(raw: str) -> int:
        if not re.fullmatch(r"[1-9]\d?", raw, re.ASCII) or int(raw) > most:
            raise ValueError(f"expected a whole number from 1 to {most}")
        return int(raw)

    return Filter("jobs", read, "Processes that read.", {"type": "integer", "minimum": 1, "maximum": most})


def or_empty(known: Filter) -> Filter:
    """The same for a form, which sends an empty value for what was left open."""
    nothing: tuple[()] | None = () if known.several else None
    return known._replace(parse=lambda raw: known.parse(raw) if raw else nothing)


def page(items: Sequence[dict[str, Any]], asked: Mapping[str, Any]) -> Page[dict[str, Any]]:
    """A page of what is in memory, by ``name``: all of it unless ``limit`` says less; ``next`` is the last name on the page."""
    after, most = asked.get("cursor"), asked.get("limit", MOST)
    rest = [item for item in sorted(items, key=_by_name) if after is None or _by_name(item) > after]
    return Page(items=tuple(rest[:most]), next=_by_name(rest[most - 1]) if len(rest) > most else None)


def _by_name(item: Mapping[str, Any]) -> str:
    return str(item["name"])


def paging() -> tuple[Filter, Filter]:
    """``limit`` and ``cursor``."""
    return limit(), text("cursor", "What the page before gave as next.")
