"""The routes of Alertmanager's configuration, and where an alert of which only some labels are known may go.

In: the plain data of a configuration, as ``GET /api/v2/status`` shows it. Out: routes with what they inherit, and for an alert those that
may take it. What is not known counts as possible: only "never" is certain here. What has not the shape of a configuration is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from remediator.errors import ExpressionError
from remediator.playbook import Matcher, parse_matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from remediator.document import Loc

__all__ = ["Facts", "Route", "mapping", "names_of", "read_routes", "sequence"]

_PLAIN: Final = re.compile(r"[\w:]+(?:\|[\w:]+)*", re.ASCII)
_STRANGE: Final = re.compile(r'\s*".*\\', re.DOTALL)
"""Where the label is in quotes (0.27 and later), Alertmanager writes Go's escapes, of which a matcher of ours knows three."""


def mapping(value: Any) -> dict[str, Any]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def names_of(matchers: Iterable[Matcher | None]) -> list[str] | None:
    """The alerts that the matchers spell out by name; None where any may fit."""
    found: list[str] | None = None
    for one in matchers:
        if one is not None and one.label == "alertname" and (one.op == "=" or (one.op == "=~" and _PLAIN.fullmatch(one.value))):
            spelled = one.value.split("|") if one.op == "=~" else [one.value]
            found = spelled if found is None else [name for name in found if name in spelled]
    return found


class Facts:
    """What is known of an alert's labels: some values, and conditions that hold."""

    def __init__(self, known: Mapping[str, str], holds: Iterable[Matcher | None] = ()) -> None:
        self._holds = frozenset(one for one in holds if one is not None)
        self._known = {**{one.label: one.value for one in self._holds if one.op == "="}, **known}

    def fit(self, matchers: Iterable[Matcher | None]) -> bool | None:
        """Whether the alert fits all of them; None if that cannot be told."""
        answers = [self._fits(one) for one in matchers]
        return False if False in answers else None if None in answers else True

    def _fits(self, matcher: Matcher | None) -> bool | None:
        if matcher is None:
            return None
        if matcher.label in self._known:
            return matcher.matches(self._known)
        if matcher in self._holds or (matcher.op, matcher.value) == ("=~", ".*"):
            return True
        named = matcher.label == "alertname" and (matcher.op, matcher.value) in (("!=", ""), ("=~", ".+"))  # every alert has a name
        return True if named else None


@dataclass(eq=False)
class Route:
    """One route, with what it inherits. ``matchers`` are its own; None is one that cannot be read here."""

    loc: Loc
    parent: Route | None
    receiver: str
    group_by: tuple[str, ...]
    repeat_interval: str
    """As it is written; Alertmanager's default where nobody says one."""
    goes_on: bool
    """``continue: true``: routes behind it are asked, too."""
    matchers: tuple[Matcher | None, ...]
    children: list[Route] = field(default_factory=list)

    def everything(self) -> tuple[Matcher | None, ...]:
        """Its matchers and those of all routes above it: what an alert fits that comes here."""
        return (*(self.parent.everything() if self.parent else ()), *self.matchers)

    def walk(self) -> Iterator[Route]:
        """Itself and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def shadow(self, facts: Facts) -> Route | None:
        """The route that takes everything before it comes here, if there is one."""
        if self.parent is None:
            return None
        before = self.parent.children[: self.parent.children.index(self)]
        return next((one for one in before if not one.goes_on and facts.fit(one.matchers)), None) or self.parent.shadow(facts)

    def is_end(self, facts: Facts) -> bool:
        """Whether an alert may stay here, since no route below it need take it."""
        return not any(facts.fit(child.matchers) for child in self.children)

    def takers(self, facts: Facts, wanted: Callable[[Route], bool]) -> tuple[list[Route], list[tuple[Route, Route]]]:
        """Of the wanted routes those that may take the alert; and those that would, each behind the route that lets it come no further."""
        may: list[Route] = []
        would: list[tuple[Route, Route]] = []
        taken, stop = False, None
        for child in self.children:
            fits = facts.fit(child.matchers)
            if fits is False:
                continue
            below, behind = child.takers(facts, wanted)
            if stop is None:
                may += below
                would += behind
            else:
                would += [(stop, one) for one in below]
            taken = taken or fits is True
            if stop is None and fits and not child.goes_on:
                stop = child
        return ([*may, self] if wanted(self) and not taken else may), would


def read_routes(data: Any) -> Route | None:
    """The tree of routes in a configuration, or None if it has none."""
    top = mapping(data).get("route")
    return _route(top, ("route",), None, {}) if isinstance(top, dict) else None


def _route(data: dict[str, Any], loc: Loc, parent: Route | None, read: dict[str, Matcher | None]) -> Route:
    group_by = tuple(one for one in sequence(data.get("group_by")) if isinstance(one, str))
    route = Route(
        loc=loc,
        parent=parent,
        receiver=_text(data.get("receiver")) or (parent.receiver if parent else ""),
        group_by=group_by or (parent.group_by if parent else ()),
        repeat_interval=_text(data.get("repeat_interval")) or (parent.repeat_interval if parent else "4h"),
        goes_on=data.get("continue") is True,
        matchers=tuple(_matchers(data, read)),
    )
    for index, child in enumerate(sequence(data.get("routes"))):
        if isinstance(child, dict):
            route.children.append(_route(child, (*loc, "routes", index), route, read))
    return route


def _matchers(data: dict[str, Any], read: dict[str, Matcher | None]) -> Iterator[Matcher | None]:
    """Of ``matchers`` and of the older ``match`` and ``match_re``; each text is read once."""
    for key, op in (("match", "="), ("match_re", "=~")):
        for label, value in mapping(data.get(key)).items():
            yield _matcher(f"{label}{op}{_quoted(value)}", read) if isinstance(value, str) else None
    for one in sequence(data.get("matchers")):
        yield _matcher(one, read) if isinstance(one, str) else None


def _matcher(text: str, read: dict[str, Matcher | None]) -> Matcher | None:
    if text not in read:
        try:
            read[text] = None if _STRANGE.match(text) else parse_matcher(text)
        except ExpressionError:
            read[text] = None
    return read[text]


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
