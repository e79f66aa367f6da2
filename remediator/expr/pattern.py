"""Regular expressions as Alertmanager has them. CEL's ``matches`` is RE2, so no pattern can take more than linear time."""

from __future__ import annotations

import json
import re

from remediator.errors import ExpressionError, Unreadable
from remediator.expr.expression import Expression

__all__ = ["Pattern"]


class Pattern:
    """An RE2 regular expression that must fit a whole text, as in Alertmanager: linear time, no back-references, no lookaround."""

    _LITERALS = re.compile(r"[\w :/-]*(?:\|[\w :/-]*)*", re.ASCII)

    def __init__(self, source: str, program: Expression, literals: frozenset[str] | None) -> None:
        self.source = source
        self._program = program
        self._literals = literals

    @classmethod
    def compile(cls, source: str) -> Pattern:
        """Raises ExpressionError if RE2 does not accept ``source``."""
        literals = frozenset(source.split("|")) if cls._LITERALS.fullmatch(source) else None
        _matching(source)  # alone first: "a)|(b" is only whole between the parentheses
        return cls(source, _matching(f"^(?:{source})$"), literals)

    def fits(self, text: str) -> bool:
        """Whether the pattern fits the whole of ``text``. It always answers: a NUL or a lone surrogate counts as some other character."""
        if self._literals is not None:
            return text in self._literals
        return bool(self._program.evaluate({"text": text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")}))


def _matching(pattern: str) -> Expression:
    try:
        program = Expression.compile(f"text.matches({json.dumps(pattern, ensure_ascii=False)})", variables={"text": "string"}, want="bool")
        program.evaluate({"text": ""})
    except Unreadable as error:
        raise ExpressionError(f"not a regular expression: {error.detail.rpartition('expression: ')[2]}") from error
    except ExpressionError as error:
        raise ExpressionError(f"not a regular expression: {error}") from error
    return program
