"""One condition on a label, in Alertmanager's syntax: ``severity=~"crit.*"``.

In: text. Out: a Matcher. A label that an alert does not carry counts as empty; regular expressions are RE2 and fit the whole value; both as
Alertmanager has it (``pkg/labels``). Refused with the column: anything that is not exactly one matcher.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast

from remediator.errors import ExpressionError
from remediator.expr import Pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Matcher", "Op", "parse_matcher"]

Op = Literal["=", "!=", "=~", "!~"]

_QUOTED = r'"(?:\\.|[^"\\])*"'
_BARE = r"[^\s{}!=~,\\\"'`]+"
_MATCHER = re.compile(rf"\s*(?P<label>{_BARE}|{_QUOTED})\s*(?P<op>=~|!~|!=|=)\s*(?P<value>{_BARE}|{_QUOTED})\s*", re.DOTALL)
_HEAD = re.compile(rf"\s*(?:{_BARE}|{_QUOTED})\s*(?P<op>=~|!~|!=|=)?\s*", re.DOTALL)
_PLAIN_LABEL = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*", re.ASCII)
_ESCAPE = re.compile(r'\\([\\"n])')
_LONGEST = 2048


class Matcher:
    """``label op value``; immutable, equal to another of the same parts."""

    __slots__ = ("_pattern", "label", "op", "value")

    def __init__(self, label: str, op: Op, value: str) -> None:
        """Raises ExpressionError if ``value`` has to be a regular expression and is none."""
        self.label = label
        self.op = op
        self.value = value
        self._pattern = Pattern.compile(value) if op in ("=~", "!~") else None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels fits."""
        value = labels.get(self.label, "")
        fits = value == self.value if self._pattern is None else self._pattern.fits(value)
        return fits is (self.op in ("=", "=~"))

    def __str__(self) -> str:
        label = self.label if _PLAIN_LABEL.fullmatch(self.label) else _quote(self.label)
        return f"{label}{self.op}{_quote(self.value)}"

    def __repr__(self) -> str:
        return f"Matcher({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matcher) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_matcher(text: str) -> Matcher:
    """Read one matcher. Raises ExpressionError with the column of the fault."""
    if len(text) > _LONGEST:
        raise ExpressionError(f"a matcher has at most {_LONGEST} characters")
    found = _MATCHER.match(text)
    if found is None:
        raise _fault(text)
    if found.end() < len(text):
        raise ExpressionError(f'"{text[found.end() :]}" after the matcher; write one matcher an item', column=found.end() + 1)
    label = _unquote(found["label"])
    if not label:
        raise ExpressionError("the label's name is empty", column=found.start("label") + 1)
    try:
        return Matcher(label, cast("Op", found["op"]), _unquote(found["value"]))
    except ExpressionError as error:
        raise ExpressionError(str(error), column=found.start("value") + 1) from error


def _fault(text: str) -> ExpressionError:
    head = _HEAD.match(text)
    example = 'a matcher is written as severity="critical" or severity=~"warning|critical"'
    if text.lstrip().startswith("{"):
        return ExpressionError("write one matcher an item, without braces", column=text.index("{") + 1)
    if head is None:
        return ExpressionError(example)
    if head["op"] is None:
        return ExpressionError(f"an operator (=, !=, =~, !~) is missing; {example}", column=head.end() + 1)
    return ExpressionError('the value is missing or not closed; the empty value is written as ""', column=head.end() + 1)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _unquote(text: str) -> str:
    r"""As Alertmanager does: a backslash before anything but ``\``, ``"`` and ``n`` stands for itself."""
    if not text.startswith('"'):
        return text
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text[1:-1])
