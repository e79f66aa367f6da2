"""PromQL expressions evaluated at one moment over the stored series.

In come a tree, the series and a time; out comes a scalar, a string, a vector or a matrix. What Prometheus refuses at execution (two series
of one label set, many-to-many matching) is refused with ``QueryError`` of type ``execution``.
"""

from __future__ import annotations

import math
import re
import statistics
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from remediator.sim.prometheus.functions import EACH, OVER, Window, bucket_quantile, predicted, quantile
from remediator.sim.prometheus.parse import (
    COMPARISONS,
    SETS,
    Aggregate,
    Binary,
    Call,
    Expr,
    Matching,
    Number,
    QueryError,
    Selector,
    Text,
    Unary,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.sim.prometheus.series import Labels, SeriesStore

__all__ = ["Element", "Matrix", "Value", "Vector", "evaluate"]


class Element(NamedTuple):
    """One series of a result at the evaluation time."""

    name: str
    labels: Labels
    value: float
    at: float
    """When the sample behind it was taken, for ``timestamp``."""


_DUPLICATE = (
    "found duplicate series for the match group on the right hand-side of the operation; "
    "many-to-many matching not allowed: matching labels must be unique on one side"
)
_SEVERAL = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
_AMBIGUOUS = "multiple matches for labels: grouping labels must ensure unique matches"
Vector: TypeAlias = list[Element]
Matrix: TypeAlias = "list[tuple[str, Labels, list[tuple[float, float]]]]"
Value: TypeAlias = "float | str | Vector | Matrix"


def evaluate(expr: Expr, series: SeriesStore, at: float) -> Value:
    """The value of ``expr`` at ``at`` (seconds since 1970). Raises QueryError."""
    if isinstance(expr, Selector) and expr.window is not None:
        return _window(expr, series, at)
    if isinstance(expr, Text):
        return expr.value
    return _value(expr, series, float(at))


def _value(expr: Expr, series: SeriesStore, at: float) -> float | Vector:
    value: float | Vector = []
    if isinstance(expr, Number):
        value = expr.value
    elif isinstance(expr, Selector):
        value = [Element(*p[:2], p.value, p.at) for p in series.select(expr.name, expr.matchers, at - expr.offset)]
    elif isinstance(expr, Unary):
        value = _signed(expr.operator, _value(expr.inner, series, at))
    elif isinstance(expr, Call):
        value = _call(expr, series, at)
    elif isinstance(expr, Aggregate):
        value = _aggregate(expr, series, at)
    elif isinstance(expr, Binary):
        value = _binary(expr, _value(expr.left, series, at), _value(expr.right, series, at))
    return value


def _signed(operator: str, value: float | Vector) -> float | Vector:
    if operator == "+":
        return value
    return -value if isinstance(value, float) else _unique([_plain(e, -e.value) for e in value])


def _vector(expr: Expr, series: SeriesStore, at: float) -> Vector:
    value = _value(expr, series, at)
    return value if isinstance(value, list) else []


def _scalar(expr: Expr, series: SeriesStore, at: float) -> float:
    value = _value(expr, series, at)
    return value if isinstance(value, float) else math.nan


def _window(selector: Expr, series: SeriesStore, at: float) -> Matrix:
    if not isinstance(selector, Selector) or selector.window is None:
        return []
    end = at - selector.offset
    return series.window(selector.name, selector.matchers, end - selector.window, end)


def _plain(element: Element, value: float) -> Element:
    """The element without its name, which an operation takes away."""
    return Element("", element.labels, value, element.at)


def _unique(vector: Vector) -> Vector:
    seen = {(e.name, e.labels) for e in vector}
    if len(seen) != len(vector):
        raise QueryError("vector cannot contain metrics with the same labelset", "execution")
    return vector


# --- functions -------------------------------------------------------------------------------------------------------


def _call(expr: Call, series: SeriesStore, at: float) -> float | Vector:
    name, arguments = expr.name, expr.arguments
    if name == "time":
        return at
    if name == "vector":
        return [Element("", (), _scalar(arguments[0], series, at), at)]
    if name in OVER or name in ("absent_over_time", "quantile_over_time", "predict_linear"):
        return _over(expr, series, at)
    if name == "histogram_quantile":
        return _histograms(_scalar(arguments[0], series, at), _vector(arguments[1], series, at), at)
    return _of_vector(expr, _vector(arguments[0], series, at) if arguments else [Element("", (), at, at)], series, at)


def _of_vector(expr: Call, vector: Vector, series: SeriesStore, at: float) -> float | Vector:
    """A function whose first argument is an instant vector."""
    name, arguments = expr.name, expr.arguments
    match name:
        case "absent":
            return _absent(arguments[0], vector, at)
        case "scalar":
            return vector[0].value if len(vector) == 1 else math.nan
        case "sort" | "sort_desc":
            return _sorted(vector, descending=name == "sort_desc")
        case "label_replace" | "label_join":
            return _unique(_relabelled(name, vector, [a.value if isinstance(a, Text) else "" for a in arguments[1:]]))
        case _:
            return _of_each(name, vector, [_scalar(argument, series, at) for argument in arguments[1:]])


def _of_each(name: str, vector: Vector, limits: list[float]) -> Vector:
    nothing = name == "clamp" and limits[0] > limits[1]
    return [] if nothing else _unique([_plain(e, _each(name, e, limits)) for e in vector])


def _over(expr: Call, series: SeriesStore, at: float) -> Vector:
    """A function of windows; a series of which it says nothing is left out."""
    name = expr.name
    selector = next(argument for argument in expr.arguments if isinstance(argument, Selector))
    found = _window(selector, series, at)
    if name == "absent_over_time":
        return _absent(selector, found, at)
    end = at - selector.offset
    start = end - (selector.window or 0.0)
    of = OVER.get(name)
    if name == "quantile_over_time":
        share = _scalar(expr.arguments[0], series, at)
        of = lambda window: quantile(share, window.values)  # noqa: E731 - one of the table, with its parameter
    elif name == "predict_linear":
        ahead = _scalar(expr.arguments[1], series, at)
        of = lambda window: predicted(window, ahead, at)  # noqa: E731 - as above
    assert of is not None  # noqa: S101 - the parser knows no others
    values = [(metric if name == "last_over_time" else "", labels, of(Window(samples, start, end))) for metric, labels, samples in found]
    return _unique([Element(metric, labels, value, at) for metric, labels, value in values if value is not None])


def _each(name: str, element: Element, limits: list[float]) -> float:
    value = element.value
    match name:
        case "timestamp":
            return element.at
        case "clamp_min":
            return max(value, limits[0])
        case "clamp_max":
            return min(value, limits[0])
        case "clamp":
            return max(limits[0], min(limits[1], value))
        case "round":
            inverse = 1 / (limits[0] if limits else 1.0)
            return math.floor(value * inverse + 0.5) / inverse if math.isfinite(value) else value
        case _:
            return float(EACH[name](value))


def _sorted(vector: Vector, *, descending: bool) -> Vector:
    """By value, what is none last."""
    some = [e for e in vector if not math.isnan(e.value)]
    return [*sorted(some, key=lambda e: e.value, reverse=descending), *(e for e in vector if math.isnan(e.value))]


def _histograms(share: float, vector: Vector, at: float) -> Vector:
    """A quantile of each set of buckets, which are what differs by ``le`` alone; what has none is left out."""
    buckets: dict[Labels, dict[float, float]] = {}
    for element in vector:
        try:
            bound = float(dict(element.labels).get("le", ""))
        except ValueError:
            continue
        of = buckets.setdefault(tuple(pair for pair in element.labels if pair[0] != "le"), {})
        of[bound] = of.get(bound, 0.0) + element.value
    return [Element("", labels, bucket_quantile(share, found), at) for labels, found in buckets.items()]


def _relabelled(name: str, vector: Vector, words: list[str]) -> Vector:
    target = words[0]
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", target):
        raise QueryError(f"invalid destination label name in {name}(): {target}", "execution")
    found = []
    for element in vector:
        labels = {"__name__": element.name, **dict(element.labels)}
        if name == "label_join":
            value: str | None = words[1].join(labels.get(source, "") for source in words[2:])
        else:
            value = _replaced(labels.get(words[2], ""), words[3], words[1])
        if value is not None:
            labels[target] = value
        rest = tuple(sorted((k, v) for k, v in labels.items() if v and k != "__name__"))
        found.append(Element(labels["__name__"], rest, element.value, element.at))
    return found


def _replaced(value: str, pattern: str, template: str) -> str | None:
    """``template`` with the groups of ``pattern`` in it as Go expands them (``$1``, ``${1}``, ``$name``), if that is all of ``value``."""
    try:
        match = re.fullmatch(pattern, value, re.DOTALL)
    except re.error:
        raise QueryError(f"invalid regular expression in label_replace(): {pattern}", "execution") from None
    if match is None:
        return None
    groups: dict[str, str | None] = {**{str(n): g for n, g in enumerate((match[0], *match.groups()))}, **match.groupdict()}
    return re.sub(r"\$(?:(\$)|(\w+)|\{(\w+)\})", lambda m: m[1] or groups.get(m[2] or m[3]) or "", template)


def _absent(argument: Expr, found: Vector | Matrix, at: float) -> Vector:
    if found:
        return []
    labels: dict[str, str] = {}
    if isinstance(argument, Selector):
        names = [m.label for m in argument.matchers]
        equal = (m for m in argument.matchers if m.operator == "=" and m.label != "__name__" and names.count(m.label) == 1)
        labels = {m.label: m.value for m in equal if m.value}
    return [Element("", tuple(sorted(labels.items())), 1.0, at)]


# --- aggregation -----------------------------------------------------------------------------------------------------

_AGGREGATE: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "min": lambda vs: min((v for v in vs if not math.isnan(v)), default=math.nan),
    "max": lambda vs: max((v for v in vs if not math.isnan(v)), default=math.nan),
    "avg": lambda vs: math.fsum(vs) / len(vs),
    "count": lambda vs: float(len(vs)),
    "group": lambda _vs: 1.0,
    "stddev": statistics.pstdev,
    "stdvar": statistics.pvariance,
}


