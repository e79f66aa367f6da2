"""From text to plain data and positions, out of PyYAML's events. Events come one by one, so every limit holds before anything grows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import yaml

from remediator.document.explain import told
from remediator.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FLOAT", "INT", "TAG", "Node", "Reader"]

MAX_DEPTH = 32
MAX_NODES = 20_000
"""Scalars, lists and mappings of a text, each alias counted as what it stands for."""

TAG = "tag:yaml.org,2002:"
INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
"""Numbers of the core schema (YAML 1.2.2, 10.3.2)."""
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_LONGEST_NUMBER = 100

Event = Any
"""A yaml.Event. Its stub says that marks may be absent; those of a parser never are."""


class Node:
    """Where one value stands, and its parts. ``start`` and ``end`` are indexes in the text, ``weight`` counts all values in it."""

    __slots__ = ("column", "end", "keys", "line", "parts", "start", "style", "weight")

    def __init__(self, event: Event, style: str | None = None) -> None:
        self.line: int = event.start_mark.line + 1
        self.column: int = event.start_mark.column + 1
        self.start: int = event.start_mark.index
        self.end: int = event.end_mark.index
        self.style = style
        self.keys: dict[str | int, tuple[int, int]] = {}
        self.parts: dict[str | int, Node] = {}
        self.weight = 1


class Built(NamedTuple):
    """A value and where it stands."""

    node: Node
    data: Any


class Part(NamedTuple):
    """One document of a text; ``start`` is the index where its text begins."""

    start: int
    node: Node
    data: Any


class _Stop(Exception):  # noqa: N818 - never leaves this module
    """Nothing after this point can be read."""


class Reader:
    """Reads one text. What is wrong with it gathers in ``problems``."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.problems: list[Problem] = []
        self._events: Iterator[Event] = iter(yaml.parse(text, Loader=yaml.CSafeLoader))
        self._anchors: dict[str, Built] = {}
        self._nodes = 0

    def documents(self) -> list[Part]:
        """All documents up to the end or to the first thing that cannot be read over."""
        parts: list[Part] = []
        try:
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors = {}
                    parts.append(Part(_index(event) if parts else 0, *self._value(next(self._events), 0)))
        except yaml.YAMLError as error:
            self.problems.append(_syntax(self.path, self.text, error))
        except _Stop:
            pass
        return parts

    def _value(self, event: Event, depth: int) -> Built:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1, depth)
        if isinstance(event, yaml.MappingStartEvent):
            built = self._mapping(event, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            built = self._sequence(event, depth)
        else:
            built = Built(Node(event, event.style), self._scalar(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = built
        return built

    def _count(self, event: Event, weight: int, depth: int) -> None:
        self._nodes += weight
        if self._nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES} values, each alias counted as what it stands for")
        if depth > MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH} levels")

    def _alias(self, event: Event) -> Built:
        built = self._anchors.get(event.anchor)
        if built is None:
            self._stop(event, f"alias *{event.anchor} has no complete anchor &{event.anchor} before it")
        self._count(event, built.node.weight, 0)
        return built

    def _sequence(self, event: Event, depth: int) -> Built:
        self._check_tag(event, "seq")
        node = Node(event)
        data: list[Any] = []
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            part = self._value(item, depth + 1)
            node.parts[len(data)] = part.node
            node.weight += part.node.weight
            data.append(part.data)
        return Built(node, data)

    def _mapping(self, event: Event, depth: int) -> Built:
        self._check_tag(event, "map")
        node = Node(event)
        data: dict[str, Any] = {}
        while not isinstance(item := next(self._events), yaml.MappingEndEvent):
            key = self._key(item, depth)
            part = self._value(next(self._events), depth + 1)
            node.weight += 1 + part.node.weight
            if key in data:
                line, column = node.keys[key]
                self._report(item, f'key "{key}" appears twice in this mapping; the first is at line {line}, column {column}')
            elif key is not None:
                node.keys[key] = (item.start_mark.line + 1, item.start_mark.column + 1)
                node.parts[key], data[key] = part.node, part.data
        return Built(node, data)

    def _key(self, event: Event, depth: int) -> str | None:
        """The key, or None where it was reported as unusable."""
        value = self._value(event, depth + 1).data
        if not isinstance(event, yaml.ScalarEvent):
            self._report(event, "a key must be a string, written out")
        elif value == "<<" and event.implicit[0]:
            self._report(event, "merge keys (<<) are not part of YAML 1.2; write the keys out")
        elif not isinstance(value, str):
            self._report(event, f'a key must be a string; write "{event.value}" in quotes')
        else:
            return value
        return None

    def _scalar(self, event: Event) -> Any:
        text: str = event.value
        if event.tag is None and event.implicit[0]:
            return self._plain(event, text)
        if event.tag in (None, "!", TAG + "str"):
            return text
        value = self._plain(event, text)
        kind = {type(None): "null", bool: "bool", int: "int", float: "float"}.get(type(value))
        if event.tag != f"{TAG}{kind}":
            self._report(event, f"tag {_short(event.tag)} is not known or does not fit the value")
        return value

    def _plain(self, event: Event, text: str) -> Any:
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        is_int = INT.fullmatch(text) is not None
        if not is_int and FLOAT.fullmatch(text) is None:
            return text
        if len(text) > _LONGEST_NUMBER:
            self._report(event, f"a number of {len(text)} characters")
            return 0
        if is_int:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def _check_tag(self, event: Event, kind: str) -> None:
        if event.tag not in (None, "!", TAG + kind):
            self._report(event, f"tag {_short(event.tag)} is not known or does not fit the value")

    def _report(self, event: Event, message: str) -> None:
        self.problems.append(Problem(self.path, event.start_mark.line + 1, event.start_mark.column + 1, told((), message)))

    def _stop(self, event: Event, message: str) -> NoReturn:
        self._report(event, message)
        raise _Stop


def _index(event: Event) -> int:
    index: int = event.start_mark.index
    return index


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(TAG) if tag.startswith(TAG) else tag


def _syntax(path: str, text: str, error: yaml.YAMLError) -> Problem:
    """PyYAML's error with its position, in words that say what to do where a usual mistake is behind it."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Problem(path, 1, 1, f"not YAML: {error}")
    rest, before = text[mark.index :], text[: mark.index]
    if rest.startswith("{") and before.endswith("$"):
        message = 'write "${...}" in quotes here: inside of {...} and [...] YAML takes the brace for its own'
        return Problem(path, mark.line + 1, mark.column, message)
    return Problem(path, mark.line + 1, mark.column + 1, told((), _advice(rest, getattr(error, "problem", "")) + _began(error, mark)))


def _advice(rest: str, message: str) -> str:
    if rest.startswith("\t"):
        return "a tab cannot indent YAML; use spaces"
    if "cannot start any token" in message:
        return f'"{rest[:1]}" cannot begin a value; write the value in quotes'
    if "mapping values are not allowed" in message:
        return 'a second ": " in one value, or wrong indentation; a value with ": " in it needs quotes'
    return message


def _began(error: yaml.YAMLError, mark: Any) -> str:
    """Where the construct began that PyYAML could not finish."""
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    if not context or start is None or start.index >= mark.index:
        return ""
    return f" ({context} that began at line {start.line + 1}, column {start.column + 1})"
