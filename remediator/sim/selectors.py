"""Label and field selectors as they stand in a query string.

In comes the text; out comes a test over objects. What does not parse is refused with the real server's 400.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remediator.sim.kinds import supported_fields
from remediator.sim.objects import dig, labels_of
from remediator.sim.status import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj

__all__ = ["field_test", "label_test", "selector_test"]

_TOKEN = re.compile(r"\s*(==|!=|=|!|\(|\)|,|>|<|[^\s=!(),<>]+)")
_SET_OPERATORS = ("in", "notin")


class _Labels:
    """A recursive reading of one label selector."""

    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def parse(self) -> list[Callable[[dict[str, str]], bool]]:
        tests = [self.requirement()]
        while self.peek() == ",":
            self.take()
            tests.append(self.requirement())
        if self.peek():
            raise _unparsable(self.peek(), "',' or 'end of string'")
        return tests

    def requirement(self) -> Callable[[dict[str, str]], bool]:
        if self.peek() == "!":
            self.take()
            absent = self.identifier()
            return lambda labels: absent not in labels
        key = self.identifier()
        operator = self.peek()
        if operator in ("", ","):
            return lambda labels: key in labels
        self.take()
        if operator in _SET_OPERATORS:
            return self.set_test(key, operator)
        if operator in (">", "<"):
            return self.number_test(key, operator)
        if operator not in ("=", "==", "!="):
            raise _unparsable(operator, "in, notin, =, ==, !=, gt, lt")
        value = self.value()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value

    def identifier(self) -> str:
        token = self.take()
        if token in ("", "=", "==", "!=", "(", ")", ",", ">", "<"):
            raise _unparsable(token, "identifier")
        return token

    def value(self) -> str:
        if self.peek() in ("", ","):
            return ""
        return self.identifier()

    def set_test(self, key: str, operator: str) -> Callable[[dict[str, str]], bool]:
        if self.take() != "(":
            raise _unparsable(self.tokens[self.at - 1] if self.at <= len(self.tokens) else "", "'('")
        values: set[str] = set()
        if self.peek() == ")":
            values.add("")
        while self.peek() not in (")", ""):
            values.add(self.value())
            if self.peek() == ",":
                self.take()
            elif self.peek() not in (")", ""):
                raise _unparsable(self.peek(), "',' or ')'")
        if self.take() != ")":
            raise _unparsable("", "',' or ')'")
        if operator == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values

    def number_test(self, key: str, operator: str) -> Callable[[dict[str, str]], bool]:
        limit = self.value()
        if not re.fullmatch(r"-?\d+", limit):
            raise bad_request(f"values[0][{key}]: Invalid value: \"{limit}\": for 'Gt', 'Lt' operators, the value must be an integer")

        def holds(labels: dict[str, str]) -> bool:
            value = labels.get(key, "")
            if not re.fullmatch(r"-?\d+", value):
                return False
            return int(value) > int(limit) if operator == ">" else int(value) < int(limit)

        return holds


def _unparsable(found: str, expected: str) -> Exception:
    return bad_request(f"unable to parse requirement: found '{found}', expected: {expected}")


def label_test(text: str) -> Callable[[Obj], bool] | None:
    """The test of a label selector, None if it is empty and so fits everything. Raises ApiError 400."""
    if not text.strip():
        return None
    tests = _Labels(text).parse()
    return lambda obj: all(test(labels_of(obj)) for test in tests)


def field_test(text: str, resource: Resource) -> Callable[[Obj], bool] | None:
    """The test of a field selector, None if it is empty. Raises ApiError 400 for fields that the resource does not index."""
    if not text.strip():
        return None
    known = supported_fields(resource)
    tests = [_field(part, known, resource) for part in text.split(",") if part]
    return lambda obj: all(test(obj) for test in tests)


def _field(part: str, known: dict[str, str], resource: Resource) -> Callable[[Obj], bool]:
    match = re.fullmatch(r"([^=!]+?)(==|!=|=)(.*)", part)
    if match is None:
        raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
    path, operator, wanted = match.groups()
    if path not in known:
        raise _unknown_field(path, resource)
    absent = known[path]
    if operator == "!=":
        return lambda obj: _text(_field_value(obj, path), absent) != wanted
    return lambda obj: _text(_field_value(obj, path), absent) == wanted


def _field_value(obj: Obj, path: str) -> Any:
    if path == "source":
        return dig(obj, "source.component") or obj.get("reportingComponent")
    return dig(obj, path)


def _unknown_field(path: str, resource: Resource) -> Exception:
    if resource.fields or resource.custom:
        return bad_request(f"field label not supported: {path}")
    return bad_request(f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"')


def _text(value: Any, absent: str) -> str:
    if value is None:
        return absent
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def selector_test(labels: str, fields: str, resource: Resource, namespace: str = "") -> Callable[[Obj], bool] | None:
    """Both selectors and a namespace together; None where nothing is selected away."""
    tests = [test for test in (label_test(labels), field_test(fields, resource)) if test is not None]
    if namespace:
        tests.append(lambda obj: obj["metadata"].get("namespace") == namespace)
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda obj: all(test(obj) for test in tests)
