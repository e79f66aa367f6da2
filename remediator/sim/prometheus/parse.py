"""PromQL as far as it is supported, read into a tree.

In comes the text; out comes an ``Expr``. What Prometheus would not parse, and what this subset leaves out (subqueries, ``@``, native
histograms, ...), is refused with ``QueryError``; nothing is ever answered by guessing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from remediator.sim.prometheus.functions import CALENDAR, EACH, OVER
from remediator.sim.prometheus.series import LabelMatcher
from remediator.units import parse_duration

__all__ = [
    "AGGREGATIONS",
    "Aggregate",
    "Binary",
    "Call",
    "Expr",
    "Matching",
    "Number",
    "QueryError",
    "Selector",
    "Text",
    "Unary",
    "kind_of",
    "parse",
]


class QueryError(Exception):
    """A query that cannot be answered; ``error_type`` is the API's."""

    def __init__(self, message: str, error_type: str = "bad_data") -> None:
        super().__init__(message)
        self.error_type = error_type


@dataclass(frozen=True)
class Number:
    """A scalar literal."""

    value: float


@dataclass(frozen=True)
class Text:
    """A string literal."""

    value: str


@dataclass(frozen=True)
class Selector:
    """An instant or, with ``window``, a range vector selector."""

    name: str
    matchers: tuple[LabelMatcher, ...]
    window: float | None = None
    offset: float = 0.0


@dataclass(frozen=True)
class Call:
    """A function."""

    name: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True)
class Aggregate:
    """``sum by (a) (x)`` and the like."""

    operator: str
    inner: Expr
    labels: tuple[str, ...] = ()
    without: bool = False
    parameter: Expr | None = None


@dataclass(frozen=True)
class Matching:
    """``on (...)`` or ``ignoring (...)``, and ``group_left (...)`` or ``group_right (...)``."""

    labels: tuple[str, ...] = ()
    on: bool = False
    many: str = ""
    """The side that may have several for one of the other: ``left``, ``right``, or neither."""
    brings: tuple[str, ...] = ()
    """Labels that the one gives to the many."""


@dataclass(frozen=True)
class Binary:
    """An operator between two expressions."""

    operator: str
    left: Expr
    right: Expr
    matching: Matching = Matching()
    returns_bool: bool = False


@dataclass(frozen=True)
class Unary:
    """A sign."""

    operator: str
    inner: Expr


Expr: TypeAlias = "Number | Text | Selector | Call | Aggregate | Binary | Unary"