def _aggregate(expr: Aggregate, series: SeriesStore, at: float) -> Vector:
    groups: dict[Labels, Vector] = {}
    for element in _vector(expr.inner, series, at):
        groups.setdefault(_group_key(element.labels, expr), []).append(element)
    parameter = math.nan if expr.parameter is None else _scalar(expr.parameter, series, at)
    if expr.operator in ("topk", "bottomk"):
        most = 0 if math.isnan(parameter) else max(0, int(parameter))
        return [e for group in groups.values() for e in _sorted(group, descending=expr.operator == "topk")[:most]]
    of = partial(quantile, parameter) if expr.operator == "quantile" else _AGGREGATE[expr.operator]
    return [Element("", labels, float(of([e.value for e in group])), at) for labels, group in groups.items()]


def _group_key(labels: Labels, expr: Aggregate) -> Labels:
    return tuple((k, v) for k, v in labels if (k in expr.labels) != expr.without)


# --- operators -------------------------------------------------------------------------------------------------------


def _binary(expr: Binary, left: float | Vector, right: float | Vector) -> float | Vector:
    if isinstance(left, float) and isinstance(right, float):
        return _compute(expr.operator, left, right)
    if isinstance(left, list) and isinstance(right, list):
        if expr.operator in SETS:
            return _set(expr, left, right)
        return _matched(expr, left, right)
    if isinstance(left, list) and isinstance(right, float):
        return _with_scalar(expr, left, right, swapped=False)
    if isinstance(right, list) and isinstance(left, float):
        return _with_scalar(expr, right, left, swapped=True)
    raise QueryError("binary expression must contain only scalar and instant vector types", "execution")


