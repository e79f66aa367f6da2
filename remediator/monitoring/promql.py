"""What can be told of a PromQL condition by its text: what it compares with a number (to be drawn), what it takes to hold. Pure.

In: a query such as ``quantile(0.5, m{node="a"}) > 0.005``. Out: its left sides with their limits, or the names of its metrics. It looks at
brackets and quotes only; what it cannot make sense of it leaves out, and whether a left side is a query Prometheus says.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Comparison", "comparisons", "needed"]

_COMPARED = re.compile(r"(>=|<=|==|!=|>|<)\s*(?:bool\s+)?(-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.(\[])")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""", re.DOTALL)
_SET = re.compile(r"\b(?:and|or|unless)\b(?:\s+(?:on|ignoring)\s*\([^()]*\))?\s*$")
_ASIDE = re.compile(
    r"\{[^{}]*\}|\[[^\[\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)|\b(?:offset\s+-?|@\s*)[\w.]+", re.IGNORECASE
)
"""Labels, ranges, groupings, offsets: no metric stands there."""
_NAME = re.compile(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()")
_WORDS = frozenset({"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan", "atan2"})
_CLOSING = {")": "(", "]": "[", "}": "{"}


class Comparison(NamedTuple):
    """``expression`` is compared with ``limit``."""

    expression: str
    operator: str
    limit: float


def comparisons(query: str) -> list[Comparison]:
    """Every comparison with a number; those with 0, which mostly ask whether there is anything, come last."""
    plain = _QUOTED.sub(lambda found: '"' + "x" * (len(found[0]) - 2) + '"', query)  # of the same length, without brackets
    found = []
    for seen in _COMPARED.finditer(plain):
        start = _begin(plain, seen.start())
        expression = query[start : seen.start()].strip()
        if expression and "{" not in plain[start : seen.start()].rpartition("}")[2]:
            found.append(Comparison(expression, seen[1], float(seen[2])))
    return sorted(found, key=lambda one: one.limit == 0)


def needed(query: str) -> tuple[str, ...]:
    """The metrics of which ``query`` needs at least one to hold: those before its first ``unless``, behind which none may be good news."""
    plain = _ASIDE.sub(" ", _QUOTED.sub('""', query))
    before = re.split(r"\bunless\b", plain, maxsplit=1)[0]
    return tuple(dict.fromkeys(name for name in _NAME.findall(before) if name.lower() not in _WORDS))


def _begin(text: str, end: int) -> int:
    """Where the operand that ends at ``end`` begins: after the bracket around it, a comma, or a set operator before it."""
    open_: list[str] = []
    for at in range(end - 1, -1, -1):
        char = text[at]
        if char in _CLOSING:
            open_.append(_CLOSING[char])
        elif char in "([{":
            if not open_ or open_.pop() != char:
                return at + 1
        elif not open_ and (char == "," or (char.isspace() and _SET.search(text[: at + 1]))):
            return at + 1
    return 0