AGGREGATIONS = ("sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "quantile", "topk", "bottomk")
_WITH_PARAMETER = ("quantile", "topk", "bottomk")
_OTHER_AGGREGATIONS = ("count_values", "limitk", "limit_ratio")
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "absent": ("vector",),
    "absent_over_time": ("matrix",),
    "time": (),
    "timestamp": ("vector",),
    "vector": ("scalar",),
    "scalar": ("vector",),
    "sort": ("vector",),
    "sort_desc": ("vector",),
    "round": ("vector", "scalar?"),
    "clamp": ("vector", "scalar", "scalar"),
    "clamp_min": ("vector", "scalar"),
    "clamp_max": ("vector", "scalar"),
    "histogram_quantile": ("scalar", "vector"),
    "quantile_over_time": ("scalar", "matrix"),
    "predict_linear": ("matrix", "scalar"),
    "label_replace": ("vector", "string", "string", "string", "string"),
    "label_join": ("vector", "string", "string", "string*"),
    **dict.fromkeys(OVER, ("matrix",)),
    **dict.fromkeys(EACH, ("vector",)),
    **dict.fromkeys(CALENDAR, ("vector?",)),
}
"""The kinds of each one's arguments; ``?``: may be left out, ``*``: as many as there are."""
_LEFT_OUT = (
    "holt_winters",
    "double_exponential_smoothing",
    "mad_over_time",
    "histogram_count",
    "histogram_sum",
    "histogram_fraction",
    "sort_by_label",
)
_PRECEDENCE = [("or",), ("and", "unless"), ("==", "!=", "<=", "<", ">=", ">"), ("+", "-"), ("*", "/", "%")]
COMPARISONS, SETS = _PRECEDENCE[2], ("or", "and", "unless")

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|0[xX][0-9a-fA-F]+)
    |(?P<duration>\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<op>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){}\[\],@:])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unquote(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]

    def escape(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise QueryError("parse error: unknown escape sequence")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", escape, text[1:-1])


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(f"unexpected character: {text[at]!r}", at)
            if match.lastgroup != "space":
                self.tokens.append((str(match.lastgroup), match[0], at))
            at = match.end()
        self.at = 0

    # --- tokens ------------------------------------------------------------------------------------------------------

    def _error(self, message: str, at: int | None = None) -> QueryError:
        if at is None:
            at = self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.text)
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        return QueryError(f'invalid parameter "query": {line}:{column}: parse error: {message}')

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else "end"

    @property
    def word(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        word = self.word
        self.at += 1
        return word

    def accept(self, *words: str) -> str:
        if self.kind in ("op", "word") and self.word in words:
            return self.next()
        return ""

    def expect(self, word: str, where: str) -> None:
        if not self.accept(word):
            raise self._error(f"unexpected {self._shown()} in {where}, expected {word!r}")

    def _shown(self) -> str:
        return f'"{self.word}"' if self.kind != "end" else "end of input"

    # --- grammar -----------------------------------------------------------------------------------------------------

    def parse(self) -> Expr:
        if not self.tokens:
            raise self._error("no expression found in input", 0)
        expr = self.binary(0)
        if self.kind != "end":
            raise self._error(f"unexpected {self._shown()}")
        return expr

    def binary(self, level: int) -> Expr:
        if level == len(_PRECEDENCE):
            return self.unary()
        left = self.binary(level + 1)
        while operator := self.accept(*_PRECEDENCE[level]):
            returns_bool = bool(self.accept("bool"))
            matching = self.matching()
            right = self.binary(level + 1)
            left = self.checked(Binary(operator, left, right, matching, returns_bool))
        return left

    def checked(self, expr: Binary) -> Binary:
        kinds = kind_of(expr.left), kind_of(expr.right)
        if any(kind not in ("vector", "scalar") for kind in kinds):
            raise self._error("binary expression must contain only scalar and instant vector types")
        if expr.operator in SETS and "scalar" in kinds:
            raise self._error(f'set operator "{expr.operator}" not allowed in binary scalar expression')
        if expr.returns_bool and expr.operator not in COMPARISONS:
            raise self._error("bool modifier can only be used on comparison operators")
        if expr.operator in COMPARISONS and kinds == ("scalar", "scalar") and not expr.returns_bool:
            raise self._error("comparisons between scalars must use BOOL modifier")
        if expr.matching.many and expr.operator in SETS:
            raise self._error(f'no grouping allowed for "{expr.operator}" operation')
        if expr.matching != Matching() and "scalar" in kinds:
            raise self._error("vector matching only allowed between instant vectors")
        return expr

    def matching(self) -> Matching:
        found = Matching()
        if keyword := self.accept("on", "ignoring"):
            found = Matching(self.label_list(), keyword == "on")
            if keyword := self.accept("group_left", "group_right"):
                brings = self.label_list() if self.word == "(" else ()
                found = Matching(found.labels, found.on, keyword.removeprefix("group_"), brings)
                if found.on and set(brings) & set(found.labels):
                    raise self._error(f'label "{min(set(brings) & set(found.labels))}" must not occur in ON and GROUP clause at once')
        return found

    def unary(self) -> Expr:
        if sign := self.accept("+", "-"):
            inner = self.unary()
            if kind_of(inner) not in ("vector", "scalar"):
                raise self._error("unary expression only allowed on expressions of type scalar or instant vector")
            return Number(-inner.value) if isinstance(inner, Number) and sign == "-" else Unary(sign, inner)
        return self.power()

    def power(self) -> Expr:
        left = self.modified(self.atom())
        if self.accept("^"):
            returns_bool, matching = bool(self.accept("bool")), self.matching()
            return self.checked(Binary("^", left, self.unary(), matching, returns_bool))
        return left

    def atom(self) -> Expr:
        if self.accept("("):
            inner = self.binary(0)
            self.expect(")", "parenthesised expression")
            return inner
        if self.kind == "number":
            text = self.next()
            return Number(float(int(text, 16)) if text[:2] in ("0x", "0X") else float(text))
        if self.kind == "string":
            return Text(_unquote(self.next()))
        if self.kind == "op" and self.word == "{":
            return self.selector("")
        if self.kind != "word":
            raise self._error(f"unexpected {self._shown()}")
        return self.named()

    def named(self) -> Expr:
        name = self.next()
        lowered = name.lower()
        if lowered in ("inf", "nan"):
            return Number(float(lowered))
        if lowered in (*AGGREGATIONS, *_OTHER_AGGREGATIONS) and self.word in ("(", "by", "without"):
            return self.aggregate(lowered)
        if self.kind == "op" and self.word == "(":
            return self.call(name)
        return self.selector(name)

    def aggregate(self, operator: str) -> Aggregate:
        if operator not in AGGREGATIONS:
            raise self._unsupported(operator)
        keyword, labels = self.grouping()
        arguments = self.arguments()
        if not keyword:
            keyword, labels = self.grouping()
        if len(arguments) != (2 if operator in _WITH_PARAMETER else 1):
            raise self._error("wrong number of arguments for aggregate expression provided")
        inner = arguments[-1]
        if kind_of(inner) != "vector":
            raise self._error(f"expected type instant vector in aggregation expression, got {_named_kind(inner)}")
        parameter = arguments[0] if operator in _WITH_PARAMETER else None
        if parameter is not None and kind_of(parameter) != "scalar":
            raise self._error(f"expected type scalar in aggregation parameter, got {_named_kind(parameter)}")
        return Aggregate(operator, inner, labels, keyword == "without", parameter)

    def grouping(self) -> tuple[str, tuple[str, ...]]:
        keyword = self.accept("by", "without")
        return keyword, self.label_list() if keyword else ()

    def label_list(self) -> tuple[str, ...]:
        self.expect("(", "grouping opts")
        labels = []
        while self.kind == "word":
            labels.append(self.next())
            if not self.accept(","):
                break
        self.expect(")", "grouping opts")
        return tuple(labels)

    def arguments(self) -> tuple[Expr, ...]:
        self.expect("(", "call")
        found: list[Expr] = []
        while self.word != ")":
            found.append(self.binary(0))
            if not self.accept(","):
                break
        self.expect(")", "call")
        return tuple(found)

    def call(self, name: str) -> Call:
        if name not in FUNCTIONS:
            if name in _LEFT_OUT:
                raise self._unsupported(name)
            raise self._error(f'unknown function with name "{name}"')
        wanted, found = FUNCTIONS[name], self.arguments()
        fewest, most = sum(kind[-1] not in "?*" for kind in wanted), math.inf if any(kind[-1] == "*" for kind in wanted) else len(wanted)
        if not fewest <= len(found) <= most:
            raise self._error(f'expected {fewest if len(found) < fewest else most} argument(s) in call to "{name}", got {len(found)}')
        for number, argument in enumerate(found):
            kind = wanted[min(number, len(wanted) - 1)].rstrip("?*")
            if kind_of(argument) != kind:
                raise self._error(f'expected type {_KIND_NAMES[kind]} in call to function "{name}", got {_named_kind(argument)}')
        return Call(name, found)

    def selector(self, name: str) -> Selector:
        matchers: list[LabelMatcher] = []
        if self.accept("{"):
            while self.word != "}":
                matchers.append(self.matcher())
                if not self.accept(","):
                    break
            self.expect("}", "label matching")
        if not name and all(m.fits("") for m in matchers):
            raise self._error("vector selector must contain at least one non-empty matcher")
        return Selector(name, tuple(matchers))

    def matcher(self) -> LabelMatcher:
        if self.kind != "word":
            raise self._error(f"unexpected {self._shown()} in label matching, expected identifier")
        label = self.next()
        operator = self.accept("=", "!=", "=~", "!~")
        if not operator:
            raise self._error(f"unexpected {self._shown()} in label matching, expected label matching operator")
        if self.kind != "string":
            raise self._error(f"unexpected {self._shown()} in label matching, expected string")
        value = _unquote(self.next())
        if operator.endswith("~"):
            try:
                re.compile(value)
            except re.error as error:
                raise self._error(f"error parsing regexp: {error}") from None
        return LabelMatcher(label, operator, value)

    def modified(self, expr: Expr) -> Expr:
        """``[5m]`` and ``offset 5m`` after a selector."""
        if self.accept("["):
            if not isinstance(expr, Selector):
                raise self._unsupported("subquery")
            window = self.duration("range")
            if self.word.startswith(":"):
                raise self._unsupported("subquery")
            self.expect("]", "range selector")
            expr = Selector(expr.name, expr.matchers, window)
        if self.accept("offset"):
            if not isinstance(expr, Selector):
                raise self._error("offset modifier must be preceded by an instant vector selector or range vector selector")
            expr = Selector(expr.name, expr.matchers, expr.window, self.duration("offset"))
        if self.word == "@":
            raise self._unsupported("@ modifier")
        return expr

    def duration(self, where: str) -> float:
        if self.kind != "duration":
            raise self._error(f"unexpected {self._shown()} in {where}, expected duration")
        try:
            return parse_duration(self.next()).total_seconds()
        except ValueError as error:
            raise self._error(str(error)) from None

    def _unsupported(self, what: str) -> QueryError:
        return self._error(f"the simulated Prometheus does not support {what}")


_KIND_NAMES = {"vector": "instant vector", "matrix": "range vector", "scalar": "scalar", "string": "string"}


def _named_kind(expr: Expr) -> str:
    return _KIND_NAMES[kind_of(expr)]


def kind_of(expr: Expr) -> str:
    """``scalar``, ``vector``, ``matrix`` or ``string``: what the expression evaluates to."""
    kind = "vector"
    if isinstance(expr, Number):
        kind = "scalar"
    elif isinstance(expr, Text):
        kind = "string"
    elif isinstance(expr, Selector) and expr.window is not None:
        kind = "matrix"
    elif isinstance(expr, Unary):
        kind = kind_of(expr.inner)
    elif (isinstance(expr, Call) and expr.name in ("time", "scalar")) or (
        isinstance(expr, Binary) and kind_of(expr.left) == kind_of(expr.right) == "scalar"
    ):
        kind = "scalar"
    return kind


def parse(text: str) -> Expr:
    """Read a query. Raises QueryError."""
    return _Parser(text).parse()