def _with_scalar(expr: Binary, vector: Vector, scalar: float, *, swapped: bool) -> Vector:
    result = []
    for element in vector:
        operands = (scalar, element.value) if swapped else (element.value, scalar)
        value = _compute(expr.operator, *operands)
        if expr.operator in COMPARISONS and not expr.returns_bool:
            if value:
                result.append(element)
        else:
            result.append(_plain(element, value))
    return _unique(result)


def _signature(labels: Labels, matching: Matching) -> Labels:
    return tuple((k, v) for k, v in labels if (k in matching.labels) == matching.on)


def _matched(expr: Binary, left: Vector, right: Vector) -> Vector:
    """Every element of the one side with its partner of the other; with ``group_left`` or ``group_right`` several may have the same."""
    matching, filters = expr.matching, expr.operator in COMPARISONS and not expr.returns_bool
    many, ones = (right, left) if matching.many == "right" else (left, right)
    partners: dict[Labels, Element] = {}
    for element in ones:
        signature = _signature(element.labels, matching)
        if signature in partners:
            raise QueryError(_DUPLICATE, "execution")
        partners[signature] = element
    result: Vector = []
    used: set[tuple[str, Labels]] = set()
    for element in many:
        signature = _signature(element.labels, matching)
        partner = partners.get(signature)
        if partner is None:
            continue
        first, second = (partner, element) if matching.many == "right" else (element, partner)
        value = _compute(expr.operator, first.value, second.value)
        if filters and not value:
            continue
        labels = _brought(element, partner, matching) if matching.many else signature
        name = element.name if filters and (matching.many or not matching.on) else ""
        if (name if matching.many else "", labels) in used:
            raise QueryError(_AMBIGUOUS if matching.many else _SEVERAL, "execution")
        used.add((name if matching.many else "", labels))
        result.append(Element(name, labels, first.value if filters else value, element.at))
    return result


def _brought(element: Element, one: Element, matching: Matching) -> Labels:
    """The labels of one of many, with those that its partner gives it."""
    theirs = dict(one.labels)
    return tuple(
        sorted({**dict(element.labels), **{k: theirs.get(k, "") for k in matching.brings}}.items() - {(k, "") for k in matching.brings})
    )


def _set(expr: Binary, left: Vector, right: Vector) -> Vector:
    there = {_signature(e.labels, expr.matching) for e in right}
    if expr.operator == "and":
        return [e for e in left if _signature(e.labels, expr.matching) in there]
    if expr.operator == "unless":
        return [e for e in left if _signature(e.labels, expr.matching) not in there]
    here = {_signature(e.labels, expr.matching) for e in left}
    return _unique([*left, *(e for e in right if _signature(e.labels, expr.matching) not in here)])


def _compute(operator: str, left: float, right: float) -> float:
    if operator in COMPARISONS:
        return float(_COMPARE[operator](left, right))
    return _ARITHMETIC[operator](left, right)


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}


def _divide(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1, right)


def _power(left: float, right: float) -> float:
    try:
        return float(math.pow(left, right))
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": lambda a, b: math.fmod(a, b) if b != 0 and math.isfinite(a) else math.nan,
    "^": _power,
}
