"""Which labels the result of a PromQL expression can have. No parser: what cannot be told for sure counts as "any label".

In: an expression, and what recording rules stand for. Out: a set of names, or None for any. So a label that is said to be impossible is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Labels", "labels_of"]

Labels = frozenset[str] | None
"""None: any."""

_TEXT: Final = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`|#[^\n]*")
"""Strings and comments, whichever begins first."""
_NAMELESS: Final = re.compile(r"(?<![\w:])\{[^{}]*\}")
_MATCHERS: Final = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]")
_MADE: Final = re.compile(r"\b(?:label_replace|label_join)\b")
_AGGREGATION: Final = re.compile(
    r"\b(?:sum|min|max|avg|group|stddev|stdvar|count|quantile|count_values)\s*(?:(by|without)\s*\(([^()]*)\)\s*)?\(", re.IGNORECASE
)
_GROUPING: Final = re.compile(r"\s*(by|without)\s*\(([^()]*)\)", re.IGNORECASE)
_MATCHING: Final = re.compile(r"\b(?:on|ignoring|group_left|group_right)\s*\(([^()]*)\)", re.IGNORECASE)
_NAME: Final = re.compile(r"(?<![\w:.])[A-Za-z_:][\w:]*(?!\s*\(|[\w:])")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "group_left", "group_right", "atan2", "on", "ignoring"})


def labels_of(expression: str, recorded: Mapping[str, str], depth: int = 8) -> Labels:
    """The labels that a result may have. ``recorded``: expressions of recording rules by name; ``depth`` bounds rules upon rules."""
    text = _TEXT.sub(" ", expression)
    found = {string[0][1:-1] for string in _TEXT.finditer(expression)} if _MADE.search(text) else set()  # one of them is the label made
    text = _MATCHERS.sub(" ", _NAMELESS.sub(" __name__ ", text))
    while aggregation := _AGGREGATION.search(text):
        end = _closing(text, aggregation.end())
        kind, names, end = _grouping(aggregation, text, end)
        if kind.lower() == "without":
            return None
        found |= _split(names)
        text = text[: aggregation.start()] + " 1 " + text[end:]
    for matching in _MATCHING.finditer(text):
        found |= _split(matching[1])
    for name in _NAME.findall(_MATCHING.sub(" ", text)):
        if name.lower() in _WORDS:
            continue
        inner = labels_of(recorded[name], recorded, depth - 1) if name in recorded and depth else None
        if inner is None:
            return None
        found |= inner
    return frozenset(found)


def _grouping(aggregation: re.Match[str], text: str, end: int) -> tuple[str, str, int]:
    """``by (...)`` before or after the parentheses, and where the whole ends."""
    if aggregation[1]:
        return aggregation[1], aggregation[2], end
    after = _GROUPING.match(text, end)
    return (after[1], after[2], after.end()) if after else ("by", "", end)


def _closing(text: str, start: int) -> int:
    """Behind the parenthesis that closes the one before ``start``."""
    depth = 1
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if not depth:
            return index + 1
    return len(text)


def _split(names: str) -> set[str]:
    return {name.strip() for name in names.split(",") if name.strip()}
