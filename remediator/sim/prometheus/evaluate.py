"""PromQL expressions evaluated at one moment over the stored series.

In come a tree, the series and a time; out comes a scalar, a string, a vector or a matrix. What Prometheus refuses at execution (two series
of one label set, many-to-many matching) is refused with ``QueryError`` of type ``execution``.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

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

_EACH: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "ceil": lambda v: float(math.ceil(v)) if math.isfinite(v) else v,
    "floor": lambda v: float(math.floor(v)) if math.isfinite(v) else v,
}
_OVER: dict[str, Callable[[list[float]], float]] = {
    "min_over_time": min,
    "max_over_time": max,
    "avg_over_time": lambda vs: math.fsum(vs) / len(vs),
    "sum_over_time": math.fsum,
    "count_over_time": lambda vs: float(len(vs)),
    "last_over_time": lambda vs: vs[-1],
    "present_over_time": lambda _vs: 1.0,
    "changes": lambda vs: float(sum(a != b for a, b in pairwise(vs))),
}


def _call(expr: Call, series: SeriesStore, at: float) -> float | Vector:
    name, argument = expr.name, expr.arguments[0] if expr.arguments else None
    if argument is None:
        return at
    if name == "vector":
        return [Element("", (), _scalar(argument, series, at), at)]
    if name.endswith("_over_time") or name == "changes":
        return _over(name, argument, _window(argument, series, at), at)
    vector = _vector(argument, series, at)
    if name == "absent":
        return _absent(argument, vector, at)
    if name == "scalar":
        return vector[0].value if len(vector) == 1 else math.nan
    limit = _scalar(expr.arguments[-1], series, at) if len(expr.arguments) > 1 else 0.0
    return _unique([_plain(e, _each(name, e, limit)) for e in vector])


def _over(name: str, argument: Expr, found: Matrix, at: float) -> Vector:
    if name == "absent_over_time":
        return _absent(argument, found, at)
    keeps = name == "last_over_time"
    return _unique([Element(metric if keeps else "", labels, _OVER[name]([v for _, v in vs]), at) for metric, labels, vs in found])


def _each(name: str, element: Element, limit: float) -> float:
    if name == "timestamp":
        return element.at
    if name in _EACH:
        return float(_EACH[name](element.value))
    return max(element.value, limit) if name == "clamp_min" else min(element.value, limit)


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
}


def _aggregate(expr: Aggregate, series: SeriesStore, at: float) -> Vector:
    groups: dict[Labels, list[float]] = {}
    for element in _vector(expr.inner, series, at):
        groups.setdefault(_group_key(element.labels, expr), []).append(element.value)
    if expr.parameter is not None:
        share = _scalar(expr.parameter, series, at)
        return [Element("", labels, _quantile(share, values), at) for labels, values in groups.items()]
    return [Element("", labels, float(_AGGREGATE[expr.operator](values)), at) for labels, values in groups.items()]


def _group_key(labels: Labels, expr: Aggregate) -> Labels:
    return tuple((k, v) for k, v in labels if (k in expr.labels) != expr.without)


def _quantile(share: float, values: list[float]) -> float:
    if math.isnan(share) or not values:
        return math.nan
    if share < 0 or share > 1:
        return math.copysign(math.inf, share - 0.5)
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low, high = math.floor(rank), min(len(ordered) - 1, math.floor(rank) + 1)
    weight = rank - low
    return ordered[low] * (1 - weight) + ordered[high] * weight


# --- operators -------------------------------------------------------------------------------------------------------


def _binary(expr: Binary, left: float | Vector, right: float | Vector) -> float | Vector:
    if isinstance(left, float) and isinstance(right, float):
        return _compute(expr.operator, left, right)
    if isinstance(left, list) and isinstance(right, list):
        if expr.operator in SETS:
            return _set(expr, left, right)
        return _one_to_one(expr, left, right)
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


def _one_to_one(expr: Binary, left: Vector, right: Vector) -> Vector:
    partners: dict[Labels, Element] = {}
    for element in right:
        signature = _signature(element.labels, expr.matching)
        if signature in partners:
            raise QueryError(_DUPLICATE, "execution")
        partners[signature] = element
    result, used = [], set()
    for element in left:
        signature = _signature(element.labels, expr.matching)
        partner = partners.get(signature)
        if partner is None:
            continue
        value = _compute(expr.operator, element.value, partner.value)
        filters = expr.operator in COMPARISONS and not expr.returns_bool
        if filters and not value:
            continue
        if signature in used:
            raise QueryError("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)", "execution")
        used.add(signature)
        name = element.name if filters and not expr.matching.on else ""
        result.append(Element(name, signature, element.value if filters else value, element.at))
    return result


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
