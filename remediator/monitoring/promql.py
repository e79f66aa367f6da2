"""The comparisons with a number in a PromQL condition, so that what is compared can be drawn beside its limit. Pure.

In: a query such as ``quantile(0.5, m{node="a"}) > 0.005``. Out: its left sides with their limits, in the order of the text. It looks at
brackets and quotes only; what it cannot make sense of it leaves out, and whether a left side is a query Prometheus says.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Comparison", "comparisons"]

_COMPARED = re.compile(r"(>=|<=|==|!=|>|<)\s*(?:bool\s+)?(-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.(\[])")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""", re.DOTALL)
_SET = re.compile(r"\b(?:and|or|unless)\b(?:\s+(?:on|ignoring)\s*\([^()]*\))?\s*$")
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
